"""Fields of registered data: values, studies, and labels, which may be missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.data.fields import CategoricalObsField, LayerField

from .._validate import check_key, did_you_mean, is_unlabeled
from .._warn import warn


class LabelField(CategoricalObsField):
    """Labels of cells in a column of ``obs`` as codes; -1 for a cell without a label.

    Missing values, those in ``scim._validate.NO_LABEL`` and ``unlabeled_category`` mean "no label".
    """

    UNLABELED = "unlabeled_category"

    def __init__(self, labels_key: str, unlabeled_category: str | None) -> None:
        super().__init__(REGISTRY_KEYS.LABELS_KEY, labels_key)
        self._unlabeled = unlabeled_category

    def register_field(self, adata: AnnData) -> dict[str, Any]:
        """Write the codes to ``obs`` and return the names of the categories."""
        self.validate_field(adata)
        names = self._names(adata)
        mapping = np.array(sorted(names.dropna().unique()), dtype=object)
        return self._write(adata, names, mapping)

    def transfer_field(self, state_registry: dict[str, Any], adata_target: AnnData, **_: Any) -> dict[str, Any]:
        """Write codes of the given categories; cells with other labels become unlabelled."""
        self.validate_field(adata_target)
        return self._write(adata_target, self._names(adata_target), state_registry[self.CATEGORICAL_MAPPING_KEY])

    def _names(self, adata: AnnData) -> pd.Series:
        column = adata.obs[self._original_attr_key]
        names = column.astype(object).map(str, na_action="ignore").astype(object)
        return names.mask(is_unlabeled(names, self._unlabeled), np.nan)

    def _write(self, adata: AnnData, names: pd.Series, mapping: np.ndarray) -> dict[str, Any]:
        adata.obs[self.attr_key] = pd.Index(mapping).get_indexer(names).astype(np.int64)
        return {
            self.CATEGORICAL_MAPPING_KEY: mapping,
            self.ORIGINAL_ATTR_KEY: self._original_attr_key,
            self.UNLABELED: self._unlabeled,
        }


def fields_of(
    adata: AnnData, *, labels_key: str, batch_key: str | None, layer: str | None, unlabeled_category: str | None
) -> list[Any]:
    """Check the arguments of :meth:`scim.SCIM.setup_anndata` and return the fields to register."""
    check_key(adata.obs, labels_key, argument="labels_key", where="adata.obs")
    if layer is not None:
        check_key(adata.layers, layer, argument="layer", where="adata.layers")
    if batch_key is not None:
        check_key(adata.obs, batch_key, argument="batch_key", where="adata.obs")
        if n_missing := int(adata.obs[batch_key].isna().sum()):
            raise ValueError(
                f"{n_missing} of {adata.n_obs} cells have no study in adata.obs[{batch_key!r}]. "
                "Name their study there, or drop these cells."
            )
    labels = adata.obs[labels_key]
    if unlabeled_category is not None and not (labels.astype(str) == str(unlabeled_category)).any():
        warn(
            f"unlabeled_category={unlabeled_category!r} does not occur in adata.obs[{labels_key!r}]. "
            f"{did_you_mean(unlabeled_category, labels.dropna().unique())}"
        )
    return [
        LayerField(REGISTRY_KEYS.X_KEY, layer, is_count_data=False),
        LabelField(labels_key, unlabeled_category),
        CategoricalObsField(REGISTRY_KEYS.BATCH_KEY, batch_key),
    ]
