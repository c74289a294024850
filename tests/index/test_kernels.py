"""Cells as numbers to sort by, and vectors brought to length 1 in one pass."""

from __future__ import annotations

import numpy as np
import pytest

from scim.index._exact import compare_each
from scim.index._kernels import best_of, key_of, rows_of, to_unit
from scim.index._vectors import FixedVectors, to_fixed, to_float


def test_keys_sort_by_similarity_and_then_position() -> None:
    rng = np.random.default_rng(0)
    similarity = np.round(rng.normal(size=400), 1).astype(np.float32)
    positions = rng.integers(0, 2**32, 400)
    keys = np.array([[key_of(s, p) for s, p in zip(similarity, positions, strict=True)]], dtype=np.uint64)
    wanted = np.lexsort((positions, -similarity))
    for k in (1, 30, 400):
        found, values = best_of(keys, k)
        np.testing.assert_array_equal(found[0], positions[wanted[:k]])
        np.testing.assert_array_equal(values[0], similarity[wanted[:k]])


def test_no_key_is_no_cell() -> None:
    assert key_of(np.float32(np.nan), 3) == 0
    assert key_of(np.float32(-1), 2**32 - 1) > 0
    keys = np.array([[0, key_of(np.float32(-0.5), 7), 0]], dtype=np.uint64)
    positions, similarity = best_of(keys, 5)
    assert positions.tolist() == [[7, -1, -1, -1, -1]]
    assert similarity.tolist() == [[-0.5, *[-np.inf] * 4]]


def test_one_pass_to_float() -> None:
    vectors = np.random.default_rng(1).normal(size=(50, 33)).astype(np.float32)
    vectors[[4, 20]] = 0
    fixed, out = to_fixed(vectors), np.full((4, 33), np.nan, dtype=np.float32)
    rows = np.array([9, 4, 49, 20])
    assert to_unit(fixed, rows, out) == 2
    exact = fixed[rows].astype(np.float64)
    length = np.linalg.norm(exact, axis=1, keepdims=True)
    np.testing.assert_allclose(out, np.divide(exact, length, out=np.zeros_like(exact), where=length > 0), rtol=1e-6)
    assert not out[[1, 3]].any()


def test_cells_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    fixed = to_fixed(rng.normal(size=(300, 16)).astype(np.float32))
    cells, queries, rows = FixedVectors([fixed[:120], fixed[120:]]), to_float(fixed[:4]), np.arange(5, 300, 3)
    whole = compare_each(cells, queries, rows, 20)
    monkeypatch.setattr("scim.index._exact._COMPARED_CELLS", 7)
    monkeypatch.setattr("scim.index._exact._THREAD_CELLS", 3)
    monkeypatch.setattr("scim._threads._n_threads", lambda: 2)
    parts = compare_each(cells, queries, rows, 20)
    np.testing.assert_array_equal(parts.indices, whole.indices)
    similarity = queries @ to_float(fixed[rows]).T
    np.testing.assert_array_equal(whole.indices, rows[np.argsort(-similarity, axis=1, kind="stable")[:, :20]])


def test_cells_that_may_be_found() -> None:
    rng = np.random.default_rng(3)
    for n in (0, 5, 8, 1_003):
        for share in (0.0, 0.01, 0.6, 1.0):
            mask = rng.random(n) < share
            np.testing.assert_array_equal(rows_of(mask), np.flatnonzero(mask))
