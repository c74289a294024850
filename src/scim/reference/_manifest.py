"""The manifest of a reference: which files belong to it, and what their content must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..encoder._folder import FolderError, check_files, read_json
from ..encoder._io import WEIGHTS

KIND = "scim-reference"
MANIFEST = "manifest.json"
ENCODER = "encoder"
SEGMENTS = "segments"
INDEX = "index"
VECTORS, CELLS, LANDMARKS = "vectors.i16", "cells.arrow", "landmarks.npz"

_NEEDED = (
    "files",
    "segments",
    "n_cells",
    "encoder_id",
    "n_latent",
    "n_genes",
    "terms",
    "studies",
    "calibration",
    "backend",
    "seed",
    "source",
)


class ReferenceFolderError(FolderError):
    """A folder is no reference, or one that was damaged, edited, or written by a newer scim."""


def read_manifest(root: Path) -> dict[str, Any]:
    """Read the manifest and refuse what is no reference.

    Raises
    ------
    ReferenceFolderError
        The folder is something else, or of a newer version, or the manifest is damaged or edited.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise ReferenceFolderError(f"{root} is no reference: it has no {MANIFEST}. Make one with Reference.build.")
    manifest = read_json(path, KIND, ReferenceFolderError)
    if missing := [name for name in _NEEDED if name not in manifest]:
        raise ReferenceFolderError(f"{path} lacks {missing[0]!r}. Build the reference again.")
    return manifest


def verify(root: Path, *, weights: bool = True) -> dict[str, Any]:
    """Read the manifest and compare every file with it before anything parses them.

    Parameters
    ----------
    root
        Folder of the reference.
    weights
        Compare the encoder's weights by more than their size. Opening leaves that to the encoder, whose id is a hash of
        its content: they are the largest file of most references, and searches do not need them.

    Raises
    ------
    ReferenceFolderError
        A file is missing, has another size, or another content; the message names it.
    """
    manifest = read_manifest(root)
    listed = manifest["files"]
    for segment in manifest["segments"]:
        for name in (VECTORS, CELLS):
            if f"{SEGMENTS}/{segment['name']}/{name}" not in listed:
                raise ReferenceFolderError(f"{root / MANIFEST} does not list segment {segment['name']}.")
    check_files(root, listed, ReferenceFolderError, content=lambda name: weights or name != f"{ENCODER}/{WEIGHTS}")
    return manifest
