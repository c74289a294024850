"""Removed cells. They stay in their segments until these are rewritten, and are never returned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..._disk import load_arrays
from ...index import FixedVectors
from ._manifest import SEGMENTS, ReferenceFolderError
from ._segments import open_empty


def save_living(path: Path, living: np.ndarray) -> None:
    """Write the mask of the cells that were not removed, bool (n_rows,), a bit for each cell."""
    np.save(path, np.packbits(living))


def load_living(path: Path, n_rows: int) -> np.ndarray:
    """Read the mask of the cells that were not removed, bool (n_rows,)."""
    bits = load_arrays(path, ReferenceFolderError, remedy="Copy the folder again.")[""]
    if bits.dtype != np.uint8 or bits.shape != ((n_rows + 7) // 8,):
        raise ReferenceFolderError(f"{path} does not match {n_rows:,} cells. Copy the folder again.")
    return np.unpackbits(bits, count=n_rows).astype(bool)


def findable_cells(
    root: Path, manifest: Mapping[str, Any], vectors: FixedVectors, living: np.ndarray | None
) -> np.ndarray | None:
    """Find the cells that were not removed and have a direction, bool (n_rows,). None: all cells."""
    findable, start = living, 0
    for facts, segment in zip(manifest["segments"], vectors.segments, strict=True):
        if facts["n_empty"]:
            empty = open_empty(root / SEGMENTS / facts["name"], len(segment))
            findable = np.ones(len(vectors), dtype=bool) if findable is None else findable.copy()
            findable[start + empty] = False
        start += len(segment)
    return findable
