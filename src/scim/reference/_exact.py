"""Exact search: products of blocks of vectors, the best of each block kept."""

from __future__ import annotations

import numpy as np

from ._segments import to_float

#: Reference cells, and queries, that are multiplied at a time: 64 MB of products.
_CELLS, _QUERIES = 16_384, 1_024


class ExactBackend:
    """Compare every query with every cell.

    Parameters
    ----------
    segments
        Vectors of each segment, int16 (n_i, d).
    """

    name = "exact"

    def __init__(self, segments: list[np.ndarray]) -> None:
        self.segments = segments

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Find neighbours, see :class:`~scim.reference._backend.Backend`."""
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        distances = np.full((len(queries), k), np.inf, dtype=np.float32)
        start = 0
        for segment in self.segments:
            for begin in range(0, len(segment), _CELLS):
                block = to_float(np.asarray(segment[begin : begin + _CELLS]))
                may = block.any(axis=1)
                if allowed is not None:
                    may &= allowed[start + begin : start + begin + len(block)]
                rows = np.flatnonzero(may)
                if len(rows):
                    self._merge(queries, block[rows], start + begin + rows, positions, distances)
            start += len(segment)
        return positions, distances

    @staticmethod
    def _merge(
        queries: np.ndarray, block: np.ndarray, rows: np.ndarray, positions: np.ndarray, distances: np.ndarray
    ) -> None:
        """Merge the neighbours from one block into those found so far, in place."""
        k = positions.shape[1]
        for first in range(0, len(queries), _QUERIES):
            part = slice(first, first + _QUERIES)
            found = 1.0 - queries[part] @ block.T
            np.maximum(found, 0.0, out=found)
            where = np.broadcast_to(rows, found.shape)
            if found.shape[1] > k:
                # Everything as near as the k-th stays, so that of equal ones those with the lowest position win.
                limit = np.partition(found, k - 1, axis=1)[:, k - 1 : k]
                width = int((found <= limit).sum(axis=1).max())
                best = np.argpartition(found, min(width, found.shape[1]) - 1, axis=1)[:, :width]
                found, where = np.take_along_axis(found, best, 1), np.take_along_axis(where, best, 1)
            found = np.concatenate([distances[part], found], axis=1)
            where = np.concatenate([positions[part], where], axis=1)
            order = np.lexsort((np.where(where < 0, np.iinfo(np.int64).max, where), found), axis=1)[:, :k]
            distances[part] = np.take_along_axis(found, order, 1)
            positions[part] = np.take_along_axis(where, order, 1)
