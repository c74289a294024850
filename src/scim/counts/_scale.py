"""Bring values to one scale: counts to log1p of 1e4 per cell, and scaled values back to counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._kinds import WHOLE_SHARE, InputKind, check_values
from ._sample import TARGET_SUM

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Multiples of a cell's smallest value are looked for below this multiple: rounding hides larger ones.
_MULTIPLES_BELOW = 20
#: A value within this distance of a whole multiple is one: landmarks are kept to three digits.
_MULTIPLE_TOLERANCE = 0.06
#: Largest count of a gene in a cell.
_MAX_COUNT = 2**31


def lognormal(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Scale the counts of each cell to 1e4, and take log1p.

    Parameters
    ----------
    values, indptr
        Counts of a CSR matrix, (nnz,), and the start of each cell's, (n + 1,).

    Returns
    -------
    float32 (nnz,); 0 in cells without counts.
    """
    cells = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    sums = np.bincount(cells, weights=values, minlength=len(indptr) - 1)
    scaled = values * (TARGET_SUM / np.maximum(sums, 1e-12)).astype(np.float32)[cells]
    return np.log1p(scaled, out=scaled)


def lognormal_in_place(X: csr_matrix, kind: InputKind) -> csr_matrix:
    """Bring rows to log1p of 1e4 per cell, in place.

    Counts, or what log1p was taken of, are scaled to 1e4 over the given columns and logged. So log1p values give what
    the counts of the same cells give, whichever other columns they were scaled over. Cells without counts stay zero.

    Parameters
    ----------
    X
        float32 CSR (n_cells, n_genes), overwritten.
    kind
        Whether its values are counts or natural logarithms.

    Raises
    ------
    ValueError
        A value is negative, NaN or infinite: :func:`input_kind` looks at a sample of the rows.
    """
    check_values(X.data)
    if kind.kind == "log1p":
        with np.errstate(over="ignore"):
            np.expm1(X.data, out=X.data)
        check_values(X.data)
    X.data = lognormal(X.data, X.indptr)
    return X


def gene_moments(X: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each gene over the cells of a CSR matrix (n_cells, n_genes), each (n_genes,)."""
    from sklearn.utils.sparsefuncs import mean_variance_axis

    mean, variance = mean_variance_axis(X, axis=0)
    return np.asarray(mean), np.asarray(variance)


def as_counts(values: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Undo the scaling of counts: divide the values of a cell by the value of one count, unless all are whole numbers.

    The value of one count is the smallest value of the cell if the others are multiples of it. Otherwise it is the
    value that a tenth of the cell's values are below: counts corrected for ambient RNA leave residues below one count.

    Parameters
    ----------
    values, indptr
        Linear values of a CSR matrix, (nnz,), and the start of each cell's, (n + 1,).

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
    ratio = values / np.repeat(smallest, lengths)
    small = (values > 0) & (ratio < _MULTIPLES_BELOW)
    is_multiple = small & (np.abs(ratio - np.round(ratio)) < _MULTIPLE_TOLERANCE)
    n_small, n_multiple = np.add.reduceat(small, starts), np.add.reduceat(is_multiple, starts)
    scaled = (n_small > 0.5 * n_positive) & (n_multiple > WHOLE_SHARE * n_small)
    unit = np.where(scaled, smallest, ordered[starts + n_positive // 10])
    unit[np.logical_and.reduceat(values == np.round(values), starts) | np.isinf(unit)] = 1
    return np.round(np.clip(values / np.repeat(unit, lengths), 0, _MAX_COUNT)).astype(np.int64)
