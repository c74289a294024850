"""Search where an index covers the first cells only: those added since are compared one by one."""

from __future__ import annotations

import numpy as np

from ._exact import ExactIndex
from ._protocol import Index
from ._vectors import split_at


class GrownIndex:
    """An index over the first cells, and exact search of the others, merged.

    Parameters
    ----------
    indexed
        Backend of the first cells.
    segments
        Vectors of each segment, int16 (n_i, d): of all cells.
    later
        Backend of the others; by default, one in this process.
    """

    def __init__(self, indexed: Index, segments: list[np.ndarray], later: Index | None = None) -> None:
        self.name, self.segments, self.indexed = indexed.name, segments, indexed
        self._n = sum(map(len, indexed.segments))
        self._later: Index = ExactIndex(split_at(segments, self._n)[1]) if later is None else later

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find neighbours, see :class:`~scim.index.Index`."""
        masks = (None, None) if allowed is None else (allowed[: self._n], allowed[self._n :])
        found = []
        for backend, mask, start in zip((self.indexed, self._later), masks, (0, self._n), strict=True):
            n = sum(map(len, backend.segments)) if mask is None else int(np.count_nonzero(mask))
            if n:
                positions, distances = backend.search(queries, min(k, n), mask, recall)
                found.append((np.where(positions < 0, -1, positions + start), distances))
        positions = np.concatenate([p for p, _ in found], axis=1)
        distances = np.concatenate([d for _, d in found], axis=1)
        # The first cells stand on the left, so that a stable sort leaves equal ones in the order of their positions.
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(positions, order, 1), np.take_along_axis(distances, order, 1)


class MaskedIndex:
    """A backend that never returns a cell that was removed.

    Parameters
    ----------
    backend
        What searches all cells.
    findable
        Cells that are left and have a direction, bool (n,).
    """

    def __init__(self, backend: Index, findable: np.ndarray) -> None:
        self.name, self.segments = backend.name, backend.segments
        self.backend, self._findable = backend, findable

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find neighbours, see :class:`~scim.index.Index`."""
        allowed = self._findable if allowed is None else allowed & self._findable
        return self.backend.search(queries, k, allowed, recall)
