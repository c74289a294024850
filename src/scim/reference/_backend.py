"""What a way of searching has to offer."""

from __future__ import annotations

from typing import Protocol

import numpy as np

BACKENDS = ("auto", "exact", "pynndescent")


class Backend(Protocol):
    """Finds nearest neighbours among fixed vectors, int16 (n_i, d) of each segment."""

    name: str
    segments: list[np.ndarray]

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Find neighbours.

        Parameters
        ----------
        queries
            Unit vectors, float32 (m, d).
        k
            Neighbours of each, no more than there are cells that may be returned.
        allowed
            Cells that may be returned, bool (n,); None: all that have a direction.

        Returns
        -------
        Positions int64 (m, k) and cosine distances float32 (m, k), nearest first, ties by position.
        """
        ...


def make_backend(name: str, segments: list[np.ndarray], *, seed: int = 0) -> Backend:
    """Open a backend by name over the vectors of all segments, int16 (n_i, d)."""
    if name == "pynndescent":
        from ._pynndescent import PyNNDescentBackend

        return PyNNDescentBackend(segments, seed=seed)
    from ._exact import ExactBackend

    return ExactBackend(segments)
