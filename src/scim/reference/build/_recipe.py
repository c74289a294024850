"""Recipe: how data are read, by columns, layers and labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..._validate import check_key, get_adata, is_unlabeled
from ..._version import scim_version
from ...encoder import Encoder
from ...labels import LandmarkKind
from ...ontology import CellOntology
from ..store import CELL_ID, FIXED_COLUMNS, LABEL, STUDY, TERM_ID, as_text

if TYPE_CHECKING:
    from anndata import AnnData

#: Columns of obs that are kept by default if they exist. They hold names: numbers in them become text.
DEFAULT_COLUMNS = ("donor", "sample", "assay", "tissue", "disease", "batch")


@dataclass(frozen=True)
class Recipe:
    """How labelled data of a reference are read: columns of ``obs``, where values and genes are, and the ontology.

    ``unlabeled_category`` is a label that means "no label". ``landmarks`` are as in :meth:`scim.Reference.build`.
    ``taken`` are names of known studies: data without a name get other names.
    """

    labels_key: str
    study_key: str | None
    obs_columns: Sequence[str] | None
    layer: str | None
    gene_column: str | None
    mod: str | None
    ontology: CellOntology
    unlabeled_category: str | None = None
    landmarks: LandmarkKind = "cells"
    taken: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if isinstance(self.obs_columns, str):
            raise TypeError(
                f"obs_columns must be a list of columns, got {self.obs_columns!r}. Write [{self.obs_columns!r}]."
            )
        for column in self.obs_columns or ():
            if column in FIXED_COLUMNS and column not in (self.labels_key, self.study_key):
                raise ValueError(
                    f"obs_columns holds {column!r}, a column that every reference has ("
                    f"{', '.join(FIXED_COLUMNS)}). Rename the column of obs."
                )

    @classmethod
    def following(
        cls,
        manifest: Mapping[str, Any],
        labels_key: str | None,
        study_key: str | None,
        obs_columns: Sequence[str] | None,
        layer: str | None,
        gene_column: str | None,
        mod: str | None,
        ontology: CellOntology | None,
    ) -> Recipe:
        """Make the recipe of cells to add. The manifest gives the values that are None. Refuse another ontology."""
        before, version = manifest["source"], manifest["ontology_version"]
        known = CellOntology.bundled() if ontology is None else ontology
        # Any ontology fits a flat reference, which has no terms.
        if version not in ("flat", known.version):
            raise ValueError(
                f"The reference was built with version {version!r} of its ontology, not with {known.version!r}. "
                "Give the ontology of the reference with ontology=."
            )
        return cls(
            labels_key=before["labels_key"] if labels_key is None else labels_key,
            study_key=study_key,
            obs_columns=before["obs_columns"] if obs_columns is None else obs_columns,
            layer=layer,
            gene_column=gene_column,
            mod=mod,
            ontology=known,
            unlabeled_category=before.get("unlabeled_category"),
            taken=frozenset(manifest["studies"]),
            landmarks=before.get("landmarks", "cells"),
        )

    def plan(self, encoder: Encoder) -> dict[str, Any]:
        """Return everything that vectors and metadata depend on, besides the data."""
        fields = {name: value for name, value in vars(self).items() if name not in ("ontology", "taken")}
        ontology = f"{self.ontology.version} of {self.ontology.source}"
        return {**fields, "ontology": ontology, "encoder": encoder.id, "scim": scim_version()}

    def read_part(self, part: Any) -> tuple[AnnData, pd.DataFrame]:
        """Check a part, and return its data and the columns of ``obs`` that are read."""
        adata = get_adata(part, mod=self.mod)
        obs = adata.obs
        if adata is not part:  # a MuData has its own columns
            whole = part.obs.reindex(obs.index)
            obs = obs.join(whole[[column for column in whole if column not in obs]])
        self._check_obs(obs)
        return adata, self._used(obs)

    def labels(self, obs: pd.DataFrame) -> list[str]:
        """List the labels of a part as they are, without those that mean "no label"."""
        labels = _text(obs[self.labels_key].drop_duplicates()).str.strip()
        return list(labels[~is_unlabeled(labels, self.unlabeled_category)].drop_duplicates())

    def _used(self, obs: pd.DataFrame) -> pd.DataFrame:
        """Select the columns that are read."""
        chosen = DEFAULT_COLUMNS if self.obs_columns is None else self.obs_columns
        names = dict.fromkeys([self.labels_key, self.study_key, *map(str, chosen)])
        return obs[[name for name in names if name is not None and name in obs]]

    def _check_obs(self, obs: pd.DataFrame) -> None:
        check_key(obs, self.labels_key, argument="labels_key", where="adata.obs")
        for column in self.obs_columns or ():
            check_key(obs, column, argument="obs_columns", where="adata.obs")
        if self.study_key is not None:
            check_key(obs, self.study_key, argument="study_key", where="adata.obs")
            if missing := int(obs[self.study_key].isna().sum()):
                raise ValueError(
                    f"{missing} cells have no study in obs[{self.study_key!r}]. Give them a study, or leave them out."
                )

    def check_kinds(self, obs: pd.DataFrame, name: str, there: dict[str, str]) -> dict[str, str]:
        """Return the kind of each column after one more part. Refuse a column that holds another kind than before.

        Kinds are those of :func:`~scim.reference.store._columns.column_kinds`. ``name`` is the name of the part, and
        ``there`` has the kinds in the parts before.
        """
        kinds = dict(there)
        for column in self._kept(obs):
            values = obs[column]
            if values.isna().all():
                continue
            kind = _kind(values) if column not in DEFAULT_COLUMNS else "text"
            if getattr(values.dtype, "kind", "") == "u" and kind == "numbers" and values.max() > 2**63 - 1:
                raise ValueError(
                    f"adata.obs[{column!r}] of {name!r} holds {values.max()}, too large for a whole number of 64 bits. "
                    f"Keep it as text: adata.obs[{column!r}] = adata.obs[{column!r}].astype(str)."
                )
            if kinds.setdefault(column, kind) != kind:
                before, place = kinds[column], f"adata.obs[{column!r}]"
                remedy = {
                    "text": f"{place} = {place}.astype(str)",
                    "numbers": f"{place} = pd.to_numeric({place})",
                    "True and False": f"{place} = {place}.astype(bool)",
                }[before]
                raise ValueError(
                    f"obs[{column!r}] of {name!r} holds {kind}, but that of the cells before holds {before}: a "
                    f"column cannot have both. Write {remedy}, rename it, or keep other columns with obs_columns=."
                )
        return kinds

    def _kept(self, obs: pd.DataFrame) -> list[str]:
        """Return the columns that are kept as metadata."""
        chosen = DEFAULT_COLUMNS if self.obs_columns is None else self.obs_columns
        return [column for column in dict.fromkeys(map(str, chosen)) if column in obs and column not in FIXED_COLUMNS]

    def cells(self, obs: pd.DataFrame, name: str) -> pd.DataFrame:
        """Return the metadata of all cells of one part."""
        return self.describer(obs, name)(slice(None))

    def describer(self, obs: pd.DataFrame, name: str) -> Callable[[slice], pd.DataFrame]:
        """Return a function that describes cells of one part. A column has one type in all cells of the part."""
        kept = self._kept(obs)
        plain = {column for column in kept if column not in DEFAULT_COLUMNS and _kind(obs[column]) != "text"}
        resolved: dict[str, tuple[str, str]] = {}

        def resolve(label: str) -> tuple[str, str]:
            if label not in resolved:
                term = self.ontology.resolve(label)
                resolved[label] = (self.ontology.name(term) if term else label, term or label)
            return resolved[label]

        def describe(rows: slice) -> pd.DataFrame:
            part = obs.iloc[rows]
            labels = _text(part[self.labels_key]).str.strip()
            labels = labels.where(~is_unlabeled(labels, self.unlabeled_category), None)
            pairs = {label: resolve(label) for label in labels.dropna().unique()}
            own = _text(part[self.study_key]) if self.study_key else pd.Series(np.full(len(part), name, object))
            cells = {
                CELL_ID: np.asarray(part.index, dtype=object).astype(str).astype(object),
                LABEL: labels.map({label: pair[0] for label, pair in pairs.items()}).to_numpy(object),
                TERM_ID: labels.map({label: pair[1] for label, pair in pairs.items()}).to_numpy(object),
                STUDY: own.to_numpy(object),
            }
            for column in kept:
                values = part[column]
                cells[column] = values.array if column in plain else _text(values).to_numpy(object)
            return pd.DataFrame(cells)

        return describe


def _kind(values: pd.Series) -> str:
    """Return the kind of a column, as :func:`~scim.reference.store._columns.column_kinds` does."""
    return {"b": "True and False"}.get(values.dtype.kind, "numbers" if values.dtype.kind in "iuf" else "text")


def _text(values: pd.Series) -> pd.Series:
    """Convert values to text, and missing values to None."""
    if values.dtype.kind == "f" and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")  # 1, not 1.0, in a column with missing values
    plain = values.astype(object)
    return pd.Series(
        [None if missing else as_text(x) for x, missing in zip(plain, plain.isna(), strict=True)], dtype=object
    )
