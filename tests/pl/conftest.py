"""Real blood cells that the bundled reference labelled, searched and explained."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib
import numpy as np
import pytest
from anndata import AnnData

import scim


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Draw without a window, and leave no figure open."""
    import matplotlib.pyplot as plt

    matplotlib.use("agg")
    yield
    plt.close("all")


@pytest.fixture(scope="session")
def _annotated() -> AnnData:
    adata = scim.datasets.pbmc10k_protein()
    scim.tl.annotate(adata, "blood", by="gate")
    # A projection of the embedding is map enough, and takes no seconds.
    centred = adata.obsm["X_scim"] - adata.obsm["X_scim"].mean(axis=0)
    adata.obsm["X_umap"] = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    scim.tl.query(adata, "blood", groupby="gate", k=50, max_per_group={"study": 20})
    return adata


@pytest.fixture
def annotated(_annotated: AnnData) -> AnnData:
    """200 cells x 16,727 genes with labels, labels of gates, hits and a map."""
    return _annotated.copy()


@pytest.fixture
def plain() -> AnnData:
    """Cells that no verb has seen."""
    return scim.datasets.pbmc10k_protein()
