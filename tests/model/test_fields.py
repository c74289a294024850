"""What can be registered, and what is said where it cannot."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from scim.model import SCIM


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels_key": "celltype"}, KeyError, "Did you mean 'cell_type'"),
        ({"labels_key": "cell_type", "batch_key": "studdy"}, KeyError, "Did you mean 'study'"),
        ({"labels_key": "cell_type", "layer": "counts"}, KeyError, "adata.layers"),
    ],
)
def test_missing_keys(blood: ad.AnnData, arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        SCIM.setup_anndata(blood.copy(), **arguments)


def test_empty_data(blood: ad.AnnData) -> None:
    with pytest.raises(ValueError, match="0 cells x 765 genes"):
        SCIM.setup_anndata(blood[:0].copy(), labels_key="cell_type")


def test_cells_without_a_study(blood: ad.AnnData) -> None:
    adata = blood.copy()
    adata.obs["study"] = adata.obs["study"].where(np.arange(700) > 2)
    with pytest.raises(ValueError, match="3 of 700 cells have no study"):
        SCIM.setup_anndata(adata, labels_key="cell_type", batch_key="study")


def test_unlabeled_category_that_does_not_occur(blood: ad.AnnData) -> None:
    with pytest.warns(UserWarning, match="Did you mean 'B cell'"):
        SCIM.setup_anndata(blood.copy(), labels_key="cell_type", unlabeled_category="B cel")
