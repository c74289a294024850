"""Index: what every kind of index offers. Hits: what its searches give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ._vectors import FixedVectors

#: Most hits of one search within a distance. Ten columns of them take about half a gigabyte.
MAX_HITS = 5_000_000


@dataclass(frozen=True, eq=False)
class Hits:
    """Nearest reference cells of m queries.

    Attributes
    ----------
    indices
        Rows of the reference, int64 (m, k), nearest first, equal ones by row; -1 where there is no hit.
    distances
        Cosine distances 1 - cos, float32 (m, k), from 0 to 2; inf where there is no hit.
    """

    indices: np.ndarray
    distances: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    @classmethod
    def none(cls, m: int, k: int) -> Hits:
        """No hits, in ``k`` empty places for each of ``m`` queries."""
        return cls(np.full((m, k), -1, dtype=np.int64), np.full((m, k), np.inf, dtype=np.float32))

    @classmethod
    def of(cls, indices: np.ndarray, similarity: np.ndarray) -> Hits:
        """Hits with the distances of cosine similarities, float32 (m, k)."""
        return cls(indices, np.where(indices < 0, np.float32(np.inf), np.clip(1.0 - similarity, 0.0, 2.0)))

    @classmethod
    def merged(cls, parts: Sequence[Hits], k: int | None) -> Hits:
        """Merge hits of the same queries among different cells: nearest first, equal ones by position.

        ``k`` is the number of hits to keep of each query; None: all.
        """
        indices = np.concatenate([part.indices for part in parts], axis=1)
        distances = np.concatenate([part.distances for part in parts], axis=1)
        if k is None:
            k = int((indices >= 0).sum(axis=1).max(initial=0))
        order = np.lexsort((indices, distances), axis=1)[:, :k]
        return cls(np.take_along_axis(indices, order, 1), np.take_along_axis(distances, order, 1))

    @classmethod
    def stacked(cls, parts: Sequence[Hits], k: int | None = None) -> Hits:
        """Put hits of several groups of queries below one another, ``k`` columns. None: as many as the widest has."""
        k = max((part.indices.shape[1] for part in parts), default=0) if k is None else k
        hits, start = cls.none(sum(map(len, parts)), k), 0
        for part in parts:
            hits.put(slice(start, start + len(part)), part)
            start += len(part)
        return hits

    def put(self, rows: np.ndarray | slice, hits: Hits) -> None:
        """Write ``hits``, which have no more places, to the first places of the queries ``rows``."""
        width = hits.indices.shape[1]
        self.indices[rows, :width], self.distances[rows, :width] = hits.indices, hits.distances

    def moved(self, start: int) -> Hits:
        """Add ``start`` to all positions."""
        return Hits(np.where(self.indices < 0, -1, self.indices + start), self.distances)

    def filled(self, other: Callable[[np.ndarray], Hits]) -> Hits:
        """Search queries with empty places again: ``other`` takes their numbers, int64 (s,). Replace hits in place."""
        short = np.flatnonzero((self.indices < 0).any(axis=1))
        if len(short):
            self.put(short, other(short))
        return self


class Index(Protocol):
    """Nearest neighbours among fixed-point vectors, those of all cells.

    Users know it by its ``name``. ``findable`` are the cells that can be found, bool (n,); None: all that have a
    direction. ``local`` says whether searches read the vectors in this process, not on the workers of a cluster.
    """

    name: str
    vectors: FixedVectors
    findable: np.ndarray | None = None
    local: bool = True

    def nearest(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None, recall: float | None = None
    ) -> Hits:
        """Find the ``k`` nearest cells, no more than may be found, of each query: unit vectors, float32 (m, d).

        ``allowed`` are the cells that may be found, bool (n,); None: all that have a direction. ``recall`` is the share
        of the true neighbours to find, if the search is not exact; None: what the index was built for.
        """
        ...

    def within(
        self, queries: np.ndarray, max_distance: float, allowed: np.ndarray | None = None, limit: int = MAX_HITS
    ) -> Hits:
        """Find every cell within a cosine distance, exactly; see :meth:`nearest` for the queries and ``allowed``.

        There are as many places as the query with most hits needs. If all queries together have more than ``limit``
        hits, a ValueError is raised.
        """
        ...


class ApproximateIndex(Index):
    """An index that leaves some searches to an exact one of the same cells.

    These are searches within a distance, or where it would not be faster.
    """

    def __init__(self, exact: Index) -> None:
        self.exact, self.vectors, self.local = exact, exact.vectors, exact.local

    def nearest(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None, recall: float | None = None
    ) -> Hits:
        """Find the nearest cells, see :meth:`Index.nearest`; exactly for queries that the index finds too few for."""
        found = self._search(queries, k, allowed, recall) if len(queries) else None
        if found is None:
            return self._compare(queries, k, allowed)
        return found.filled(lambda short: self._compare(queries[short], k, allowed))

    def within(
        self, queries: np.ndarray, max_distance: float, allowed: np.ndarray | None = None, limit: int = MAX_HITS
    ) -> Hits:
        """Find every cell within a distance, see :meth:`Index.within`."""
        return self.exact.within(queries, max_distance, allowed, limit)

    def _search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None) -> Hits | None:
        """Search the index; None if an exact search is faster."""
        raise NotImplementedError

    def _compare(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> Hits:
        """Compare the queries with every cell."""
        return self.exact.nearest(queries, k, allowed)


def check_limit(n_found: int, limit: int, max_distance: float) -> None:
    """Raise a ValueError if a search within a distance has more than ``limit`` hits."""
    if n_found > limit:
        raise ValueError(
            f"More than {limit:,} cells are within max_distance={max_distance:g}. Give a smaller one, fewer "
            "queries, a filter, or k=."
        )
