"""Approximate search with pynndescent; the index lives in memory and is built when it is first needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._exact import ExactBackend
from ._segments import to_float


class PyNNDescentBackend:
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
                'backend="pynndescent" needs pynndescent: pip install \'scim-tools[pynndescent]\'.'
            ) from error
        self.segments = segments
        self.seed = seed
        self.exact = ExactBackend(segments)
        self._index: Any = None

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Find neighbours, see :class:`~scim.reference._backend.Backend`."""
        rows, index = self._opened()
        if allowed is not None or 2 * k > len(rows):
            return self.exact.search(queries, k, allowed)
        found, distances = index.query(queries, k=k)
        positions = np.where(found < 0, -1, rows[found]).astype(np.int64)
        # Its metric is an alternative form of the cosine; ours is 1 - cos, computed the same for every backend.
        distances = np.where(found < 0, np.inf, np.maximum(distances, 0)).astype(np.float32)
        order = np.lexsort((positions, distances), axis=1)
        return np.take_along_axis(positions, order, 1), np.take_along_axis(distances, order, 1)

    def _opened(self) -> tuple[np.ndarray, Any]:
        """Positions of the cells that have a direction, and the index over them."""
        if self._index is None:
            from pynndescent import NNDescent

            vectors = np.concatenate([to_float(np.asarray(segment)) for segment in self.segments])
            rows = np.flatnonzero(vectors.any(axis=1))
            index = NNDescent(vectors[rows], metric="cosine", n_neighbors=30, random_state=self.seed)
            index.prepare()
            self._index = rows, index
        return self._index
