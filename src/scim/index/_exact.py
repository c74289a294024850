"""Exact search: products of blocks of vectors, of which the best are kept."""

from __future__ import annotations

import numpy as np

from .._threads import in_threads
from ._kernels import best_of, compare_rows
from ._protocol import MAX_HITS, Hits, Index, check_limit
from ._vectors import FixedVectors

#: Queries that are multiplied with a block of cells at a time.
QUERIES = 1_024
#: Cells that are compared one by one at a time.
_COMPARED_CELLS = 65_536
#: Cells that a thread compares in one step.
_THREAD_CELLS = 4_096
#: Similarities this close may be the same distance once it is rounded.
_ROUNDING = np.float32(2**-23)


class ExactIndex(Index):
    """Compare every query with every cell."""

    name = "exact"

    def __init__(self, vectors: FixedVectors) -> None:
        self.vectors = vectors

    def nearest(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None, recall: float | None = None
    ) -> Hits:
        """Find the nearest cells, see :meth:`Index.nearest`."""
        parts = [slice(i, i + QUERIES) for i in range(0, len(queries), QUERIES)]
        best = [_Best(len(queries[part]), k) for part in parts]
        for rows, block in self.vectors.blocks(allowed):
            for part, mine in zip(parts, best, strict=True):
                mine.offer(queries[part] @ block.T, rows)
        return Hits.stacked([mine.result() for mine in best], k)

    def within(
        self, queries: np.ndarray, max_distance: float, allowed: np.ndarray | None = None, limit: int = MAX_HITS
    ) -> Hits:
        """Find every cell within a distance, see :meth:`Index.within`."""
        parts, n_found = [], 0
        for rows, block in self.vectors.blocks(allowed):
            for start in range(0, len(queries), QUERIES):
                distance = np.clip(1.0 - queries[start : start + QUERIES] @ block.T, 0.0, 2.0)
                query, column = np.nonzero(distance <= np.float32(max_distance))
                parts.append((query + start, rows[column], distance[query, column]))
                n_found += len(query)
                check_limit(n_found, limit, max_distance)
        empty = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
        query, position, near = (np.concatenate(columns) for columns in zip(empty, *parts, strict=True))
        order = np.lexsort((position, near, query))
        counts = np.bincount(query, minlength=len(queries))
        place = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
        hits = Hits.none(len(queries), int(counts.max(initial=0)))
        hits.indices[query[order], place], hits.distances[query[order], place] = position[order], near[order]
        return hits


def nearest_of_others(vectors: FixedVectors, queries: np.ndarray, own: np.ndarray, groups: np.ndarray, k: int) -> Hits:
    """Find the k nearest cells of other groups than a query's own.

    ``own`` are the groups of the queries (m, d), (m,), and ``groups`` those of the cells, (n_cells,).
    """
    best = _Best(len(queries), k)
    for rows, block in vectors.blocks():
        similarity = queries @ block.T
        similarity[own[:, None] == groups[rows]] = -np.inf
        best.offer(similarity, rows)
    hits = best.result()
    same = (hits.indices >= 0) & (groups[hits.indices] == own[:, None])  # if there are too few others
    hits.indices[same], hits.distances[same] = -1, np.inf
    return hits


def nearest_elsewhere(
    vectors: FixedVectors,
    queries: np.ndarray,
    query_groups: np.ndarray,
    groups: np.ndarray,
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """Cosine distance of each query to its nearest cell of another group, float32 (m,); inf if there is none.

    Queries are unit vectors (m, d). Groups are those of the queries (m,) and of the cells (n,). ``allowed`` are the
    cells to compare with, bool (n,); None: all.
    """
    best = np.full(len(queries), -np.inf, dtype=np.float32)
    for rows, block in vectors.blocks(allowed):
        for i in range(0, len(queries), QUERIES):
            part = slice(i, i + QUERIES)
            similarity = queries[part] @ block.T
            similarity[query_groups[part, None] == groups[rows]] = -np.inf
            np.maximum(best[part], similarity.max(axis=1), out=best[part])
    return np.where(np.isfinite(best), np.clip(1.0 - best, 0.0, 2.0), np.inf).astype(np.float32)


def compare_each(vectors: FixedVectors, queries: np.ndarray, rows: np.ndarray, k: int) -> Hits:
    """Compare queries (m, d) with the cells ``rows``, which ascend, without bringing these to float32.

    Faster than :class:`ExactIndex` for a few queries: what takes time is memory, which each thread reads for itself.
    """
    best = np.zeros((len(queries), 0), dtype=np.uint64)
    for segment, start, inside in vectors.runs(rows):
        for mine in (inside[i : i + _COMPARED_CELLS] for i in range(0, len(inside), _COMPARED_CELLS)):
            keys = np.empty((len(queries), len(mine)), dtype=np.uint64)
            _compare_in_threads(segment, start, mine, queries, keys)
            best = np.concatenate([best, keys], axis=1)
            if best.shape[1] > k:
                best = np.partition(best, best.shape[1] - k, axis=1)[:, best.shape[1] - k :]
    return Hits.of(*best_of(best, k))


def _compare_in_threads(
    segment: np.ndarray, start: int, rows: np.ndarray, queries: np.ndarray, keys: np.ndarray
) -> None:
    def work(first: int, last: int) -> None:
        part = slice(first * _THREAD_CELLS, last * _THREAD_CELLS)
        compare_rows(segment, start, rows[part], queries, keys[:, part])

    in_threads(-(-len(rows) // _THREAD_CELLS), work)


class _Best:
    """The k most similar cells of each of n queries, among those offered so far."""

    def __init__(self, n: int, k: int) -> None:
        self.k = k
        self.positions = np.full((n, k), -1, dtype=np.int64)
        self.similarity = np.full((n, k), -np.inf, dtype=np.float32)
        self.floor: np.ndarray | None = None
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def offer(self, similarity: np.ndarray, rows: np.ndarray) -> None:
        """Add the similarities (n, b) to the cells ``rows`` (b,), which lie behind those of all earlier offers."""
        if self.floor is None:
            # The k-th of the first block: without it, all of that block would have to be sorted.
            n_below = max(similarity.shape[1] - self.k, 0)
            floor = np.partition(similarity, n_below, axis=1)[:, n_below] if n_below else np.float32(-np.inf)
            # Equal distances are sorted by position, however the similarities were rounded.
            better = similarity >= np.reshape(np.minimum(floor, 1) - _ROUNDING, (-1, 1))
        else:
            # An equal cell farther behind loses against those held already.
            better = similarity > self.floor[:, None]
        # Ten times as fast as nonzero of a matrix.
        query, column = np.divmod(np.flatnonzero(better), similarity.shape[1])
        self._waiting.append((query, rows[column], similarity[query, column]))
        if self.floor is None or sum(len(w[0]) for w in self._waiting) > self.positions.size:
            self._merge()

    def result(self) -> Hits:
        """Nearest first, equal ones by position."""
        self._merge()
        return Hits.of(self.positions, self.similarity)

    def _merge(self) -> None:
        if not self._waiting:
            return
        held = np.flatnonzero(self.positions >= 0)
        parts = [(held // self.k, self.positions.flat[held], self.similarity.flat[held]), *self._waiting]
        query, position, similarity = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        # One number to sort by, query and then distance: the bits of a float that is not negative sort as it does.
        # Equal ones of a query come in the order of their positions, which a stable sort keeps.
        distance = np.maximum(1.0 - similarity, 0.0).astype(np.float32).view(np.uint32)
        order = np.argsort((query << 32) | distance, kind="stable")
        query = query[order]
        rank = np.arange(len(query)) - np.searchsorted(query, np.arange(len(self.positions)))[query]
        best = rank < self.k
        order, query, rank = order[best], query[best], rank[best]
        self.positions[query, rank] = position[order]
        self.similarity[query, rank] = similarity[order]
        self.floor = self.similarity[:, -1].copy()
        self._waiting = []
