"""Search an index with a filter, a largest distance and caps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .._validate import check_fraction, check_positive_int
from .._warn import warn
from ._capped import Cap, search_capped, under_caps
from ._protocol import MAX_HITS, Hits, Index
from ._vectors import both


@dataclass(frozen=True, eq=False)
class Query:
    """What to search for: unit vectors, float32 (m, d). A zero vector, of a cell without counts, gets no hits.

    ``k`` is the number of hits of each; None: all within ``max_distance``, the largest cosine distance of a hit, if
    any. ``caps`` are the most hits of a group, by column. See :meth:`Index.nearest` for ``allowed`` and ``recall``.
    """

    vectors: np.ndarray
    k: int | None = 50
    max_distance: float | None = None
    allowed: np.ndarray | None = None
    caps: Mapping[str, Cap] = field(default_factory=dict)
    recall: float | None = None

    def __post_init__(self) -> None:
        if self.max_distance is not None:
            check_fraction(self.max_distance, argument="max_distance", high=2.0)
        if self.recall is not None:
            check_fraction(self.recall, argument="recall")
        if self.k is not None:
            object.__setattr__(self, "k", check_positive_int(self.k, argument="k"))
        elif self.max_distance is None:
            raise ValueError("k=None gives all cells within max_distance=, which is missing. Give one of them.")


def check_queries(vectors: np.ndarray, n_latent: int) -> np.ndarray:
    """Check queries and scale them to length 1, float32 (m, n_latent); zero vectors stay zero."""
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


def search(index: Index, query: Query) -> Hits:
    """Search an index; a warning says so if fewer than ``k`` cells may be found."""
    directed = np.flatnonzero(query.vectors.any(axis=1))
    queries, caps = query.vectors[directed], list(query.caps.values())
    if query.k is None:
        assert query.max_distance is not None  # Query made sure
        found = index.within(queries, query.max_distance, query.allowed, MAX_HITS)
        found = under_caps(found, caps) if caps else found
        hits = Hits.none(len(query.vectors), found.indices.shape[1])
        hits.put(directed, found)
        return hits
    available = index.vectors.count(both(query.allowed, index.findable))
    if query.k > available:
        warn(f"k={query.k} is more than the {available:,} cells that may be found: the remaining hits are empty.")
    # No more columns than there can be hits, whatever was asked for.
    k = min(query.k, max(available, 1))
    hits = Hits.none(len(query.vectors), k)
    if available and len(directed):
        if caps:
            found = search_capped(index, queries, k, caps, allowed=query.allowed, recall=query.recall)
        else:
            found = index.nearest(queries, k, query.allowed, query.recall)
        hits.put(directed, found)
    if query.max_distance is not None:
        hits.indices[hits.distances > query.max_distance] = -1
        hits.distances[hits.indices < 0] = np.inf
    return hits
