"""Lists of cells around centres: searched list by list for many queries at once, so that products do the work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit

from .._threads import in_threads, one_thread_of_blas
from ._heaps import before, sift, sort_heaps

#: Queries that are multiplied with a list at a time.
_QUERIES = 1_024


@dataclass(frozen=True, eq=False)
class Lists:
    """Centres, and the cells that are nearest to each.

    Attributes
    ----------
    centres
        float32 (n_lists, d).
    starts
        int64 (n_lists + 1,): where the cells of each list begin in ``rows``.
    rows
        int64 (n_cells,): positions of the cells, list by list, ascending within each.
    """

    centres: np.ndarray
    starts: np.ndarray
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.centres)

    @classmethod
    def of(cls, centres: np.ndarray, members: np.ndarray, rows: np.ndarray) -> Lists:
        """Group cells ``rows`` (n,), which are ascending, by their list ``members`` (n,)."""
        starts = np.concatenate([[0], np.cumsum(np.bincount(members, minlength=len(centres)))])
        return cls(np.ascontiguousarray(centres, dtype=np.float32), starts, rows[np.argsort(members, kind="stable")])

    def nearest(self, queries: np.ndarray, n: int) -> np.ndarray:
        """Find the lists with the ``n`` nearest centres, nearest first, int64 (m, n)."""
        import faiss

        _, found = faiss.knn(queries, self.centres, n)
        return found.astype(np.int64)

    def search(
        self, segments: list[np.ndarray], queries: np.ndarray, k: int, visits: np.ndarray, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the most similar cells of some lists.

        Each list is multiplied once with all queries that visit it, in blocks, instead of once with each: several times
        as fast as query by query.

        Parameters
        ----------
        segments
            Vectors of each segment, int16 (n_i, d).
        queries
            Unit vectors, float32 (m, d).
        k
            Cells of each.
        visits
            Lists that each query visits, int64 (m, v).
        allowed
            Cells that may be returned, bool (n,), or None.

        Returns
        -------
        Positions int64 and cosine distances float32 (m, k), nearest first, equal ones by position; -1 and inf where the
        lists hold fewer.
        """
        similarity = np.full((len(queries), k), -np.inf, dtype=np.float32)
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        # Neighbours side by side: a thread's queries visit the same lists then.
        order = np.argsort(visits[:, 0], kind="stable")

        def work(first: int, last: int) -> None:
            mine = order[first:last]
            for part, rows in self._visited(visits[mine], allowed):
                vectors = _take(segments, rows)
                for start in range(0, len(part), _QUERIES):
                    which = mine[part[start : start + _QUERIES]]
                    _keep_best(queries[which] @ vectors.T, which, rows, similarity, positions)
            sort_heaps(similarity, positions, mine)

        with one_thread_of_blas():
            in_threads(len(queries), work)
        distances = np.where(positions < 0, np.float32(np.inf), np.clip(1.0 - similarity, 0.0, 2.0))
        return positions, distances

    def _visited(self, visits: np.ndarray, allowed: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield, list by list, the queries that visit it (their place in ``visits``) and its cells."""
        by_list = np.argsort(visits, axis=None, kind="stable")
        visited = visits.ravel()[by_list]
        bounds = np.flatnonzero(np.diff(visited, prepend=-1, append=-1))
        for a, b in zip(bounds[:-1], bounds[1:], strict=True):
            rows = self.rows[self.starts[visited[a]] : self.starts[visited[a] + 1]]
            if allowed is not None:
                rows = rows[allowed[rows]]
            if len(rows):
                yield by_list[a:b] // visits.shape[1], rows


def _take(segments: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Vectors of some cells, as :func:`~scim.reference._segments.take_vectors` does, without holding the GIL."""
    taken = np.empty((len(rows), segments[0].shape[1]), dtype=np.float32)
    starts = np.cumsum([0, *map(len, segments)])
    # Rows ascend, so that those of a segment follow one another.
    bounds = np.searchsorted(rows, starts)
    for segment, start, a, b in zip(segments, starts[:-1], bounds[:-1], bounds[1:], strict=True):
        _to_float(segment, rows[a:b] - start, taken[a:b])
    return taken


@njit(cache=True, nogil=True)
def _to_float(segment, rows, out):  # type: ignore[no-untyped-def]
    """Bring rows of fixed-point numbers to length 1; zero vectors stay zero."""
    for i in range(len(rows)):
        total = np.float32(0)
        for j in range(segment.shape[1]):
            value = np.float32(segment[rows[i], j])
            out[i, j] = value
            total += value * value
        if total > 0:
            scale = np.float32(1) / np.sqrt(total)
            for j in range(segment.shape[1]):
                out[i, j] *= scale


@njit(cache=True, nogil=True)
def _keep_best(found, queries, rows, similarity, positions):  # type: ignore[no-untyped-def]
    """Offer the cells ``rows``, with their similarities (m, b), to the heaps of ``queries`` (m,)."""
    k = similarity.shape[1]
    for i in range(len(queries)):
        q = queries[i]
        worst = similarity[q, 0]
        for j in range(len(rows)):
            # Nearly all are worse than what is held: nothing but this comparison is done for them.
            if found[i, j] >= worst and before(worst, positions[q, 0], found[i, j], rows[j]):
                sift(similarity[q], positions[q], found[i, j], rows[j], k)
                worst = similarity[q, 0]
