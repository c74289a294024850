"""Sparse rows times a dense matrix, fast: what the first layer of a network does with a cell's counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .._compiled import njit
from .._threads import in_threads

#: Columns that are worked on together: this many rows of the matrix, TILE numbers of each, fit into a core's cache.
BLOCK = 256
TILE = 512


@dataclass(frozen=True, eq=False)
class BlockedRows:
    """Sparse rows whose entries are grouped by blocks of BLOCK columns.

    Attributes
    ----------
    starts
        int64 (n_rows, n_blocks + 1): where the entries of each row and block begin, and where the row ends; rows follow
        one another without a gap.
    columns, values
        int32 and float32 (n_entries,).
    n_columns
        Columns of the matrix.
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
        """Product with a dense matrix, float32 (n_columns, m) in C order -> float32 (n_rows, m).

        Block by block of columns, so that the rows of ``matrix`` that many rows need stay in the cache: several times
        as fast as a product row by row, and as a dense one where a few percent of the entries are there.
        """
        out = np.zeros((self.n_rows, matrix.shape[1]), dtype=np.float32)
        in_threads(self.n_rows, lambda first, last: self.add_product(matrix, out, first, last))
        return out

    def add_product(self, matrix: np.ndarray, out: np.ndarray, first: int, last: int) -> None:
        """Add the product of the rows from ``first`` to ``last`` to theirs in ``out``, in this thread."""
        _multiply(self.starts, self.columns, self.values, matrix, out, first, last)

    def transposed(self) -> BlockedRows:
        """Entries by column: rows of the result are columns of this one."""
        n_blocks = -(-self.n_rows // BLOCK)
        starts = np.zeros((self.n_columns, n_blocks + 1), dtype=np.int64)
        columns, values = np.empty_like(self.columns), np.empty_like(self.values)
        _transpose(self.starts, self.columns, self.values, starts, columns, values)
        return BlockedRows(starts, columns, values, self.n_rows)


@njit(inline="always")
def _add_rows(out, matrix, columns, values, low, high, a, b):  # type: ignore[no-untyped-def]
    """Add values x rows of the matrix to out, eight at a time: out is loaded and stored once for eight."""
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


# Reassociation and contraction let the compiler use fused multiply-add; it must not assume that there is no NaN.
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
    # Rows come in order, so that blocks of a column fill up one after the other.
    place = new_starts[:, 0].copy()
    for row in range(n_rows):
        for p in range(starts[row, 0], starts[row, -1]):
            q = place[columns[p]]
            place[columns[p]] = q + 1
            new_columns[q] = row
            new_values[q] = values[p]
