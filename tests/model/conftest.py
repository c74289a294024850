"""Real blood cells, in sizes that train in seconds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from anndata import AnnData

import scim


@pytest.fixture(scope="session")
def blood() -> AnnData:
    """Log-normalised cells of one donor, dealt out to three made-up studies; never change it, copy it."""
    adata = scim.datasets.pbmc68k()
    adata.obs["study"] = np.array(["first", "second", "third"])[np.arange(adata.n_obs) % 3]
    return adata


@pytest.fixture(scope="session")
def few(blood: AnnData) -> AnnData:
    """210 of these cells, of the four most frequent labels: two steps an epoch; never change it, copy it."""
    labels = blood.obs["cell_type"].astype(str)
    adata = blood[labels.isin(labels.value_counts().index[:4]).to_numpy()][:210].copy()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str).astype("category")
    return adata


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small layers gain nothing from threads, and wait for each other where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    assert torch.get_num_threads() == 1  # training leaves it alone
    torch.set_num_threads(threads)


@pytest.fixture
def counts(few: AnnData) -> AnnData:
    """The few cells as counts: multiples of each cell's smallest value."""
    adata = few.copy()
    linear = np.expm1(adata.X.toarray())
    unit = np.where(linear > 0, linear, np.inf).min(axis=1, keepdims=True)
    adata.X = np.round(linear / unit).astype(np.float32)
    return adata
