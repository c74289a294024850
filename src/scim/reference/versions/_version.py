"""Contents of the next version of a reference, before its manifest is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...index import index_files
from .. import store


@dataclass(frozen=True)
class Version:
    """Contents of a version of a reference.

    Attributes
    ----------
    segments
        Names and numbers of cells of all segments, in their order.
    facts
        Other values of the manifest: terms, studies, backend, seed and so on.
    living
        Cells that were not removed, bool (n_rows,). None: all cells.
    old
        Manifest of the version before. None for the first version.
    reindex
        Build the index again even if the old index would do.
    """

    segments: list[dict[str, Any]]
    facts: Mapping[str, Any]
    living: np.ndarray | None = None
    old: Mapping[str, Any] | None = None
    reindex: bool = False

    @classmethod
    def of(cls, root: Path, manifest: Mapping[str, Any]) -> Version:
        """Start the version that follows a manifest."""
        segments = [dict(segment) for segment in manifest["segments"]]
        facts = {key: manifest[key] for key in store.FACTS}
        n_rows = sum(int(segment["n_cells"]) for segment in segments)
        removed = manifest["removed"]
        living = store.load_living(root / removed["file"], n_rows) if removed else None
        return cls(segments, facts, living, manifest)

    @property
    def number(self) -> int:
        """Number of this version, from 1."""
        return 1 if self.old is None else int(self.old["generation"]) + 1

    @property
    def next_segment(self) -> str:
        """Name of a new segment."""
        return f"{max(int(segment['name']) for segment in self.segments) + 1:04d}"


def files_of(manifest: Mapping[str, Any]) -> set[str]:
    """Return the names of all files of a version."""
    return {*manifest["files"], *(f"{store.INDEX}/{name}" for name in index_files(manifest["index"]))}
