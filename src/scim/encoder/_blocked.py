"""Multiply sparse rows with a dense matrix: the first layer of a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._compiled import njit
from .._threads import in_threads

#: Columns of the sparse rows in a block: this many rows of the dense matrix, TILE numbers of each, fit into the cache.
BLOCK = 256
#: Columns of the dense matrix that are multiplied together.
TILE = 512


@dataclass(frozen=True, eq=False)
class BlockedRows:
    """Sparse rows whose entries are grouped by blocks of BLOCK columns.

    ``starts``, int64 (n_rows, n_blocks + 1), has the start of the entries of each row and block, and the end of the
    row. A row starts where the row before ends. Columns and values are those of each entry, int32 and float32
    (n_entries,).
    """

    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    n_columns: int

    @property
    def n_rows(self) -> int:
        """Rows of the matrix."""
        return len(self.starts)

    @property
    def lengths(self) -> np.ndarray:
        """Entries of each row, int64 (n_rows,)."""
        return self.starts[:, -1] - self.starts[:, 0]

    def toarray(self) -> np.ndarray:
        """Rows as a dense matrix, float32 (n_rows, n_columns)."""
        dense = np.zeros((self.n_rows, self.n_columns), dtype=np.float32)
        dense[np.repeat(np.arange(self.n_rows), self.lengths), self.columns] = self.values
        return dense

    def times(self, matrix: np.ndarray) -> np.ndarray:
        """Multiply with a dense matrix, float32 (n_columns, m) in C order: float32 (n_rows, m).

        The product is taken by blocks of columns, so that the rows of ``matrix`` that many rows need stay in the cache.
        This is several times as fast as a product row by row, or as a dense product if a few percent of the entries are
        not zero.
        """
        out = np.zeros((self.n_rows, matrix.shape[1]), dtype=np.float32)
        in_threads(self.n_rows, lambda first, last: self.add_product(matrix, out, first, last))
        return out

    def add_product(self, matrix: np.ndarray, out: np.ndarray, first: int, last: int) -> None:
        """Add the products of the rows from ``first`` to ``last`` to these rows of ``out``, in this thread."""
        _multiply(self.starts, self.columns, self.values, matrix, out, first, last)

    def transposed(self) -> BlockedRows:
        """Return the transposed matrix."""
        n_blocks = -(-self.n_rows // BLOCK)
        starts = np.zeros((self.n_columns, n_blocks + 1), dtype=np.int64)
        columns, values = np.empty_like(self.columns), np.empty_like(self.values)
        _transpose(self.starts, self.columns, self.values, starts, columns, values)
        return BlockedRows(starts, columns, values, self.n_rows)


@njit(inline="always")
def _add_rows(out, matrix, columns, values, low, high, a, b):  # type: ignore[no-untyped-def]
    """Add values x rows of the matrix to out, eight rows at a time: out is loaded and stored once for eight rows."""
    p = low
    while p + 8 <= high:
        v0, v1, v2, v3 = values[p], values[p + 1], values[p + 2], values[p + 3]
        v4, v5, v6, v7 = values[p + 4], values[p + 5], values[p + 6], values[p + 7]
        m0, m1 = matrix[columns[p], a:b], matrix[columns[p + 1], a:b]
        m2, m3 = matrix[columns[p + 2], a:b], matrix[columns[p + 3], a:b]
        m4, m5 = matrix[columns[p + 4], a:b], matrix[columns[p + 5], a:b]
        m6, m7 = matrix[columns[p + 6], a:b], matrix[columns[p + 7], a:b]
        for j in range(b - a):
            out[j] += (
                v0 * m0[j] + v1 * m1[j] + v2 * m2[j] + v3 * m3[j] + v4 * m4[j] + v5 * m5[j] + v6 * m6[j] + v7 * m7[j]
            )
        p += 8
    while p + 2 <= high:
        v0, v1 = values[p], values[p + 1]
        m0, m1 = matrix[columns[p], a:b], matrix[columns[p + 1], a:b]
        for j in range(b - a):
            out[j] += v0 * m0[j] + v1 * m1[j]
        p += 2
    if p < high:
        v0, m0 = values[p], matrix[columns[p], a:b]
        for j in range(b - a):
            out[j] += v0 * m0[j]


# "reassoc" and "contract" allow fused multiply-add; "nnan" is left out, because there may be NaN.
@njit(nogil=True, fastmath={"contract", "reassoc", "nsz"})
def _multiply(starts, columns, values, matrix, out, first, last):  # type: ignore[no-untyped-def]
    width = matrix.shape[1]
    for block in range(starts.shape[1] - 1):
        for a in range(0, width, TILE):
            b = min(a + TILE, width)
            for row in range(first, last):
                _add_rows(out[row, a:b], matrix, columns, values, starts[row, block], starts[row, block + 1], a, b)


@njit(nogil=True)
def _transpose(starts, columns, values, new_starts, new_columns, new_values):  # type: ignore[no-untyped-def]
    n_rows, n_blocks = starts.shape[0], new_starts.shape[1] - 1
    for row in range(n_rows):
        for p in range(starts[row, 0], starts[row, -1]):
            new_starts[columns[p], row // BLOCK + 1] += 1
    end = 0
    for column in range(new_starts.shape[0]):
        new_starts[column, 0] = end
        for block in range(n_blocks):
            end += new_starts[column, block + 1]
            new_starts[column, block + 1] = end
    # Rows are visited in order, so the blocks of a column are filled in order.
    place = new_starts[:, 0].copy()
    for row in range(n_rows):
        for p in range(starts[row, 0], starts[row, -1]):
            q = place[columns[p]]
            place[columns[p]] = q + 1
            new_columns[q] = row
            new_values[q] = values[p]
