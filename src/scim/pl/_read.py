"""Read what a verb wrote, or say which verb to call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _keys
from .._validate import check_key, did_you_mean, get_adata, is_unlabeled

if TYPE_CHECKING:
    from anndata import AnnData

    from ..ontology import CellOntology

_ANNOTATE = "scim.tl.annotate"


def cells_of(adata: AnnData | Any, mod: str | None) -> AnnData:
    """Return the AnnData in ``adata``, see :func:`scim._validate.get_adata`; it needs cells, but no genes."""
    data = get_adata(adata, mod=mod, allow_empty=True)
    if not data.n_obs:
        raise ValueError("adata has no cells: there is nothing to draw.")
    return data


def written_column(data: AnnData, name: str, *, verb: str = _ANNOTATE) -> pd.Series:
    """Read a column of ``obs`` that a verb writes.

    Raises
    ------
    KeyError
        The column is not there; the message names the verb.
    """
    if name not in data.obs:
        raise KeyError(f"adata.obs has no {name!r}. Run {verb} first. {did_you_mean(name, data.obs)}")
    return data.obs[name]


def labels_of(data: AnnData, column: str) -> np.ndarray:
    """Read labels as text, (n_cells,); cells without a label are ``"unassigned"``."""
    values = data.obs[column]
    names = values.astype(object).where(~is_unlabeled(values), _keys.UNASSIGNED)
    return names.astype(str).to_numpy(dtype=object)


def given_column(data: AnnData, name: str, *, argument: str) -> np.ndarray:
    """Read a column of ``obs`` that the user names, as labels, see :func:`labels_of`."""
    check_key(data.obs, name, argument=argument, where="adata.obs")
    if pd.api.types.is_float_dtype(data.obs[name].dtype):
        raise ValueError(f"{argument}={name!r} holds numbers, but must hold labels. Choose another column of obs.")
    return labels_of(data, name)


def as_numbers(column: pd.Series) -> np.ndarray:
    """Return numbers as float64 (n_cells,)."""
    return column.to_numpy(dtype=np.float64)


def record(data: AnnData, key: str) -> Mapping[str, Any]:
    """Read the record of :func:`scim.tl.annotate`; empty if there is none."""
    entry = data.uns.get(key, {})
    found = entry.get("annotate", {}) if isinstance(entry, Mapping) else {}
    return found if isinstance(found, Mapping) else {}


def names_of_terms(labels: np.ndarray, ontology: CellOntology) -> dict[str, str]:
    """Find the names of labels that may be ids or synonyms: label -> name of its term, or the label."""
    found = {}
    for label in dict.fromkeys(map(str, labels)):
        term = ontology.resolve(label)
        found[label] = label if term is None else ontology.name(term)
    return found
