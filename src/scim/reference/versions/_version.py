"""What a version of a reference is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...index import index_files
from .. import store
from ..store import load_living

#: What a manifest says beside its files, and passes on to the next version.
FACTS = (
    "created",
    "ontology_version",
    "ontology_source",
    "terms",
    "studies",
    "backend",
    "seed",
    "recall",
    "source",
    "n_latent",
    "n_genes",
    "encoder_id",
)


@dataclass(frozen=True)
class Version:
    """What a version of a reference is made of.

    Attributes
    ----------
    segments
        Names and numbers of cells of all segments, in their order.
    facts
        What else the manifest says: terms, studies, backend, seed and so on.
    living
        Cells that were not removed, bool (n_rows,); None where none was.
    old
        Manifest of the version before; None for the first one.
    reindex
        Build the index anew, whatever there is.
    """

    segments: list[dict[str, Any]]
    facts: Mapping[str, Any]
    living: np.ndarray | None = None
    old: Mapping[str, Any] | None = None
    reindex: bool = False

    @classmethod
    def of(cls, root: Path, manifest: Mapping[str, Any]) -> Version:
        """Begin the version after one that is on disk."""
        segments = [dict(segment) for segment in manifest["segments"]]
        facts = {key: manifest[key] for key in FACTS if key in manifest}
        n_rows = sum(int(segment["n_cells"]) for segment in segments)
        removed = manifest.get("removed")
        living = load_living(root / removed["file"], n_rows) if removed else None
        return cls(segments, facts, living, manifest)

    @property
    def number(self) -> int:
        """How many versions there were, this one included."""
        return 1 if self.old is None else number_of(self.old) + 1

    @property
    def next_segment(self) -> str:
        """Name of one more segment."""
        return f"{max(int(segment['name']) for segment in self.segments) + 1:04d}"


def number_of(manifest: Mapping[str, Any]) -> int:
    """Tell the version that a manifest describes."""
    # Before versions were counted, each had one segment more.
    return int(manifest.get("generation", max(int(s["name"]) for s in manifest["segments"])))


def files_of(manifest: Mapping[str, Any]) -> set[str]:
    """Files that a version consists of."""
    return {*manifest.get("files", {}), *(f"{store.INDEX}/{name}" for name in index_files(manifest.get("index")))}
