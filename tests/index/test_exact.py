from __future__ import annotations

import numpy as np
import pytest

from scim.index import _exact, _vectors
from scim.index._exact import ExactIndex, nearest_elsewhere
from scim.index._vectors import SCALE, FixedVectors, to_float


def unit(rng: np.random.Generator, n: int, d: int = 12) -> np.ndarray:
    vectors = rng.normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def fixed(vectors: np.ndarray) -> np.ndarray:
    return np.round(vectors * SCALE).astype(np.int16)


@pytest.fixture
def cells() -> FixedVectors:
    """Three segments; some cells without direction, some alike."""
    rng = np.random.default_rng(0)
    vectors = unit(rng, 1000)
    vectors[[0, 500, 999]] = 0
    vectors[100:110] = vectors[100]
    vectors[800:805] = vectors[100]
    return FixedVectors([fixed(vectors[:50]), fixed(vectors[50:700]), fixed(vectors[700:])])


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_vectors, "CELLS_PER_BLOCK", 64)
    monkeypatch.setattr(_exact, "QUERIES", 7)


def plain_search(cells: FixedVectors, queries: np.ndarray, k: int, allowed: np.ndarray) -> np.ndarray:
    stored = to_float(np.concatenate(cells.segments))
    distances = np.where(allowed & stored.any(axis=1), 1 - queries.astype(np.float64) @ stored.T, np.inf)
    return np.sort(distances, axis=1)[:, :k]


@pytest.mark.parametrize("k", [1, 10, 64, 200, 997])
@pytest.mark.parametrize("share", [1.0, 0.3, 0.01])
def test_like_sorting_everything(cells: FixedVectors, small_blocks: None, k: int, share: float) -> None:
    rng = np.random.default_rng(1)
    queries = unit(rng, 30)
    allowed = rng.random(1000) < share
    allowed[[0, 5]] = True
    hits = ExactIndex(cells).nearest(queries, k, None if share == 1 else allowed)
    positions, distances = hits.indices, hits.distances
    expected = plain_search(cells, queries, k, np.ones(1000, dtype=bool) if share == 1 else allowed)
    np.testing.assert_allclose(distances, expected, atol=1e-6)
    found = positions >= 0
    np.testing.assert_array_equal(found, np.isfinite(distances))
    stored = to_float(np.concatenate(cells.segments))
    direct = 1 - np.einsum("md,mkd->mk", queries, stored[positions])
    np.testing.assert_allclose(direct[found], distances[found], atol=1e-6)
    for row in positions:
        assert len(set(row[row >= 0])) == (row >= 0).sum()


def test_equal_cells_by_position(cells: FixedVectors) -> None:
    query = to_float(cells.segments[1][50:51])
    hits = ExactIndex(cells).nearest(query, 12)
    positions, distances = hits.indices, hits.distances
    assert positions[0].tolist() == [*range(100, 110), 800, 801]
    np.testing.assert_allclose(distances, 0, atol=1e-6)


def test_all_cells_equal(small_blocks: None) -> None:
    segment = fixed(np.repeat(unit(np.random.default_rng(2), 1), 500, axis=0))
    positions = ExactIndex(FixedVectors([segment])).nearest(to_float(segment[:9]), 70).indices
    assert (positions == np.arange(70)).all()


def test_no_queries_and_no_cells(cells: FixedVectors) -> None:
    hits = ExactIndex(cells).nearest(np.empty((0, 12), dtype=np.float32), 3)
    positions, distances = hits.indices, hits.distances
    assert positions.shape == distances.shape == (0, 3)
    hits = ExactIndex(cells).nearest(to_float(cells.segments[1][:2]), 3, np.zeros(1000, dtype=bool))
    positions, distances = hits.indices, hits.distances
    assert (positions == -1).all()
    assert np.isinf(distances).all()


def test_blocks_hold_every_cell_once(cells: FixedVectors, small_blocks: None) -> None:
    rows = np.concatenate([rows for rows, _ in cells.blocks()])
    assert rows.tolist() == sorted(set(range(1000)) - {0, 500, 999})
    vectors = np.concatenate([vectors for _, vectors in cells.blocks()])
    np.testing.assert_allclose(vectors, to_float(np.concatenate(cells.segments))[rows])


def test_nearest_of_other_groups(cells: FixedVectors, small_blocks: None) -> None:
    groups = np.arange(1000) % 3
    rows = np.array([1, 2, 3, 100, 640])
    stored = to_float(np.concatenate(cells.segments))
    distances = 1 - stored[rows].astype(np.float64) @ stored.T
    distances[:, ~stored.any(axis=1)] = np.inf
    distances[groups[rows][:, None] == groups] = np.inf
    found = nearest_elsewhere(cells, stored[rows], groups[rows], groups)
    np.testing.assert_allclose(found, distances.min(axis=1).clip(0), atol=1e-6)
    assert np.isinf(nearest_elsewhere(cells, stored[rows], np.zeros(5), np.zeros(1000))).all()


def test_distances_that_round_alike_are_sorted_by_position() -> None:
    """Identical cells differ by rounding in their similarity, and which of them comes first must not."""
    similarity = np.array([[0.3, 0.9, 1.0, 1.0000001, 0.30000001, 1.0000002]], dtype=np.float32)
    best = _exact._Best(1, 2)
    best.offer(similarity, np.arange(6))
    assert best.result().indices.tolist() == [[2, 3]]
