"""Tombstones: cells that were removed stay in their segments until these are rewritten, and are never given out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...index._protocol import Backend
from . import _manifest as files
from ._manifest import ReferenceFolderError
from ._segments import has_direction, open_empty


def save_living(path: Path, living: np.ndarray) -> None:
    """Write which cells are left, bool (n_rows,), a bit for each."""
    np.save(path, np.packbits(living))


def load_living(path: Path, n_rows: int) -> np.ndarray:
    """Read what :func:`save_living` wrote."""
    try:
        bits = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ReferenceFolderError(f"{path} is damaged: {error}. Copy the folder again.") from error
    if bits.dtype != np.uint8 or bits.shape != ((n_rows + 7) // 8,):
        raise ReferenceFolderError(f"{path} does not fit {n_rows:,} cells. Copy the folder again.")
    return np.unpackbits(bits, count=n_rows).astype(bool)


def findable_cells(
    root: Path, manifest: Mapping[str, Any], segments: Sequence[np.ndarray], living: np.ndarray | None
) -> np.ndarray | None:
    """Cells that searches can find, bool (n_rows,): those that were not removed and have a direction; None for all.

    Parameters
    ----------
    root, manifest
        The reference.
    segments
        Vectors of each segment.
    living
        Cells that were not removed; None for all.
    """
    findable, start = living, 0
    for facts, vectors in zip(manifest["segments"], segments, strict=True):
        if facts.get("n_empty") != 0:
            if "n_empty" in facts:
                empty = open_empty(root / files.SEGMENTS / facts["name"], len(vectors))
            else:  # written before such cells were noted
                empty = np.flatnonzero(~has_direction([vectors]))
            if len(empty):
                findable = np.ones(sum(map(len, segments)), dtype=bool) if findable is None else findable.copy()
                findable[start + empty] = False
        start += len(vectors)
    return findable


class LivingCells:
    """A backend that never returns a cell that was removed.

    Parameters
    ----------
    backend
        What searches all cells.
    findable
        Cells that are left and have a direction, bool (n,).
    """

    def __init__(self, backend: Backend, findable: np.ndarray) -> None:
        self.name, self.segments = backend.name, backend.segments
        self.backend, self._findable = backend, findable

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find neighbours, see :class:`~scim.index._protocol.Backend`."""
        allowed = self._findable if allowed is None else allowed & self._findable
        return self.backend.search(queries, k, allowed, recall)
