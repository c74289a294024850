"""The manifest of a reference: which files belong to it, and what their content must be."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FORMAT = 1
MANIFEST = "manifest.json"
ENCODER = "encoder"
SEGMENTS = "segments"
CALIBRATION = "calibration.npz"
VECTORS, CELLS = "vectors.i16", "cells.arrow"


class ReferenceFolderError(ValueError):
    """A folder is no reference, or one that was damaged, edited, or written by a newer scim."""


def describe_files(root: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files below ``root``, by name."""
    return {
        name: {"bytes": (root / name).stat().st_size, "sha256": sha256(root / name)} for name in sorted(names)
    }


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(root: Path, manifest: Mapping[str, Any]) -> None:
    """Put a new manifest in the place of the old one in a single step: readers see the one or the other."""
    partial = root / f".{MANIFEST}.{os.getpid()}"
    text = json.dumps({"format": "scim-reference", "version": FORMAT, **manifest}, indent=1, ensure_ascii=False)
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, root / MANIFEST)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(root)


def sync_folder(path: Path) -> None:
    """Make names in a folder last through a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_manifest(root: Path) -> dict[str, Any]:
    """Read the manifest and refuse what is no reference.

    Raises
    ------
    ReferenceFolderError
        The folder is something else, or of a newer version, or the manifest is damaged.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise ReferenceFolderError(f"{root} is no reference: it has no {MANIFEST}. Make one with Reference.build.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReferenceFolderError(f"{path} is damaged: {error}. Build the reference again.") from error
    if not isinstance(manifest, dict) or manifest.get("format") != "scim-reference":
        raise ReferenceFolderError(f"{path} does not describe a scim reference.")
    if manifest.get("version", 0) > FORMAT:
        raise ReferenceFolderError(
            f"{root} has format {manifest['version']}, this scim reads up to {FORMAT}. Update scim-tools."
        )
    if missing := {"files", "segments", "n_cells", "encoder_id", "terms"} - set(manifest):
        raise ReferenceFolderError(f"{path} lacks {sorted(missing)[0]!r}. Build the reference again.")
    return manifest


def check_files(root: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Compare every file with the manifest before anything parses it.

    Raises
    ------
    ReferenceFolderError
        A file is missing, has another size, or another content; the message names it.
    """
    remedy = "Copy the reference again, or build it again."
    for name, expected in files.items():
        path = root / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ReferenceFolderError(f"{root / MANIFEST} names a file outside its folder: {name}.")
        if not path.is_file():
            raise ReferenceFolderError(f"{path} is missing. {remedy}")
        if path.stat().st_size != expected["bytes"]:
            raise ReferenceFolderError(
                f"{path} has {path.stat().st_size:,} bytes where {expected['bytes']:,} were written. {remedy}"
            )
        if sha256(path) != expected["sha256"]:
            raise ReferenceFolderError(f"{path} was changed since it was written (SHA-256 differs). {remedy}")
