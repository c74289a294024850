"""The sparse product against NumPy's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from scim.encoder._blocked import BLOCK, TILE, BlockedRows


def blocked(matrix: sp.csr_matrix) -> BlockedRows:
    """Blocked rows of a matrix, in the plainest way."""
    n, m = matrix.shape
    starts = np.zeros((n, -(-m // BLOCK) + 1), dtype=np.int64)
    columns, values = [], []
    for row in range(n):
        mine = slice(matrix.indptr[row], matrix.indptr[row + 1])
        order = np.argsort(matrix.indices[mine] // BLOCK, kind="stable")
        columns.append(matrix.indices[mine][order])
        values.append(matrix.data[mine][order])
        per_block = np.bincount(matrix.indices[mine] // BLOCK, minlength=starts.shape[1] - 1)
        starts[row] = matrix.indptr[row] + np.concatenate([[0], np.cumsum(per_block)])
    return BlockedRows(
        starts, np.concatenate(columns).astype(np.int32), np.concatenate(values).astype(np.float32), int(m)
    )


@pytest.mark.parametrize("shape", [(1, 1), (7, BLOCK - 1), (40, 2 * BLOCK + 3), (3, BLOCK)])
@pytest.mark.parametrize("width", [1, 17, TILE, TILE + 5])
@pytest.mark.parametrize("density", [0.0, 0.05, 1.0])
def test_product_is_that_of_dense_matrices(shape: tuple[int, int], width: int, density: float) -> None:
    rng = np.random.default_rng(shape[0])
    left = sp.random(*shape, density=density, format="csr", rng=rng, dtype=np.float32)
    right = rng.normal(size=(shape[1], width)).astype(np.float32)
    rows = blocked(left)
    np.testing.assert_allclose(rows.times(right), left.toarray() @ right, atol=1e-4)
    assert rows.lengths.tolist() == np.diff(left.indptr).tolist()


def test_transposed_swaps_rows_and_columns() -> None:
    rng = np.random.default_rng(0)
    left = sp.random(2 * BLOCK + 9, 300, density=0.1, format="csr", rng=rng, dtype=np.float32)
    right = rng.normal(size=(left.shape[0], 20)).astype(np.float32)
    turned = blocked(left).transposed()
    assert (turned.n_rows, turned.n_columns) == (300, left.shape[0])
    np.testing.assert_allclose(turned.times(right), left.T @ right, atol=1e-4)
    np.testing.assert_array_equal(turned.transposed().times(np.eye(300, dtype=np.float32)), left.toarray())


def test_a_nan_in_the_matrix_comes_through() -> None:
    left = blocked(sp.csr_matrix(np.ones((2, 3), dtype=np.float32)))
    assert np.isnan(left.times(np.array([[1.0], [np.nan], [2.0]], dtype=np.float32))).all()


def test_same_numbers_whatever_the_threads() -> None:
    rng = np.random.default_rng(0)
    rows = blocked(sp.random(50, 600, density=0.2, format="csr", rng=rng, dtype=np.float32))
    right = rng.normal(size=(600, 40)).astype(np.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = rows.times(right)
        torch.set_num_threads(4)
        np.testing.assert_array_equal(rows.times(right), one)
    finally:
        torch.set_num_threads(before)
    # Many callers at a time: a pool of numba's own would end the process here.
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: rows.times(right), range(8)):
            np.testing.assert_array_equal(found, one)
