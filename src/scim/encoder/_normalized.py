"""Align and normalise a block of X to rows over an encoder's genes, in one pass over its stored values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._compiled import njit
from .._threads import in_threads
from ..counts import MIN_VALUES, TARGET_SUM, InputKind
from ._blocked import BLOCK, BlockedRows

if TYPE_CHECKING:
    from ..genes import GeneMap

#: Steps by kind of input: scale counts and take log1p.
_SCALE = 0
#: Undo log1p, scale and take log1p again.
_RESCALE = 1
#: Keep values.
_KEEP = 2
#: Counts below this, which are most, have their logarithm computed once per cell.
_TABLE_COUNTS = 64
#: Larger logarithms are no log1p values: their exponentials overflow.
_MAX_LOG = 80.0


class UnusableValues(ValueError):
    """Values are neither counts nor logarithms of counts; the message says what they are."""


class OtherScale(ValueError):
    """Some cells seem to be on another scale than the matrix."""


def to_blocked_lognormal(block: Any, gene_map: GeneMap, kind: InputKind, *, check: bool = False) -> BlockedRows:
    """Align the rows of a block of X to genes, scale them to 1e4 per cell, and take log1p: rows (n_cells, n_genes).

    log1p values are undone first, so that they give what counts of the same cells give. If ``check``, cells of whole
    numbers among log1p values, or of fractions among whole numbers, raise OtherScale. The result is that of
    :meth:`scim.genes.GeneMap.align` and ``lognormal_in_place``, without a copy in between. A cell without counts has no
    entries. The block is an ndarray, or a CSR matrix or array, (n_cells, n_columns). Values that are negative, NaN or
    infinite raise UnusableValues.
    """
    from scipy import sparse

    if block.shape[1] != len(gene_map.target):
        raise ValueError(f"X has {block.shape[1]} columns, but the genes of {len(gene_map.target)} were mapped.")
    target, n_genes = gene_map.target, len(gene_map.space)
    rows = sparse.csr_matrix(block.astype(np.float32) if block.dtype == np.float16 else block)
    if not rows.has_canonical_format:
        rows = rows.astype(np.float32, copy=True)
        rows.sum_duplicates()
    data = rows.data.astype(np.float32, copy=False)
    indices, indptr = rows.indices.astype(np.int32, copy=False), rows.indptr.astype(np.int64, copy=False)
    if gene_map.has_duplicates:
        data = _with_sums(data, indices, indptr, gene_map, logged=kind.kind == "log1p")
    fractions = np.zeros(rows.shape[0], dtype=np.int64)
    what = _SCALE if kind.kind == "counts" else _RESCALE
    blocked = _blocked(indptr, indices, data, target, n_genes, what, fractions)
    if check:
        _check_scale(blocked.lengths, fractions, kind)
    return blocked


def _check_scale(lengths: np.ndarray, fractions: np.ndarray, kind: InputKind) -> None:
    """Raise OtherScale if rows of many values have another share of values with a fraction than ``kind`` says."""
    many = lengths >= MIN_VALUES
    if kind.kind == "log1p":
        if (many & (fractions == 0)).any():
            raise OtherScale
    elif kind.is_whole and (many & (fractions > lengths // 2)).any():
        raise OtherScale


def _with_sums(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, gene_map: GeneMap, *, logged: bool
) -> np.ndarray:
    """Put the sum of the columns of one gene into the first of them, and 0 into the others, in each row."""
    place = np.flatnonzero(gene_map.repeated[indices])
    if not len(place):
        return data
    data = data.copy()
    rows = np.searchsorted(indptr, place, side="right") - 1
    key = rows * len(gene_map.space) + gene_map.target[indices[place]]
    values = data[place].astype(np.float64)
    _, first, of = np.unique(key, return_index=True, return_inverse=True)
    sums = np.bincount(of.ravel(), np.expm1(values) if logged else values)
    data[place] = 0
    data[place[first]] = np.log1p(sums) if logged else sums
    return data


def blocked_rows(indptr: np.ndarray, columns: np.ndarray, values: np.ndarray, n_columns: int) -> BlockedRows:
    """Group the entries of CSR arrays by blocks of columns, without those that are not above zero.

    The arrays are ``indptr`` int64 (n_rows + 1,), and ``columns`` and ``values``, int32 and float32 (n_entries,).
    """
    return _blocked(indptr, columns, values, np.arange(n_columns, dtype=np.int32), n_columns, _KEEP, None)


def _blocked(
    indptr: np.ndarray,
    indices: np.ndarray,
    data: np.ndarray,
    target: np.ndarray,
    n_columns: int,
    what: int,
    fractions: np.ndarray | None,
) -> BlockedRows:
    """Group entries by blocks of columns; ``fractions``, int64 (n_rows,), gets the number of values with a fraction."""
    n = len(indptr) - 1
    fractions = np.zeros(n, dtype=np.int64) if fractions is None else fractions
    starts = np.zeros((n, -(-n_columns // BLOCK) + 1), dtype=np.int64)
    sums, valid = np.zeros(n), np.ones(n, dtype=bool)
    in_threads(n, lambda a, b: _count(indptr, indices, data, target, what, starts, sums, valid, fractions, a, b))
    if not valid.all():
        raise UnusableValues("negative, NaN or infinite values")
    # `starts` holds the number of entries by row and block: turn it into positions.
    ends = np.cumsum(starts[:, 1:].sum(axis=1))
    starts[:, 0] = np.concatenate([[0], ends[:-1]]) if n else 0
    np.cumsum(starts, axis=1, out=starts)
    n_entries = int(ends[-1]) if n else 0
    columns, values = np.empty(n_entries, dtype=np.int32), np.empty(n_entries, dtype=np.float32)
    in_threads(n, lambda a, b: _fill(indptr, indices, data, target, starts, sums, what, columns, values, a, b))
    return BlockedRows(starts, columns, values, n_columns)


@njit(nogil=True)
def _count(indptr, indices, data, target, what, starts, sums, valid, fractions, first, last):  # type: ignore[no-untyped-def]
    """Count the entries of each row and block, sum the linear values of each row, and check its values."""
    most = np.float32(_MAX_LOG if what == _RESCALE else np.inf)
    for row in range(first, last):
        total, n_fractions = 0.0, 0
        for p in range(indptr[row], indptr[row + 1]):
            gene, value = target[indices[p]], data[p]
            if not (value >= 0 and value < most):
                valid[row] = valid[row] and gene < 0
            elif gene >= 0 and value > 0:
                starts[row, gene // BLOCK + 1] += 1
                total += np.expm1(value) if what == _RESCALE else value
                n_fractions += value != np.floor(value)
        sums[row] = total
        fractions[row] = n_fractions


@njit(nogil=True)
def _fill(indptr, indices, data, target, starts, sums, what, genes, values, first, last):  # type: ignore[no-untyped-def]
    table = np.empty(_TABLE_COUNTS, dtype=np.float32)
    place = np.empty(starts.shape[1], dtype=np.int64)
    for row in range(first, last):
        # A loop, since numba's array assignment takes four times as long to compile.
        for block in range(len(place)):
            place[block] = starts[row, block]
        scale = np.float32(0)
        if sums[row] > 0:
            scale = np.float32(TARGET_SUM / sums[row])
        if what == _SCALE:
            for count in range(_TABLE_COUNTS):
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
                values[q] = np.log1p(np.expm1(value) * scale)
            elif value < _TABLE_COUNTS and value == np.float32(int(value)):
                values[q] = table[int(value)]
            else:
                values[q] = np.log1p(value * scale)
