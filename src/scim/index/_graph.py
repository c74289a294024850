"""Approximate search with pynndescent. The index lives in memory and is built at the first search."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._exact import ExactIndex
from ._plan import IndexPlan
from ._protocol import ApproximateIndex, Hits
from ._vectors import FixedVectors

#: Fewer cells than this are searched exactly: that is faster, and graphs of few cells are poor.
GRAPH_FROM_CELLS = 1_000
#: Hits whose distances are computed at a time.
_HITS_AT_A_TIME = 200_000


class GraphIndex(ApproximateIndex):
    """Search a graph. pynndescent cannot filter, so a filtered search is exact."""

    name = "pynndescent"

    def __init__(self, vectors: FixedVectors, plan: IndexPlan) -> None:
        super().__init__(ExactIndex(vectors))
        self.seed = plan.seed
        self._index: tuple[np.ndarray, Any] | None = None

    def _search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None) -> Hits | None:
        if allowed is not None or len(self.vectors) < max(GRAPH_FROM_CELLS, 2 * k):
            return None
        rows, index = self._opened()
        if len(rows) < 2 * k:
            return None
        found, _ = index.query(queries, k=k)
        positions = np.where(found < 0, -1, rows[found]).astype(np.int64)
        # pynndescent approximates distances; ours are the same for every index.
        similarity = np.empty(positions.shape, dtype=np.float32)
        step = max(1, _HITS_AT_A_TIME // k)
        for part in (slice(i, i + step) for i in range(0, len(queries), step)):
            vectors = self.vectors.take(positions[part].clip(0).ravel()).reshape(*positions[part].shape, -1)
            similarity[part] = np.einsum("md,mkd->mk", queries[part], vectors)
        return Hits.merged([Hits.of(positions, similarity)], k)

    def _opened(self) -> tuple[np.ndarray, Any]:
        """Positions of the cells that have a direction, and the graph of them."""
        if self._index is None:
            from pynndescent import NNDescent

            parts = list(self.vectors.blocks())
            rows = np.concatenate([np.empty(0, dtype=np.int64), *(rows for rows, _ in parts)])
            if len(rows) < GRAPH_FROM_CELLS // 2:
                return rows[:0], None
            vectors = np.concatenate([vectors for _, vectors in parts])
            index = NNDescent(vectors, metric="cosine", n_neighbors=30, random_state=self.seed)
            index.prepare()
            self._index = rows, index
        return self._index
