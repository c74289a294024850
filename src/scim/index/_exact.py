"""Exact search: products of blocks of vectors, the best of all blocks kept."""

from __future__ import annotations

import numpy as np

from ._protocol import check_limit, no_hits
from ._vectors import blocks

QUERIES = 1_024
#: Similarities this close may be the same distance, once it is rounded.
_ROUNDING = np.float32(2**-23)


class ExactIndex:
    """Compare every query with every cell.

    Parameters
    ----------
    segments
        Vectors of each segment, int16 (n_i, d).
    """

    name = "exact"

    def __init__(self, segments: list[np.ndarray]) -> None:
        self.segments = segments

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find neighbours, see :class:`~scim.index.Index`."""
        parts = [slice(i, i + QUERIES) for i in range(0, len(queries), QUERIES)]
        best = [_Best(len(queries[part]), k) for part in parts]
        for rows, block in blocks(self.segments, allowed):
            for part, mine in zip(parts, best, strict=True):
                mine.offer(queries[part] @ block.T, rows)
        found = [mine.result() for mine in best]
        if not found:
            return np.empty((0, k), dtype=np.int64), np.empty((0, k), dtype=np.float32)
        return np.concatenate([p for p, _ in found]), np.concatenate([d for _, d in found])


def nearest_of_others(
    segments: list[np.ndarray], queries: np.ndarray, own: np.ndarray, groups: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the k nearest cells of other groups than a query's own: positions and distances (m, k), -1 and inf for none.

    Parameters
    ----------
    segments
        Vectors of each segment, int16 (n_i, d).
    queries, own
        Unit vectors (m, d), and the group of each, (m,).
    groups
        Group of each cell, (n_cells,).
    k
        Cells of each query.
    """
    best = _Best(len(queries), k)
    for rows, block in blocks(segments):
        similarity = queries @ block.T
        similarity[own[:, None] == groups[rows]] = -np.inf
        best.offer(similarity, rows)
    positions, distances = best.result()
    same = (positions >= 0) & (groups[positions] == own[:, None])  # where others are too few
    positions[same], distances[same] = -1, np.inf
    return positions, distances


class _Best:
    """The k most similar cells of each of n queries, among those offered so far."""

    def __init__(self, n: int, k: int) -> None:
        self.k = k
        self.positions = np.full((n, k), -1, dtype=np.int64)
        self.similarity = np.full((n, k), -np.inf, dtype=np.float32)
        self.floor: np.ndarray | None = None
        self._waiting: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def offer(self, similarity: np.ndarray, rows: np.ndarray) -> None:
        """Take in the similarities (n, b) to the cells ``rows`` (b,), which lie behind those of all offers before."""
        if self.floor is None:
            # The k-th of the first block: without it, all of that block would have to be sorted.
            n_below = max(similarity.shape[1] - self.k, 0)
            floor = np.partition(similarity, n_below, axis=1)[:, n_below] if n_below else np.float32(-np.inf)
            # Equal distances are sorted by position, whatever rounding did to the similarities.
            better = similarity >= np.reshape(np.minimum(floor, 1) - _ROUNDING, (-1, 1))
        else:
            # An equal one further behind loses against those that are held already.
            better = similarity > self.floor[:, None]
        # Ten times as fast as nonzero of a matrix.
        query, column = np.divmod(np.flatnonzero(better), similarity.shape[1])
        self._waiting.append((query, rows[column], similarity[query, column]))
        if self.floor is None or sum(len(w[0]) for w in self._waiting) > self.positions.size:
            self._merge()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions and cosine distances (n, k), nearest first, equal ones by position; -1 and inf for none."""
        self._merge()
        distances = np.where(self.positions < 0, np.inf, np.clip(1.0 - self.similarity, 0.0, 2.0))
        return self.positions, distances.astype(np.float32)

    def _merge(self) -> None:
        if not self._waiting:
            return
        held = np.flatnonzero(self.positions >= 0)
        parts = [(held // self.k, self.positions.flat[held], self.similarity.flat[held]), *self._waiting]
        query, position, similarity = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        # One number to sort by, query and then distance: the bits of a float that is not negative sort as it does.
        # Those of a query come in the order of their positions where they are equal, and a stable sort leaves them so.
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


def within_distance(
    segments: list[np.ndarray], queries: np.ndarray, max_distance: float, allowed: np.ndarray | None, *, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find every cell within a distance.

    Parameters
    ----------
    segments
        Vectors of each segment, int16 (n_i, d).
    queries
        Unit vectors (m, d).
    max_distance
        Largest cosine distance.
    allowed
        Cells that may be returned, bool (n,); None: all that have a direction.
    limit
        Most hits in all.

    Returns
    -------
    Positions int64 and cosine distances float32, (m, hits of the query that has most), nearest first, equal ones by
    position; -1 and inf where a query has fewer.

    Raises
    ------
    ValueError
        There are more than ``limit`` hits.
    """
    parts, n_found = [], 0
    for rows, block in blocks(segments, allowed):
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
    positions, distances = no_hits(len(queries), int(counts.max(initial=0)))
    positions[query[order], place], distances[query[order], place] = position[order], near[order]
    return positions, distances


def nearest_elsewhere(
    segments: list[np.ndarray],
    queries: np.ndarray,
    query_groups: np.ndarray,
    groups: np.ndarray,
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """Cosine distance of each query to its nearest cell of another group, float32 (m,); inf where there is none.

    Parameters
    ----------
    segments
        Vectors of each segment, int16 (n_i, d).
    queries
        Unit vectors (m, d).
    query_groups, groups
        Group of each query (m,) and of each cell (n,).
    allowed
        Cells that count, bool (n,); None: all.
    """
    best = np.full(len(queries), -np.inf, dtype=np.float32)
    for rows, block in blocks(segments, allowed):
        for i in range(0, len(queries), QUERIES):
            part = slice(i, i + QUERIES)
            similarity = queries[part] @ block.T
            similarity[query_groups[part, None] == groups[rows]] = -np.inf
            np.maximum(best[part], similarity.max(axis=1), out=best[part])
    return np.where(np.isfinite(best), np.clip(1.0 - best, 0.0, 2.0), np.inf).astype(np.float32)
