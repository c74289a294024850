"""Search with filter, largest distance and caps, against brute force in NumPy and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scim.index import _capped
from scim.index._capped import Cap, sort_all, under_caps
from scim.index._composed import GrownIndex, MaskedIndex
from scim.index._exact import ExactIndex
from scim.index._protocol import Hits, Index
from scim.index._search import Query, search
from scim.index._vectors import FixedVectors, to_fixed, to_float

N = 60
quick = settings(max_examples=40, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def cells(rng: np.random.Generator) -> FixedVectors:
    """Cells in three segments; some without direction, and some twice."""
    fixed = to_fixed(rng.normal(size=(N, 6)).astype(np.float32))
    fixed[rng.random(N) < 0.1] = 0
    fixed[50:] = fixed[:10]
    return FixedVectors(np.split(fixed, [13, 40]))


def queries(rng: np.random.Generator, vectors: FixedVectors) -> np.ndarray:
    drawn = np.concatenate([to_float(to_fixed(rng.normal(size=(3, 6)).astype(np.float32))), vectors.take(np.arange(3))])
    drawn[4] = 0
    return drawn


def brute_force(vectors: FixedVectors, asked: np.ndarray, allowed: np.ndarray) -> list[list[tuple[float, int]]]:
    """Distances, and positions, of the cells that may be found, for each query, nearest first."""
    stored = vectors.take(np.arange(N)).astype(np.float64)
    distances = 1 - asked @ stored.T
    found = np.flatnonzero(allowed & stored.any(axis=1))
    return [
        sorted((float(distances[q, i]), int(i)) for i in found) if asked[q].any() else [] for q in range(len(asked))
    ]


def indexes(vectors: FixedVectors, findable: np.ndarray) -> list[Index]:
    """Exact search, whole and of parts, of the findable cells."""
    grown = GrownIndex(ExactIndex(vectors.split_at(40)[0]), vectors)
    return [MaskedIndex(index, findable) for index in (ExactIndex(vectors), grown)]


@quick
@given(seeds, st.one_of(st.none(), st.integers(1, N)), st.one_of(st.none(), st.floats(0.05, 1.5)), st.booleans())
@pytest.mark.filterwarnings("ignore:k=")
def test_finds_what_brute_force_finds(seed: int, k: int | None, limit: float | None, filtered: bool) -> None:
    rng = np.random.default_rng(seed)
    vectors = cells(rng)
    asked, findable = queries(rng, vectors), rng.random(N) < 0.9
    allowed = rng.random(N) < 0.5 if filtered else None
    limit = 0.7 if k is None and limit is None else limit
    expected = brute_force(vectors, asked, findable if allowed is None else allowed & findable)
    for index in indexes(vectors, findable):
        hits = search(index, Query(asked, k, limit, allowed))
        for q, pairs in enumerate(expected):
            near = [d for d, _ in pairs[:k] if limit is None or d <= limit]
            found = hits.indices[q] >= 0
            # A distance at the limit, or equal to another one, may be rounded to either side.
            np.testing.assert_allclose(hits.distances[q][found][: len(near)], near[: found.sum()], atol=2e-6)
            assert abs(int(found.sum()) - len(near)) <= sum(
                limit is not None and abs(d - limit) < 2e-6 for d, _ in pairs
            )
            of = {i: d for d, i in pairs}
            assert len(set(hits.indices[q][found])) == found.sum()
            for position, distance in zip(hits.indices[q][found], hits.distances[q][found], strict=True):
                assert abs(of[position] - distance) < 2e-6
            order = list(zip(hits.distances[q][found], hits.indices[q][found], strict=True))
            assert order == sorted(order)


def plain_caps(indices: list[int], groups: list[tuple[np.ndarray, int]], k: int | None) -> list[int]:
    """Hits one after the other, each unless a group of it is full."""
    taken: list[int] = []
    for i in indices:
        full = any(sum(codes[j] == codes[i] for j in taken) >= most for codes, most in groups)
        if i >= 0 and not full and (k is None or len(taken) < k):
            taken.append(i)
    return taken


def drawn_caps(rng: np.random.Generator) -> list[Cap]:
    """Caps on one or two columns with missing values."""
    return [Cap(rng.integers(-1, 5, N), int(rng.integers(1, 6))) for _ in range(rng.integers(1, 3))]


@quick
@given(seeds, st.one_of(st.none(), st.integers(1, 20)))
def test_caps_are_those_of_a_plain_loop(seed: int, k: int | None) -> None:
    rng = np.random.default_rng(seed)
    caps, indices = drawn_caps(rng), np.stack([rng.permutation(N)[:25] for _ in range(4)])
    indices[:, 20:][rng.random((4, 5)) < 0.5] = -1
    hits = Hits(indices, np.where(indices < 0, np.float32(np.inf), np.arange(25, dtype=np.float32)))
    kept = under_caps(hits, caps, k)
    for row, distances, before in zip(kept.indices, kept.distances, indices.tolist(), strict=True):
        expected = plain_caps(before, [(cap.codes, cap.most) for cap in caps], k)
        assert row[row >= 0].tolist() == expected and (row[len(expected) :] == -1).all()
        assert distances[: len(expected)].tolist() == [before.index(i) for i in expected]


@quick
@given(seeds, st.integers(1, 30), st.sampled_from([0, 2, 10**6]), st.booleans())
@pytest.mark.filterwarnings("ignore:k=")
def test_a_capped_search_is_that_of_a_plain_loop(seed: int, k: int, divisor: int, filtered: bool) -> None:
    """Whether it searches deeper and deeper or sorts all cells."""
    rng = np.random.default_rng(seed)
    vectors = cells(rng)
    asked, findable, caps = queries(rng, vectors), rng.random(N) < 0.9, drawn_caps(rng)
    allowed = rng.random(N) < 0.6 if filtered else None
    index = MaskedIndex(ExactIndex(vectors), findable)
    every = search(index, Query(asked, N, None, allowed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_capped, "SORT_ALL_DIVISOR", divisor)
        hits = search(index, Query(asked, k, None, allowed, {str(i): cap for i, cap in enumerate(caps)}))
    for row, order in zip(hits.indices, every.indices.tolist(), strict=True):
        assert row[row >= 0].tolist() == plain_caps(order, [(cap.codes, cap.most) for cap in caps], row.size)


def test_all_cells_are_sorted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors, caps = cells(rng), drawn_caps(rng)
    asked = queries(rng, vectors)
    whole = sort_all(vectors, asked, 9, None, caps)
    monkeypatch.setattr(_capped, "KEYS_AT_A_TIME", N)
    np.testing.assert_array_equal(sort_all(vectors, asked, 9, None, caps).indices, whole.indices)


def test_cells_without_direction_are_not_counted() -> None:
    vectors = FixedVectors([np.array([[1, 0], [0, 0], [0, 1]], dtype=np.int16)])
    index = MaskedIndex(ExactIndex(vectors), np.array([True, False, True]), removed=False)
    with pytest.warns(UserWarning, match="k=3 is more than the 2 cells"):
        hits = search(index, Query(np.array([[1, 0]], dtype=np.float32), 3))
    assert hits.indices.tolist() == [[0, 2]]
