"""Versions of a reference: what one is made of, one writer at a time for the next, and what no version needs."""

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
from ..store import is_bundled
from ._version import Version, files_of


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
        raise store.ReferenceFolderError(f"{root} is gone: it was deleted or moved since it was opened.")
    if not all(os.access(folder, os.W_OK | os.X_OK) for folder in (root, root / store.SEGMENTS)):
        raise PermissionError(f"{root} is read-only. Copy the reference to a place of your own.")
    with one_writer(root, what):
        if store.read_manifest(root)["sha256"] != manifest["sha256"]:
            raise ValueError(
                f"{root} was changed by somebody else since it was opened. Open it again with Reference.open, or take "
                "the newest version with refresh()."
            )
        sweep(root)  # what a writer left that was killed
        try:
            with explain_full_disk(root):
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
    manifest = store.read_manifest(root)
    kept = files_of(manifest) | (set() if retired else set(manifest.get("retired", ())))
    ours = [*root.glob("calibration*.npz"), *root.glob("removed-*.npy"), *root.glob(f".{store.MANIFEST}.*")]
    ours += [*(root / store.INDEX).glob("*"), *(root / store.SEGMENTS).rglob("*")]
    for path in ours:
        if path.is_file() and path.relative_to(root).as_posix() not in kept:
            with suppress(
                OSError
            ):  # Windows deletes no file that somebody has mapped into memory: the next writer will
                path.unlink()
    for folder in [*(root / store.SEGMENTS).iterdir(), root / store.INDEX]:
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
