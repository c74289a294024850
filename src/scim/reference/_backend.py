"""What a way of searching has to offer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

BACKENDS = ("auto", "exact", "faiss", "pynndescent")


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


def make_backend(
    name: str,
    segments: list[np.ndarray],
    *,
    seed: int = 0,
    folder: Path | None = None,
    index: Mapping[str, Any] | None = None,
) -> Backend:
    """Open a backend.

    Parameters
    ----------
    name
        One of :data:`BACKENDS`.
    segments
        Vectors of all segments, int16 (n_i, d).
    seed
        Seed of what is built on opening.
    folder, index
        Where the index of a reference lies, and what its manifest says of it, where it has one. It may cover the first
        cells only; those behind them are searched exactly, and the hits merged.
    """
    if name == "pynndescent":
        from ._pynndescent import PyNNDescentBackend

        return PyNNDescentBackend(segments, seed=seed)
    if index is not None and folder is not None:
        from ._faiss import open_index

        return open_index(segments, folder, index)
    from ._exact import ExactBackend

    return ExactBackend(segments)
