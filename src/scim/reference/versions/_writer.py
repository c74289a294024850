"""Write the next version: one writer at a time, and delete files that no version needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..._disk import explain_full_disk, one_writer, sync
from .. import store
from ._version import Version, files_of


@contextmanager
def writing(root: Path, manifest: Mapping[str, Any], what: str) -> Iterator[Version]:
    """Lock a reference for one writer that makes the next version, and delete unneeded files afterwards.

    Parameters
    ----------
    root
        Folder of the reference.
    manifest
        Manifest that was opened.
    what
        Name of the change, for the messages to other writers.

    Raises
    ------
    PermissionError
        The folder cannot be written to, or comes with scim.
    BlockingIOError
        Another process is writing to it.
    OSError
        The disk is full.
    ValueError
        The reference was changed or deleted by another process since it was opened.
    """
    if store.is_bundled(root):
        raise PermissionError(
            f"{root} comes with scim, and is the default reference of all functions. Copy the folder, and open the "
            "copy."
        )
    if not root.is_dir():
        raise store.ReferenceFolderError(
            f"{root} is gone: it was deleted or moved since it was opened. Open the reference at its new place."
        )
    if not all(os.access(folder, os.W_OK | os.X_OK) for folder in (root, root / store.SEGMENTS)):
        raise PermissionError(
            f"{root} is read-only. Copy the folder to a place where you can write, and open the copy."
        )
    with one_writer(root, what):
        if store.read_manifest(root)["sha256"] != manifest["sha256"]:
            raise ValueError(
                f"{root} was changed by another process since it was opened. Open it again with Reference.open, or "
                "open the newest version with refresh()."
            )
        sweep(root)  # files of a writer that was killed
        try:
            with explain_full_disk(root):
                yield Version.of(root, manifest)
        finally:
            sweep(root)


def sweep(root: Path, *, retired: bool = False) -> None:
    """Delete files that neither this version nor the version before needs. The folder must be locked.

    With ``retired``, also delete files of the version before, which other processes may have open.
    """
    manifest = store.read_manifest(root)
    kept = files_of(manifest) | (set() if retired else set(manifest["retired"]))
    ours = [*root.glob("calibration*.npz"), *root.glob("removed-*.npy"), *root.glob(f".{store.MANIFEST}.*")]
    ours += [*(root / store.INDEX).glob("*"), *(root / store.SEGMENTS).rglob("*")]
    for path in ours:
        if path.is_file() and path.relative_to(root).as_posix() not in kept:
            # Windows does not delete a file that is mapped into memory. The next writer deletes it.
            with suppress(OSError):
                path.unlink()
    for folder in [*(root / store.SEGMENTS).iterdir(), root / store.INDEX]:
        if folder.is_dir() and not any(path.is_file() for path in folder.rglob("*")):
            shutil.rmtree(folder, ignore_errors=True)


def add_segment(root: Path, version: Version, write: Callable[[Path], tuple[int, dict[str, Any]]]) -> Version:
    """Write a new segment, put it in its place, and return a version that has it.

    ``write`` writes the segment to a folder, and returns its number of cells and the changes of the manifest.
    """
    name = version.next_segment
    folder, scratch = root / store.SEGMENTS / name, root / store.SEGMENTS / f".{name}.{os.getpid()}"
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
