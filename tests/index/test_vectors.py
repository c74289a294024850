"""Fixed-point vectors of several segments, against one array of all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scim.index import _vectors
from scim.index._vectors import FixedVectors, both, has_direction, to_fixed, to_float

quick = settings(max_examples=30, deadline=None, derandomize=True)


def drawn(seed: int, cuts: list[int]) -> tuple[np.ndarray, FixedVectors]:
    """Forty cells, some without direction, as one array and cut into segments, some of which may be empty."""
    rng = np.random.default_rng(seed)
    fixed = to_fixed(rng.normal(size=(40, 5)).astype(np.float32))
    fixed[rng.random(40) < 0.1] = 0
    return fixed, FixedVectors(np.split(fixed, sorted(cuts)))


cuts = st.lists(st.integers(0, 40), max_size=4)
seeds = st.integers(0, 2**32 - 1)


@quick
@given(seeds, cuts, st.lists(st.integers(0, 39), max_size=20))
def test_rows_are_those_of_one_array(seed: int, cuts: list[int], rows: list[int]) -> None:
    fixed, vectors = drawn(seed, cuts)
    at = np.array(rows, dtype=np.int64)
    assert len(vectors) == 40 and vectors.n_latent == 5
    np.testing.assert_array_equal(vectors.gather(at), fixed[at])
    np.testing.assert_array_equal(vectors.take(at), to_float(fixed)[at])
    ascending = np.unique(at)
    runs = list(vectors.runs(ascending))
    np.testing.assert_array_equal(np.concatenate([ascending[:0], *(mine for _, _, mine in runs)]), ascending)
    for segment, start, mine in runs:
        np.testing.assert_array_equal(segment[mine - start], fixed[mine])


@quick
@given(seeds, cuts, st.integers(0, 45))
def test_both_sides_of_a_split_are_those_of_one_array(seed: int, cuts: list[int], n: int) -> None:
    fixed, vectors = drawn(seed, cuts)
    first, others = vectors.split_at(n)
    assert (len(first), len(others)) == (min(n, 40), 40 - min(n, 40))
    for part, expected in ((first, fixed[:n]), (others, fixed[n:])):
        np.testing.assert_array_equal(part.gather(np.arange(len(part))), expected if len(part) else expected[:, :0])


@quick
@given(seeds, cuts, st.booleans(), st.booleans())
def test_blocks_hold_the_directed_cells_that_are_allowed(
    seed: int, cuts: list[int], filtered: bool, kept: bool
) -> None:
    fixed, vectors = drawn(seed, cuts)
    vectors._keep = kept
    masks = [np.random.default_rng(seed).random(40) < 0.5 if filtered else None, None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_vectors, "CELLS_PER_BLOCK", 7)
        for allowed in masks:  # the second time, the vectors are kept
            parts = list(vectors.blocks(allowed))
            expected = np.flatnonzero(has_direction(fixed) if allowed is None else allowed & has_direction(fixed))
            np.testing.assert_array_equal(np.concatenate([expected[:0], *(rows for rows, _ in parts)]), expected)
            for rows, block in parts:
                np.testing.assert_array_equal(block, to_float(fixed[rows]))
            assert vectors.count(allowed) == (40 if allowed is None else allowed.sum())


def test_vectors_of_a_large_reference_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = to_fixed(np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32))
    small = FixedVectors([fixed])
    assert next(small.blocks())[1] is next(small.blocks())[1]
    monkeypatch.setattr(_vectors, "KEPT_BYTES", 40 * 5 * 4 - 1)
    large = FixedVectors([fixed])
    assert next(large.blocks())[1] is not next(large.blocks())[1] and not large._kept


def test_either_mask_may_be_none() -> None:
    a, b = np.array([True, True, False]), np.array([True, False, True])
    assert both(None, None) is None
    assert both(a, None) is a and both(None, b) is b
    np.testing.assert_array_equal(both(a, b), [True, False, False])
