"""Hits: merged, moved and filled."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scim.index._protocol import Hits

quick = settings(max_examples=40, deadline=None, derandomize=True)


def drawn(rng: np.random.Generator, n: int, k: int, start: int) -> Hits:
    """Hits of three queries among ``n`` cells from ``start`` on, with few distances, so that many are equal."""
    rows = []
    for _ in range(3):
        m = int(rng.integers(0, min(n, k) + 1))
        found = sorted((float(rng.integers(0, 3)), int(i) + start) for i in rng.permutation(n)[:m])
        rows.append(found + [(np.inf, -1)] * (k - m))
    distances = np.array([[d for d, _ in row] for row in rows], dtype=np.float32).reshape(3, k)
    return Hits(np.array([[i for _, i in row] for row in rows], dtype=np.int64).reshape(3, k), distances)


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.one_of(st.none(), st.integers(1, 12)))
def test_merged_hits_are_sorted_by_distance_and_position(seed: int, n_parts: int, k: int | None) -> None:
    rng = np.random.default_rng(seed)
    parts = [drawn(rng, 10, int(rng.integers(1, 8)), 10 * i) for i in rng.permutation(n_parts)]
    merged = Hits.merged(parts, k)
    for q in range(3):
        pairs = [(d, i) for part in parts for d, i in zip(part.distances[q], part.indices[q], strict=True) if i >= 0]
        expected = sorted(pairs)[:k]
        got = [(d, i) for d, i in zip(merged.distances[q], merged.indices[q], strict=True) if i >= 0]
        assert got == expected
        assert np.isinf(merged.distances[q][merged.indices[q] < 0]).all()
    if k is None:
        assert merged.indices.shape[1] == (merged.indices >= 0).sum(axis=1).max()


def test_moved_hits_leave_empty_places_empty() -> None:
    hits = Hits(np.array([[3, -1]]), np.array([[0.5, np.inf]], dtype=np.float32)).moved(100)
    assert hits.indices.tolist() == [[103, -1]] and hits.distances.tolist() == [[0.5, np.inf]]


def test_only_queries_with_empty_places_are_searched_again() -> None:
    hits = Hits(np.array([[4, 5], [6, -1], [7, 8]]), np.array([[0, 1], [0, np.inf], [1, 1]], dtype=np.float32))
    asked = []

    def other(rows: np.ndarray) -> Hits:
        asked.append(rows.tolist())
        return Hits(np.array([[1, 2]]), np.array([[0.25, 0.5]], dtype=np.float32))

    filled = hits.filled(other)
    assert asked == [[1]]
    assert filled.indices.tolist() == [[4, 5], [1, 2], [7, 8]] and filled.distances[1].tolist() == [0.25, 0.5]
    assert hits.filled(other) is hits and asked == [[1]]


def test_stacked_hits_are_as_wide_as_the_widest() -> None:
    narrow = Hits(np.array([[1]]), np.array([[0.5]], dtype=np.float32))
    stacked = Hits.stacked([narrow, Hits.none(2, 3), narrow])
    assert stacked.indices.tolist() == [[1, -1, -1], [-1] * 3, [-1] * 3, [1, -1, -1]]
    assert Hits.stacked([], 5).indices.shape == (0, 5)
