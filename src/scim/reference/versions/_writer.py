"""Versions of a reference: what one is made of, one writer at a time for the next, and what no version needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._disk._atomic import sync
from ..._disk._lock import one_writer
from ...index._protocol import index_files
from ..build._journal import told_of_full_disk
from ..sharing._install import is_bundled
from ..store import _manifest as files
from ..store._removed import load_living
from ..store._segments import open_cells

if TYPE_CHECKING:
    import pyarrow as pa


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
    return {*manifest.get("files", {}), *(f"{files.INDEX}/{name}" for name in index_files(manifest.get("index")))}


@contextmanager
def writing(root: Path, manifest: Mapping[str, Any], what: str) -> Iterator[Version]:
    """Let one writer at a time make the next version of a reference, and clear away what is of no use afterwards.

    Parameters
    ----------
    root
        Folder of the reference.
    manifest
        Its manifest as it was opened.
    what
        What is done, in words.

    Raises
    ------
    PermissionError
        The folder cannot be written to, or is that of a reference which comes with scim.
    BlockingIOError
        Somebody else is writing to it.
    OSError
        The disk is full.
    ValueError
        Somebody else has changed the reference since it was opened, or deleted it.
    """
    if is_bundled(root):
        raise PermissionError(
            f"{root} comes with scim, and what is in it is the default of every verb. Copy the folder to a place of "
            "your own, and open that."
        )
    if not root.is_dir():
        raise files.ReferenceFolderError(f"{root} is gone: it was deleted or moved since it was opened.")
    if not all(os.access(folder, os.W_OK | os.X_OK) for folder in (root, root / files.SEGMENTS)):
        raise PermissionError(f"{root} is read-only. Copy the reference to a place of your own.")
    with one_writer(root, what):
        if files.read_manifest(root)["sha256"] != manifest["sha256"]:
            raise ValueError(
                f"{root} was changed by somebody else since it was opened. Open it again with Reference.open, or take "
                "the newest version with refresh()."
            )
        sweep(root)  # what a writer left that was killed
        try:
            with told_of_full_disk(root):
                yield Version.of(root, manifest)
        finally:
            sweep(root)


def sweep(root: Path, *, retired: bool = False) -> None:
    """Delete files that no version needs: what was not finished, and what is older than the version before.

    Parameters
    ----------
    root
        Folder of the reference, locked.
    retired
        Delete those of the version before as well, which others may have open.
    """
    manifest = files.read_manifest(root)
    kept = files_of(manifest) | (set() if retired else set(manifest.get("retired", ())))
    ours = [*root.glob("calibration*.npz"), *root.glob("removed-*.npy"), *root.glob(f".{files.MANIFEST}.*")]
    ours += [*(root / files.INDEX).glob("*"), *(root / files.SEGMENTS).rglob("*")]
    for path in ours:
        if path.is_file() and path.relative_to(root).as_posix() not in kept:
            with suppress(
                OSError
            ):  # Windows deletes no file that somebody has mapped into memory: the next writer will
                path.unlink()
    for folder in [*(root / files.SEGMENTS).iterdir(), root / files.INDEX]:
        if folder.is_dir() and not any(path.is_file() for path in folder.rglob("*")):
            shutil.rmtree(folder, ignore_errors=True)


def add_segment(root: Path, version: Version, write: Callable[[Path], tuple[int, dict[str, Any]]]) -> Version:
    """Write one more segment to its place.

    Parameters
    ----------
    root
        Folder of the reference.
    version
        What it will belong to.
    write
        Writes the segment to a folder, and returns its number of cells and what changes in the manifest.
    """
    name = version.next_segment
    folder, scratch = root / files.SEGMENTS / name, root / files.SEGMENTS / f".{name}.{os.getpid()}"
    n_cells, changes = write(scratch)
    for file in scratch.iterdir():
        sync(file)
    os.replace(scratch, folder)
    sync(folder.parent)
    living = version.living
    if living is not None:
        living = np.concatenate([living, np.ones(n_cells, dtype=bool)])
    segments = [*version.segments, {"name": name, "n_cells": n_cells}]
    return replace(version, segments=segments, facts={**version.facts, **changes}, living=living)


def living_tables(cells: Iterable[tuple[Path, int]], living: np.ndarray | None) -> Iterator[pa.Table]:
    """Metadata of segments, batch by batch, without the cells that were removed."""
    import pyarrow as pa

    start = 0
    for folder, n_cells in cells:
        for batch in open_cells(folder, n_cells).to_batches(max_chunksize=65_536):
            table = pa.Table.from_batches([batch])
            if living is not None:
                table = table.filter(pa.array(living[start : start + len(batch)]))
            start += len(batch)
            if table.num_rows:
                yield table
