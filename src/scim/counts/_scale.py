"""Bring values to one scale: counts to log1p of 1e4 a cell, and scaled values back to counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._kinds import _WHOLE, TARGET_SUM, InputKind, check_values

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Counts that are small enough to tell multiples by; no cell has more of a gene than the most.
_SMALL = 20


_MOST_COUNTS = 2**31


def lognormal_in_place(X: csr_matrix, kind: InputKind) -> csr_matrix:
    """Bring rows to log1p of 1e4 per cell, in place.

    Counts are scaled to 1e4 over the given columns and logged; log1p values are kept, rescaled where their sum per cell
    is known to be another one. Cells without counts stay zero.

    Parameters
    ----------
    X
        float32 CSR (n_cells, n_genes), overwritten.
    kind
        What its values are.

    Raises
    ------
    ValueError
        A value is negative, NaN or infinite: :func:`input_kind` looks at some rows only.
    """
    check_values(X.data)
    if kind.kind == "counts":
        sums = np.asarray(X.sum(axis=1), dtype=np.float64).ravel()
        scale = np.divide(TARGET_SUM, sums, out=np.zeros_like(sums), where=sums > 0).astype(np.float32)
        X.data *= np.repeat(scale, np.diff(X.indptr))
        np.log1p(X.data, out=X.data)
    elif kind.target_sum is not None and abs(kind.target_sum - TARGET_SUM) > 1e-3 * TARGET_SUM:
        np.expm1(X.data, out=X.data)
        X.data *= np.float32(TARGET_SUM / kind.target_sum)
        np.log1p(X.data, out=X.data)
    return X


def as_counts(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Undo the scaling of counts: values of a cell that are no whole numbers are divided by one count.

    That is a cell's smallest value where the others are multiples of it, and else the tenth part from below: counts
    without ambient RNA have residues that are none.

    Parameters
    ----------
    values, indptr
        Linear values of a CSR matrix, (nnz,), and where each cell's begin, (n + 1,).

    Returns
    -------
    Counts, int64 (nnz,).

    Examples
    --------
    >>> import numpy as np
    >>> as_counts(np.array([2.5, 5.0, 2.0, 4.0]), np.array([0, 2, 4])).tolist()
    [1, 2, 2, 4]
    """
    lengths = np.diff(indptr)
    lengths, starts = lengths[lengths > 0], indptr[:-1][lengths > 0]
    if not len(starts):
        return np.zeros(0, dtype=np.int64)
    ordered = np.where(values > 0, values, np.inf)
    ordered = ordered[np.lexsort((ordered, np.repeat(np.arange(len(starts)), lengths)))]
    smallest, n_positive = ordered[starts], np.add.reduceat(values > 0, starts)
    # Landmarks are kept to three digits, which hide the pattern of large ones.
    ratio = values / np.repeat(smallest, lengths)
    small = (values > 0) & (ratio < _SMALL)
    n_small, n_multiple = (
        np.add.reduceat(some, starts) for some in (small, small & (np.abs(ratio - np.round(ratio)) < 0.06))
    )
    scaled = (n_small > 0.5 * n_positive) & (n_multiple > _WHOLE * n_small)
    unit = np.where(scaled, smallest, ordered[starts + n_positive // 10])
    unit[np.logical_and.reduceat(values == np.round(values), starts) | np.isinf(unit)] = 1
    return np.round(np.clip(values / np.repeat(unit, lengths), 0, _MOST_COUNTS)).astype(np.int64)
