"""Indexes made of others: with cells added since, and without cells that must not be found."""

from __future__ import annotations

import numpy as np

from ._exact import ExactIndex
from ._protocol import MAX_HITS, Hits, Index, check_limit
from ._vectors import FixedVectors, both


class GrownIndex(Index):
    """An index of the first cells, and exact search of the others, whose hits are merged.

    ``vectors`` are those of all cells. ``later`` is the index of the others; by default, exact search in this process.
    """

    def __init__(self, indexed: Index, vectors: FixedVectors, later: Index | None = None) -> None:
        self.name, self.vectors, self.indexed, self.local = indexed.name, vectors, indexed, indexed.local
        self._n = len(indexed.vectors)
        self._later = ExactIndex(vectors.split_at(self._n)[1]) if later is None else later

    def nearest(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None, recall: float | None = None
    ) -> Hits:
        """Find the nearest cells, see :meth:`Index.nearest`."""
        found = []
        for index, mask, start in self._parts(allowed):
            n = index.vectors.count(mask)
            if n:
                found.append(index.nearest(queries, min(k, n), mask, recall).moved(start))
        return Hits.merged(found, k)

    def within(
        self, queries: np.ndarray, max_distance: float, allowed: np.ndarray | None = None, limit: int = MAX_HITS
    ) -> Hits:
        """Find every cell within a distance, see :meth:`Index.within`."""
        parts = self._parts(allowed)
        hits = Hits.merged(
            [i.within(queries, max_distance, mask, limit).moved(start) for i, mask, start in parts], None
        )
        check_limit(int((hits.indices >= 0).sum()), limit, max_distance)
        return hits

    def _parts(self, allowed: np.ndarray | None) -> list[tuple[Index, np.ndarray | None, int]]:
        """Each index, its cells that are allowed, and the position of its first cell."""
        n = self._n
        first, others = (None, None) if allowed is None else (allowed[:n], allowed[n:])
        return [(self.indexed, first, 0), (self._later, others, n)]


class MaskedIndex(Index):
    """An index that returns only the cells that are ``findable``, bool (n,).

    ``removed`` says whether any of the other cells has a direction. If none has, every index skips them without a mask.
    """

    def __init__(self, index: Index, findable: np.ndarray, *, removed: bool = True) -> None:
        self.name, self.vectors, self.local = index.name, index.vectors, index.local
        self.index, self._removed = index, removed
        self.findable: np.ndarray = findable

    def nearest(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None, recall: float | None = None
    ) -> Hits:
        """Find the nearest cells, see :meth:`Index.nearest`."""
        return self.index.nearest(queries, k, self._mask(allowed), recall)

    def within(
        self, queries: np.ndarray, max_distance: float, allowed: np.ndarray | None = None, limit: int = MAX_HITS
    ) -> Hits:
        """Find every cell within a distance, see :meth:`Index.within`."""
        return self.index.within(queries, max_distance, self._mask(allowed), limit)

    def over(self, index: Index) -> MaskedIndex:
        """Apply the same mask to another index of the same cells."""
        return MaskedIndex(index, self.findable, removed=self._removed)

    def _mask(self, allowed: np.ndarray | None) -> np.ndarray | None:
        return None if allowed is None and not self._removed else both(allowed, self.findable)
