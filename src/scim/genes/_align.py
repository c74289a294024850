"""Put the columns of a matrix in the order of genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def in_order(X: Any, target: np.ndarray, n_genes: int, *, sums: bool, logged: bool) -> csr_matrix:
    """Put each column of ``X`` in its place.

    Parameters
    ----------
    X
        ndarray, or CSR or CSC matrix or array, (n_cells, n_columns).
    target
        Place of each column, -1 for none, (n_columns,).
    n_genes
        Number of places.
    sums
        Whether several columns have one place: they are summed.
    logged
        Whether values are log1p values, which are summed on the linear scale.

    Returns
    -------
    float32 CSR matrix (n_cells, n_genes) with sorted indices, which shares no memory with ``X``.
    """
    from scipy import sparse

    if X.shape[1] != len(target):
        raise ValueError(f"X has {X.shape[1]} columns, but the genes of {len(target)} were mapped.")
    rows = sparse.csr_matrix(X)
    column = target[rows.indices]
    keep = column >= 0
    # Number of kept entries before each entry, which gives the new row pointers.
    before = np.zeros(len(keep) + 1, dtype=np.int64)
    np.cumsum(keep, out=before[1:])
    aligned = sparse.csr_matrix(
        (rows.data[keep].astype(np.float32), column[keep], before[rows.indptr]), shape=(X.shape[0], n_genes)
    )
    if sums:
        if logged:
            np.expm1(aligned.data, out=aligned.data)
        aligned.sum_duplicates()
        if logged:
            np.log1p(aligned.data, out=aligned.data)
    else:
        aligned.has_canonical_format = False
        aligned.sort_indices()
    return aligned
