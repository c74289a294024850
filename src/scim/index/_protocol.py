"""What a way of searching has to offer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Index(Protocol):
    """Finds nearest neighbours among fixed vectors, int16 (n_i, d) of each segment."""

    name: str
    segments: list[np.ndarray]

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find neighbours.

        Parameters
        ----------
        queries
            Unit vectors, float32 (m, d).
        k
            Neighbours of each, no more than there are cells that may be returned.
        allowed
            Cells that may be returned, bool (n,); None: all that have a direction.
        recall
            Share of the true neighbours to find, where the search is not exact; None: what the index was built for.

        Returns
        -------
        Positions int64 (m, k) and cosine distances float32 (m, k), nearest first, ties by position.
        """
        ...


def no_hits(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions int64 and cosine distances float32 (n, k) where nothing was found yet: -1 and inf."""
    return np.full((n, k), -1, dtype=np.int64), np.full((n, k), np.inf, dtype=np.float32)


def distances_of(positions: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """Cosine distances of what was found, float32; inf where the position is -1."""
    return np.where(positions < 0, np.float32(np.inf), np.clip(1.0 - similarity, 0.0, 2.0))


def check_limit(n_found: int, limit: int, max_distance: float) -> None:
    """Refuse to go on when there are more hits than a search may have.

    Raises
    ------
    ValueError
        There are more than ``limit``.
    """
    if n_found > limit:
        raise ValueError(
            f"More than {limit:,} cells are within max_distance={max_distance:g}. Give a smaller one, fewer "
            "queries, a filter, or k=."
        )


@dataclass(frozen=True, eq=False)
class Hits:
    """Nearest reference cells of m queries.

    Attributes
    ----------
    indices
        Rows of the reference, int64 (m, k), nearest first, equal ones by row; -1 where there is no hit.
    distances
        Cosine distances 1 - cos, float32 (m, k), from 0 to 2; inf where there is no hit.
    """

    indices: np.ndarray
    distances: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)
