"""Lists of cells around centres: searched list by list for many queries at once, so that products do the work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .._compiled import njit
from .._threads import in_threads, one_thread_of_blas
from ._kernels import distance_of, key_of, position_of, similarity_of, to_unit
from ._protocol import no_hits

#: Queries that are multiplied with a list at a time.
_QUERIES = 1_024
#: Similarities of which the largest is looked at before each by itself.
_AT_ONCE = 32


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
        positions, distances = no_hits(len(queries), k)
        # Twice as many places as cells wanted: the worse half is thrown out when they are taken.
        keys = np.empty((len(queries), 2 * k), dtype=np.uint64)
        taken, floor = np.zeros(len(queries), dtype=np.int64), np.full(len(queries), -np.inf, dtype=np.float32)
        # Neighbours side by side: a thread's queries visit the same lists then.
        order = np.argsort(visits[:, 0], kind="stable")

        def work(first: int, last: int) -> None:
            mine = order[first:last]
            # The nearest list first: what it holds is better than most of the others do.
            for some in (visits[mine, :1], visits[mine, 1:]):
                for part, rows in self._visited(some, allowed):
                    _offer(_take(segments, rows), rows, queries, mine[part], keys, taken, floor)
            _finish(mine, keys, taken, positions, distances)

        with one_thread_of_blas():
            in_threads(len(queries), work)
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
    """Vectors of some cells, as :func:`~scim.index._vectors.take_vectors` does, without holding the GIL."""
    taken = np.empty((len(rows), segments[0].shape[1]), dtype=np.float32)
    starts = np.cumsum([0, *map(len, segments)])
    # Rows ascend, so that those of a segment follow one another.
    bounds = np.searchsorted(rows, starts)
    for segment, start, a, b in zip(segments, starts[:-1], bounds[:-1], bounds[1:], strict=True):
        to_unit(segment, rows[a:b] - start, taken[a:b])
    return taken


@njit(nogil=True)
def _offer(vectors, rows, queries, which, keys, taken, floor):  # type: ignore[no-untyped-def]
    """Compare cells, vectors (b, d) of ``rows`` (b,), with the queries ``which``, and keep the best of each."""
    block = np.empty((min(_QUERIES, len(which)), queries.shape[1]), dtype=np.float32)
    for start in range(0, len(which), _QUERIES):
        some = which[start : start + _QUERIES]
        for i in range(len(some)):
            block[i] = queries[some[i]]
        _keep_best(np.dot(block[: len(some)], vectors.T), some, rows, keys, taken, floor)


@njit(nogil=True)
def _keep_best(found, queries, rows, keys, taken, floor):  # type: ignore[no-untyped-def]
    """Offer the cells ``rows``, with their similarities (m, b), to ``queries`` (m,)."""
    half, n_rows = keys.shape[1] // 2, len(rows)
    for i in range(len(queries)):
        q = queries[i]
        n, worst = taken[q], floor[q]
        for start in range(0, n_rows, _AT_ONCE):
            end = min(start + _AT_ONCE, n_rows)
            # Nearly all are worse than what is held: nothing but this is done for them.
            if _largest(found[i, start:end]) < worst:
                continue
            for j in range(start, end):
                if found[i, j] >= worst:
                    keys[q, n] = key_of(found[i, j], rows[j])
                    n += 1
                    if n == 2 * half:
                        _best_first(keys[q], n, half)
                        n, worst = half, similarity_of(keys[q, half - 1])
        taken[q], floor[q] = n, worst


@njit(nogil=True, fastmath={"nnan", "nsz"})
def _largest(values):  # type: ignore[no-untyped-def]
    largest = values[0]
    for value in values:
        largest = max(largest, value)
    return largest


@njit(nogil=True)
def _best_first(keys, n, k):  # type: ignore[no-untyped-def]
    """Bring the ``k`` largest of ``n`` different numbers to the front, the least of them last (Hoare's selection)."""
    low, high = 0, n - 1
    while low < high:
        pivot = keys[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while keys[i] > pivot:
                i += 1
            while keys[j] < pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if k - 1 <= j:
            high = j
        elif k - 1 >= i:
            low = i
        else:
            return


@njit(nogil=True)
def _finish(queries, keys, taken, positions, distances):  # type: ignore[no-untyped-def]
    """Write the best of what is held, nearest first, to rows of positions and cosine distances (m, k)."""
    k = positions.shape[1]
    for q in queries:
        if taken[q] > k:
            _best_first(keys[q], taken[q], k)
        n = min(taken[q], k)
        for i, key in enumerate(np.sort(keys[q, :n])[::-1]):
            positions[q, i] = position_of(key)
            distances[q, i] = distance_of(similarity_of(key))
