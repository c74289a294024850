"""Read a matrix in blocks of rows: from memory, a file or a Dask array."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

#: Rows of a block; larger blocks need more memory and are hardly faster.
BLOCK_ROWS = 500


def iter_blocks(
    X: Any, *, chunk_size: int = BLOCK_ROWS, rows: slice | np.ndarray | None = None
) -> Iterator[tuple[slice, Any]]:
    """Yield blocks of rows, in order.

    Parameters
    ----------
    X
        Matrix (n, m): ndarray, CSR or CSC matrix or array, backed sparse dataset of anndata, HDF5 or zarr array, or a
        Dask array of any of these. Each block of a Dask array is computed once.
    chunk_size
        Rows of a block.
    rows
        Positions of the rows to visit, (n_rows,), or a slice or mask of them; all by default.

    Yields
    ------
    Positions of the block within ``rows`` (or within X), and the block: ndarray, CSR matrix or CSR array, with sorted
    columns and each entry once. It may share memory with ``X``: do not change it.
    """
    for span, block in _iter_stored(X, chunk_size, rows):
        yield span, _canonical(block)


def by_rows(X: Any) -> Any:
    """Return a matrix in a form that is read by rows; one that is stored by columns is converted, as a whole.

    What visits the rows of a matrix several times converts it once, with this function.
    """
    return X if hasattr(X, "dask") else _by_rows(X)


def _iter_stored(X: Any, chunk_size: int, rows: slice | np.ndarray | None) -> Iterator[tuple[slice, Any]]:
    """Yield blocks of rows with entries as they are stored."""
    from scipy import sparse

    if rows is None and hasattr(X, "dask"):
        yield from _iter_dask(X, chunk_size)
        return
    source = _by_rows(X)
    if rows is None:
        for span in _spans(0, X.shape[0], chunk_size):
            yield span, _view(source, span) if sparse.issparse(source) else _in_memory(source[span])
        return
    if isinstance(rows, slice) and not hasattr(X, "dask") and rows.indices(X.shape[0])[2] == 1:
        first, last, _ = rows.indices(X.shape[0])
        for span in _spans(first, last, chunk_size):
            block = _view(source, span) if sparse.issparse(source) else _in_memory(source[span])
            yield slice(span.start - first, span.stop - first), block
        return
    chosen = np.arange(X.shape[0])[rows]
    for span in _spans(0, len(chosen), chunk_size):
        yield span, _in_memory(_take(source, chosen[span]))


def _canonical(block: Any) -> Any:
    """Sort the columns of each row of a sparse block, and add up entries that are stored several times."""
    from scipy import sparse

    if not sparse.issparse(block) or block.has_canonical_format:
        return block
    # Small integers could overflow when they are added.
    small = block.dtype.kind in "iu" and block.dtype.itemsize < 4
    block = block.astype(np.float32, copy=True) if small else block.copy()
    block.sum_duplicates()
    return block


def read_ahead(chunks: Iterator[tuple[slice, Any]], X: Any) -> Iterator[tuple[slice, Any]]:
    """Yield the blocks in ``chunks``; if ``X`` is not in memory, read the next block while the last is worked on.

    Parameters
    ----------
    chunks
        Blocks of ``X``, from :func:`iter_blocks`.
    X
        The matrix.
    """
    from scipy import sparse

    if isinstance(X, np.ndarray) or sparse.issparse(X):
        yield from chunks
        return
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = reader.submit(next, chunks, None)
            yield chunk


def _spans(start: int, stop: int, size: int) -> Iterator[slice]:
    for first in range(start, stop, size):
        yield slice(first, min(first + size, stop))


def _view(source: Any, span: slice) -> Any:
    """Rows of a CSR matrix, without a copy of its values."""
    start, stop = source.indptr[span.start], source.indptr[span.stop]
    parts = (source.data[start:stop], source.indices[start:stop], source.indptr[span.start : span.stop + 1] - start)
    block = type(source)(parts, shape=(span.stop - span.start, source.shape[1]), copy=False)
    if source.has_canonical_format:  # known once for all blocks
        block.has_canonical_format = True
    return block


def _iter_dask(X: Any, chunk_size: int) -> Iterator[tuple[slice, Any]]:
    """Compute each Dask block once, small ones together, and cut the results into chunks."""
    ends = np.cumsum(X.chunks[0]).tolist()
    start = 0
    for i, end in enumerate(ends):
        if i + 1 < len(ends) and ends[i + 1] - start <= chunk_size:
            continue
        part = _in_memory(X[start:end])
        for span in _spans(start, end, chunk_size):
            yield span, part[span.start - start : span.stop - start]
        start = end


def _by_rows(X: Any) -> Any:
    """``X`` in a form that is fast to slice by rows."""
    from scipy import sparse

    if sparse.issparse(X) and X.format != "csr":
        return X.tocsr()
    # A CSC file must be read whole to get rows: once is faster than once per block.
    if getattr(X, "format", None) == "csc" and hasattr(X, "to_memory"):
        return X.to_memory().tocsr()
    return X


def _take(source: Any, rows: np.ndarray) -> Any:
    """Rows of ``source`` in the given order; files are read by sorted distinct rows."""
    from scipy import sparse

    if isinstance(source, np.ndarray) or sparse.issparse(source):
        return source[rows]
    distinct, place = np.unique(rows, return_inverse=True)
    part = _in_memory(source[distinct])
    return part if np.array_equal(distinct, rows) else part[place]


def _in_memory(part: Any) -> Any:
    from scipy import sparse

    if hasattr(part, "compute"):  # Dask
        part = part.compute()
    if hasattr(part, "to_memory"):  # a backed sparse dataset
        part = part.to_memory()
    if sparse.issparse(part):
        return part if part.format == "csr" else part.tocsr()
    part = np.asarray(part)
    return part.astype(np.float32) if part.dtype == np.float16 else part  # SciPy has no float16 sparse matrices
