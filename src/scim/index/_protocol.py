"""What a way of searching has to offer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .._disk._atomic import sha256
from .._warn import warn

BACKENDS = ("auto", "exact", "faiss", "pynndescent")


class Backend(Protocol):
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
        from ._graph import PyNNDescentBackend

        return PyNNDescentBackend(segments, seed=seed)
    if index is not None and folder is not None:
        from ._ivf_flat import open_index

        return open_index(segments, folder, index)
    from ._exact import ExactBackend

    return ExactBackend(segments)


def index_files(facts: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """Files of an index with what the manifest says of each, ``bytes`` and ``sha256``; none where there is no index."""
    return {} if not facts else dict(facts.get("files", {facts["file"]: facts}))


def index_is_whole(folder: Path, facts: Mapping[str, Any], *, later: Collection[str] = ()) -> bool:
    """Whether the files of an index are what was written; if not, warn that it is made again, naming the first.

    Parameters
    ----------
    folder
        Where the index lies.
    facts
        What the manifest says of it.
    later
        Files that are compared with checksums as they are read.
    """
    for name, fact in index_files(facts).items():
        path = folder / name
        if name in later or _is_what_was_written(path, fact):
            continue
        warn(
            f"The index file {path} is missing or damaged, and the index is made again in memory. Reference.reindex() "
            "writes it."
        )
        return False
    return True


def _is_what_was_written(path: Path, fact: Mapping[str, Any]) -> bool:
    try:
        return path.stat().st_size == fact["bytes"] and sha256(path) == fact["sha256"]
    except OSError:  # missing, or another user's alone
        return False
