"""Hits, and how filters and caps shape them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .._validate import check_fraction, check_positive_int
from .._warn import warn
from ._capped import _packed, _search_capped, _under_caps
from ._exact import within_distance
from ._protocol import Hits, Index, no_hits

#: Most hits of one search within a distance; ten columns of them take about half a gigabyte.
MAX_HITS = 5_000_000


def check_queries(vectors: np.ndarray, n_latent: int) -> np.ndarray:
    """Bring queries to float32 vectors of length 1 (m, n_latent); zero ones stay zero."""
    try:
        queries = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    except (ValueError, TypeError) as error:  # text, or rows of several lengths
        raise TypeError(f"vectors must be numbers (n_queries, {n_latent}), got {vectors!r:.60}.") from error
    if queries.ndim != 2 or queries.shape[1] != n_latent:
        raise ValueError(
            f"vectors must be (n_queries, {n_latent}), as the reference's encoder makes them, got {np.shape(vectors)}."
        )
    if not np.isfinite(queries).all():
        raise ValueError("vectors holds NaN or infinite values. Embed the cells again with scim.tl.embed.")
    largest = np.abs(queries).max(axis=1, keepdims=True, initial=0)
    odd = ((largest > 1e15) | (largest < 1e-15)) & (largest > 0)  # squares of these are too large or small
    queries = np.divide(queries, largest, out=queries.copy(), where=odd)
    length = np.linalg.norm(queries, axis=1, keepdims=True)
    return np.divide(queries, length, out=np.zeros_like(queries), where=length > 0)


def search(
    backend: Index,
    queries: np.ndarray,
    k: int | None,
    *,
    n_cells: int,
    allowed: np.ndarray | None,
    max_distance: float | None,
    groups: Mapping[str, tuple[np.ndarray, int]],
    recall: float | None = None,
    find_within: Callable[[np.ndarray, float, np.ndarray | None, int], tuple[np.ndarray, np.ndarray]] | None = None,
) -> Hits:
    """Search with a filter, a largest distance, and caps on hits per group.

    Parameters
    ----------
    backend
        Where to search.
    queries
        Vectors of length 1, or zero for a cell without counts, which gets no hits.
    k
        Hits of each query; None: all within ``max_distance``.
    n_cells
        Cells that have a direction.
    allowed
        Cells that may be returned, bool (n,), or None.
    max_distance
        Largest cosine distance of a hit.
    groups
        Column -> (group code of each cell, most hits of a group).
    recall
        Share of the true neighbours to find; None: what the index was built for.
    find_within
        Finds all cells within a distance, of queries, distance, ``allowed`` and most hits; by default in this process.
    """
    if max_distance is not None:
        check_fraction(max_distance, argument="max_distance", high=2.0)
    if recall is not None:
        check_fraction(recall, argument="recall")
    directed = np.flatnonzero(queries.any(axis=1))
    if k is None:
        if max_distance is None:
            raise ValueError("k=None gives all cells within max_distance=, which is missing. Give one of them.")
        if find_within is None:
            found = within_distance(backend.segments, queries[directed], max_distance, allowed, limit=MAX_HITS)
        else:
            found = find_within(queries[directed], max_distance, allowed, MAX_HITS)
        if groups:
            keep = _under_caps(found[0], groups)
            found = _packed(*found, keep, int(keep.sum(axis=1).max(initial=0)))
        return Hits(*_spread(found, directed, len(queries), found[0].shape[1]))
    k = check_positive_int(k, argument="k")
    available = n_cells if allowed is None else int(np.count_nonzero(allowed))
    if k > available:
        warn(f"k={k} is more than the {available:,} cells that may be found: the remaining hits are empty.")
    # No more columns than there can be hits, whatever was asked for.
    k = wanted = min(k, max(available, 1))
    if not (available and len(directed)):
        found = np.empty((len(directed), 0), dtype=np.int64), np.empty((len(directed), 0), dtype=np.float32)
    elif groups:
        local = backend.segments if find_within is None else None
        found = _search_capped(backend, queries[directed], wanted, available, allowed, groups, local, recall)
    else:
        found = backend.search(queries[directed], wanted, allowed, recall)
    indices, distances = _spread(found, directed, len(queries), k)
    if max_distance is not None:
        # Hits are sorted, so that those too far are the last ones.
        indices[distances > max_distance] = -1
        distances[indices < 0] = np.inf
    return Hits(indices, distances)


def _spread(found: tuple[np.ndarray, np.ndarray], rows: np.ndarray, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Put what was found for some of n queries in its place among k hits of all; nothing is -1 and inf."""
    indices, distances = no_hits(n, k)
    indices[rows, : found[0].shape[1]], distances[rows, : found[0].shape[1]] = found
    return indices, distances
