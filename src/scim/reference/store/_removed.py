"""Tombstones: cells that were removed stay in their segments until these are rewritten, and are never given out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..._disk import load_arrays
from ...index import has_direction
from . import _manifest as files
from ._manifest import ReferenceFolderError
from ._segments import open_empty


def save_living(path: Path, living: np.ndarray) -> None:
    """Write which cells are left, bool (n_rows,), a bit for each."""
    np.save(path, np.packbits(living))


def load_living(path: Path, n_rows: int) -> np.ndarray:
    """Read what :func:`save_living` wrote."""
    bits = load_arrays(path, ReferenceFolderError, remedy="Copy the folder again.")[""]
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
