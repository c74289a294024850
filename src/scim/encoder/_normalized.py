"""From a block of X to normalised rows in the order of an encoder's genes, in one pass over its stored values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._compiled import njit
from .._threads import in_threads
from ..counts import TARGET_SUM, InputKind
from ._blocked import BLOCK, BlockedRows

if TYPE_CHECKING:
    from ..genes import GeneMap

#: What is done with a value, by kind of input.
_SCALE = 0
_KEEP = 1
_RESCALE = 2
#: Most counts are below this, and their logarithm is taken once for a cell.
_TABLE = 64


class UnusableValues(ValueError):
    """Values that are neither counts nor their logarithms; says which."""


def to_blocked_lognormal(block: Any, gene_map: GeneMap, kind: InputKind) -> BlockedRows:
    """Align, scale to 1e4 a cell and log1p the rows of a block of X.

    Does what :meth:`scim.genes.GeneMap.align` and ``lognormal_in_place`` do, without a copy between them.

    Parameters
    ----------
    block
        ndarray, or CSR matrix or array, (n_cells, n_columns).
    gene_map
        Which gene of the encoder each column is.
    kind
        What the values are.

    Returns
    -------
    Rows of log1p values, (n_cells, n_genes); a cell without counts has no entries.

    Raises
    ------
    UnusableValues
        A value is negative, NaN or infinite.
    """
    from scipy import sparse

    if block.shape[1] != len(gene_map.target):
        raise ValueError(f"X has {block.shape[1]} columns, but the genes of {len(gene_map.target)} were mapped.")
    target, n_genes = gene_map.target, len(gene_map.space)
    rows = sparse.csr_matrix(block.astype(np.float32) if block.dtype == np.float16 else block)
    if gene_map.has_duplicates or not rows.has_canonical_format:
        rows = gene_map.align(rows, logged=kind.kind == "log1p")
        rows.sum_duplicates()
        target = np.arange(n_genes, dtype=np.int32)
    data = rows.data.astype(np.float32, copy=False)
    indices, indptr = rows.indices.astype(np.int32, copy=False), rows.indptr.astype(np.int64, copy=False)
    what, factor = _KEEP, 1.0
    if kind.kind == "counts":
        what = _SCALE
    elif kind.target_sum is not None and abs(kind.target_sum - TARGET_SUM) > 1e-3 * TARGET_SUM:
        what, factor = _RESCALE, TARGET_SUM / kind.target_sum
    return _blocked(indptr, indices, data, target, n_genes, what, factor)


def blocked_rows(indptr: np.ndarray, columns: np.ndarray, values: np.ndarray, n_columns: int) -> BlockedRows:
    """Group the entries of CSR arrays by blocks of columns; what is not above zero is left out.

    Parameters
    ----------
    indptr, columns, values
        int64 (n_rows + 1,), and int32 and float32 (n_entries,).
    n_columns
        Columns of the matrix.
    """
    return _blocked(indptr, columns, values, np.arange(n_columns, dtype=np.int32), n_columns, _KEEP, 1.0)


def _blocked(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    target: np.ndarray,
    n_columns: int,
    what: int,
    factor: float,
) -> BlockedRows:
    n = len(indptr) - 1
    starts = np.zeros((n, -(-n_columns // BLOCK) + 1), dtype=np.int64)
    sums, valid = np.zeros(n), np.ones(n, dtype=bool)
    in_threads(n, lambda a, b: _count(indptr, indices, data, target, starts, sums, valid, a, b))
    if not valid.all():
        raise UnusableValues("negative, NaN or infinite values")
    # Each row holds its counts by block so far: now where they begin.
    ends = np.cumsum(starts[:, 1:].sum(axis=1))
    starts[:, 0] = np.concatenate([[0], ends[:-1]]) if n else 0
    np.cumsum(starts, axis=1, out=starts)
    n_entries = int(ends[-1]) if n else 0
    columns, values = np.empty(n_entries, dtype=np.int32), np.empty(n_entries, dtype=np.float32)
    in_threads(n, lambda a, b: _fill(indptr, indices, data, target, starts, sums, what, factor, columns, values, a, b))
    return BlockedRows(starts, columns, values, n_columns)


@njit(nogil=True)
def _count(indptr, indices, data, target, starts, sums, valid, first, last):  # type: ignore[no-untyped-def]
    """Entries of each row and block, the row's sum over the encoder's genes, and whether its values can be used."""
    for row in range(first, last):
        total = 0.0
        for p in range(indptr[row], indptr[row + 1]):
            gene, value = target[indices[p]], data[p]
            if not (value >= 0 and value < np.inf):
                valid[row] = valid[row] and gene < 0
            elif gene >= 0 and value > 0:
                starts[row, gene // BLOCK + 1] += 1
                total += value
        sums[row] = total


@njit(nogil=True)
def _fill(indptr, indices, data, target, starts, sums, what, factor, genes, values, first, last):  # type: ignore[no-untyped-def]
    table = np.empty(_TABLE, dtype=np.float32)
    place = np.empty(starts.shape[1], dtype=np.int64)
    for row in range(first, last):
        # An array assigned to another brings words on their shapes along, which take four times as long to compile.
        for block in range(len(place)):
            place[block] = starts[row, block]
        scale = np.float32(0)
        if what == _SCALE and sums[row] > 0:
            scale = np.float32(TARGET_SUM / sums[row])
            for count in range(_TABLE):
                table[count] = np.log1p(np.float32(count) * scale)
        for p in range(indptr[row], indptr[row + 1]):
            gene, value = target[indices[p]], data[p]
            if gene < 0 or not value > 0:
                continue
            q = place[gene // BLOCK]
            place[gene // BLOCK] = q + 1
            genes[q] = gene
            if what == _KEEP:
                values[q] = value
            elif what == _RESCALE:
                values[q] = np.log1p(np.expm1(value) * np.float32(factor))
            elif value < _TABLE and value == np.float32(int(value)):
                values[q] = table[int(value)]
            else:
                values[q] = np.log1p(value * scale)
