"""Real blood cells and an encoder of random weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from anndata import AnnData

import scim
from scim.genes import GeneSpace


def random_weights(sizes: list[int], seed: int = 0) -> dict[str, np.ndarray]:
    """Canonical weights of an encoder with these layer sizes, none of them at its neutral value."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    for i, (a, b) in enumerate(zip(sizes[:-2], sizes[1:-1], strict=True)):
        weights |= {
            f"layers.{i}.weight": rng.normal(size=(b, a)) / np.sqrt(a),
            f"layers.{i}.bias": rng.normal(size=b) * 0.1,
            f"layers.{i}.bn.weight": rng.uniform(0.5, 1.5, size=b),
            f"layers.{i}.bn.bias": rng.normal(size=b) * 0.1,
            f"layers.{i}.bn.mean": rng.normal(size=b) * 0.1,
            f"layers.{i}.bn.var": rng.uniform(0.5, 1.5, size=b),
            f"layers.{i}.prelu": np.array([0.2]),
        }
    weights["output.weight"] = rng.normal(size=(sizes[-1], sizes[-2])) / np.sqrt(sizes[-2])
    weights["output.bias"] = rng.normal(size=sizes[-1]) * 0.1
    return {name: array.astype(np.float32) for name, array in weights.items()}


@pytest.fixture(scope="session")
def _pbmc() -> AnnData:
    return scim.datasets.pbmc68k()


@pytest.fixture
def pbmc(_pbmc: AnnData) -> AnnData:
    """700 real cells x 765 genes, log1p."""
    return _pbmc.copy()


@pytest.fixture
def counts(pbmc: AnnData) -> AnnData:
    """The same cells as whole numbers: each value over the smallest of its cell."""
    rows = pbmc.X.tocsr()
    for i in range(rows.shape[0]):
        span = slice(rows.indptr[i], rows.indptr[i + 1])
        values = np.expm1(rows.data[span])
        rows.data[span] = np.round(values / values.min())
    pbmc.X = rows
    return pbmc


@pytest.fixture
def weights(_pbmc: AnnData) -> dict[str, np.ndarray]:
    return random_weights([_pbmc.n_vars, 32, 24, 16])


@pytest.fixture
def make_weights() -> Callable[..., dict[str, np.ndarray]]:
    return random_weights


@pytest.fixture
def encoder(_pbmc: AnnData, weights: dict[str, np.ndarray]) -> scim.Encoder:
    return scim.Encoder(
        GeneSpace.from_adata(_pbmc), weights, provenance={"studies": ["Zheng 2017"], "seed": np.int64(7)}
    )
