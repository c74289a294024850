"""Real blood cells, cut to a size that trains in seconds."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData

import scim


@pytest.fixture(scope="session")
def blood() -> AnnData:
    """Log-normalised cells of one donor, dealt out to three made-up studies; never change it, copy it."""
    adata = scim.datasets.pbmc68k()
    adata.obs["study"] = np.array(["first", "second", "third"])[np.arange(adata.n_obs) % 3]
    return adata


@pytest.fixture
def counts(blood: AnnData) -> AnnData:
    """The same cells as counts: multiples of each cell's smallest value."""
    adata = blood.copy()
    linear = np.expm1(adata.X.toarray())
    unit = np.where(linear > 0, linear, np.inf).min(axis=1, keepdims=True)
    adata.X = np.round(linear / unit).astype(np.float32)
    return adata
