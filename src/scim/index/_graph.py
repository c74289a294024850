"""Approximate search with pynndescent; the index lives in memory and is built when it is first needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._exact import ExactIndex
from ._protocol import distances_of
from ._vectors import blocks, take_vectors

#: Fewer cells than this are searched exactly: that is quicker than the graph, and graphs of a few cells are poor.
_SMALL = 1_000
#: Hits whose distances are computed at a time.
_HITS = 200_000


class GraphIndex:
    """Graph search. pynndescent cannot filter, so a filtered search is exact.

    Parameters
    ----------
    segments
        Vectors of each segment, int16 (n_i, d).
    seed
        Seed of the graph.
    """

    name = "pynndescent"

    def __init__(self, segments: list[np.ndarray], *, seed: int = 0) -> None:
        try:
            import pynndescent  # noqa: F401 - fails now rather than at the first search
        except ImportError as error:
            raise ImportError(
                "backend=\"pynndescent\" needs pynndescent: pip install 'scim-tools[pynndescent]'."
            ) from error
        self.segments = segments
        self.seed = seed
        self.exact = ExactIndex(segments)
        self._index: tuple[np.ndarray, Any] | None = None

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find neighbours, see :class:`~scim.index.Index`."""
        n_cells = sum(map(len, self.segments))
        if allowed is not None or n_cells < max(_SMALL, 2 * k) or not len(queries):
            return self.exact.search(queries, k, allowed)
        rows, index = self._opened()
        if len(rows) < 2 * k:
            return self.exact.search(queries, k, allowed)
        found, _ = index.query(queries, k=k)
        positions = np.where(found < 0, -1, rows[found]).astype(np.int64)
        # Its distances are approximations of their own; ours are the same for every backend.
        distances = np.full(positions.shape, np.inf, dtype=np.float32)
        for i in range(0, len(queries), max(1, _HITS // k)):
            part = slice(i, i + max(1, _HITS // k))
            vectors = take_vectors(self.segments, positions[part].clip(0).ravel()).reshape(*positions[part].shape, -1)
            similarity = np.einsum("md,mkd->mk", queries[part], vectors)
            distances[part] = distances_of(positions[part], similarity)
        order = np.lexsort((positions, distances), axis=1)
        return np.take_along_axis(positions, order, 1), np.take_along_axis(distances, order, 1)

    def _opened(self) -> tuple[np.ndarray, Any]:
        """Positions of the cells that have a direction, and the index over them."""
        if self._index is None:
            from pynndescent import NNDescent

            parts = list(blocks(self.segments))
            rows = np.concatenate([rows for rows, _ in parts]) if parts else np.empty(0, dtype=np.int64)
            if len(rows) < _SMALL // 2:
                return rows[:0], None
            vectors = np.concatenate([vectors for _, vectors in parts])
            index = NNDescent(vectors, metric="cosine", n_neighbors=30, random_state=self.seed)
            index.prepare()
            self._index = rows, index
        return self._index
