"""Lists of cells around centres, each of which is multiplied with all queries that visit it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .._compiled import njit
from .._threads import in_threads, one_thread_of_blas
from ._kernels import distance_of, key_of, position_of, similarity_of, to_unit
from ._protocol import Hits
from ._vectors import FixedVectors

#: Queries that are multiplied with a list at a time.
_QUERIES = 1_024
#: Similarities that are skipped together if the largest of them is too small.
_SKIPPED_TOGETHER = 32


@dataclass(frozen=True, eq=False)
class Lists:
    """Lists of the cells that are nearest to each of some centres, float32 (n_lists, d).

    ``starts`` are the first places of the lists in ``rows``, int64 (n_lists + 1,). ``rows`` are the positions of the
    cells, list by list and ascending within each, int64 (n_cells,).
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
        self, vectors: FixedVectors, queries: np.ndarray, k: int, visits: np.ndarray, allowed: np.ndarray | None
    ) -> Hits:
        """Find the nearest cells of the lists that each query visits, ``visits`` int64 (m, v).

        Each list is multiplied once, in blocks, with all queries that visit it: several times as fast as one query
        after the other. Places are empty where the lists hold fewer cells. See :meth:`Index.nearest` for the others.
        """
        hits = Hits.none(len(queries), k)
        # Twice as many places as cells wanted: once they are taken, the worse half is dropped.
        keys = np.empty((len(queries), 2 * k), dtype=np.uint64)
        taken, floor = np.zeros(len(queries), dtype=np.int64), np.full(len(queries), -np.inf, dtype=np.float32)
        # Similar queries side by side, so that those of a thread visit the same lists.
        order = np.argsort(visits[:, 0], kind="stable")

        def work(first: int, last: int) -> None:
            mine = order[first:last]
            # The nearest list first: its cells are better than most cells of the others.
            for lists in (visits[mine, :1], visits[mine, 1:]):
                for part, rows in self._visited(lists, allowed):
                    _offer(_take(vectors, rows), rows, queries, mine[part], keys, taken, floor)
            _finish(mine, keys, taken, hits.indices, hits.distances)

        with one_thread_of_blas():
            in_threads(len(queries), work)
        return hits

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


def _take(vectors: FixedVectors, rows: np.ndarray) -> np.ndarray:
    """Read unit vectors of cells, which ascend, without holding the GIL; see :meth:`FixedVectors.take`."""
    taken, n = np.empty((len(rows), vectors.n_latent), dtype=np.float32), 0
    for segment, start, mine in vectors.runs(rows):
        to_unit(segment, mine - start, taken[n : n + len(mine)])
        n += len(mine)
    return taken


@njit(nogil=True)
def _offer(vectors, rows, queries, which, keys, taken, floor):  # type: ignore[no-untyped-def]
    """Compare cells, vectors (b, d) of ``rows`` (b,), with the queries ``which``, and keep the best of each."""
    block = np.empty((min(_QUERIES, len(which)), queries.shape[1]), dtype=np.float32)
    for start in range(0, len(which), _QUERIES):
        part = which[start : start + _QUERIES]
        for i in range(len(part)):
            block[i] = queries[part[i]]
        _keep_best(np.dot(block[: len(part)], vectors.T), part, rows, keys, taken, floor)


@njit(nogil=True)
def _keep_best(found, queries, rows, keys, taken, floor):  # type: ignore[no-untyped-def]
    """Offer the cells ``rows``, with their similarities (m, b), to ``queries`` (m,)."""
    half, n_rows = keys.shape[1] // 2, len(rows)
    for i in range(len(queries)):
        q = queries[i]
        n, worst = taken[q], floor[q]
        for start in range(0, n_rows, _SKIPPED_TOGETHER):
            end = min(start + _SKIPPED_TOGETHER, n_rows)
            # Nearly all are worse than the cells held, and are skipped.
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
    """Move the ``k`` largest of ``n`` different numbers to the front, the least of them last (Hoare's selection)."""
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
    """Write the best cells held, nearest first, to rows of positions and cosine distances (m, k)."""
    k = positions.shape[1]
    for q in queries:
        if taken[q] > k:
            _best_first(keys[q], taken[q], k)
        n = min(taken[q], k)
        for i, key in enumerate(np.sort(keys[q, :n])[::-1]):
            positions[q, i] = position_of(key)
            distances[q, i] = distance_of(similarity_of(key))
