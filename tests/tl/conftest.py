"""Real blood cells, an encoder of their principal components, and a reference of most of them."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import scim
from scim.genes import GeneSpace

#: The encoder here needs no training: it projects on principal components.
N_LATENT = 16


def make_encoder(adata: anndata.AnnData, *, n_latent: int = N_LATENT) -> scim.Encoder:
    """Encoder that projects on the principal components of ``adata``."""
    X = adata.X.toarray().astype(np.float64)
    mean = X.mean(axis=0)
    components = np.linalg.svd(X - mean, full_matrices=False)[2][:n_latent]
    return scim.Encoder(GeneSpace.from_adata(adata), {"output.weight": components, "output.bias": -components @ mean})


@pytest.fixture(scope="session")
def blood() -> anndata.AnnData:
    adata = scim.datasets.pbmc68k()
    channel = adata.obs["channel"].astype(int)
    adata.obs["study"] = pd.Categorical(np.where(channel <= 4, "first", "second"))
    adata.obs["tissue"] = pd.Categorical(np.where(channel % 2 == 1, "blood", "bone marrow"))
    adata.obs["sample"] = pd.Categorical("s" + adata.obs["channel"].astype(str))
    return adata


@pytest.fixture(scope="session")
def held_out(blood: anndata.AnnData) -> np.ndarray:
    return np.random.default_rng(0).permutation(blood.n_obs) < 100


@pytest.fixture(scope="session")
def encoder(blood: anndata.AnnData) -> scim.Encoder:
    return make_encoder(blood)


@pytest.fixture(scope="session")
def reference(
    blood: anndata.AnnData, held_out: np.ndarray, encoder: scim.Encoder, tmp_path_factory: pytest.TempPathFactory
) -> scim.Reference:
    path = tmp_path_factory.mktemp("references") / "blood.scim"
    return scim.Reference.build(path, blood[~held_out], encoder, labels_key="cell_type", study_key="study")


@pytest.fixture(scope="session")
def other_reference(
    blood: anndata.AnnData, held_out: np.ndarray, encoder: scim.Encoder, tmp_path_factory: pytest.TempPathFactory
) -> scim.Reference:
    """The same cells, embedded by another encoder."""
    path = tmp_path_factory.mktemp("references") / "other.scim"
    weights = {name: -array if name == "output.weight" else array for name, array in encoder.weights.items()}
    other = scim.Encoder(encoder.genes, weights)
    return scim.Reference.build(path, blood[~held_out], other, labels_key="cell_type", study_key="study")


@pytest.fixture
def new(blood: anndata.AnnData, held_out: np.ndarray) -> anndata.AnnData:
    """Cells that the reference does not have, with nothing of scim's on them."""
    return blood[held_out].copy()


@pytest.fixture
def h5ad(new: anndata.AnnData, tmp_path: Path) -> Path:
    path = tmp_path / "new.h5ad"
    new.write_h5ad(path)
    return path
