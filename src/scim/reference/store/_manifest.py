"""The manifest of a reference: which files belong to it, and what their content must be."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..._disk import BLOCK_BYTES, FolderError, check_blocks, check_files, read_json, write_json
from ...encoder import WEIGHTS

KIND = "scim-reference"
#: Newest format that this scim reads, and the one of references that need nothing newer. Format 2 may have cells that
#: were removed, and cells beyond its index: a scim that knows neither would show the former and miss the latter.
NEWEST = 2
PLAIN = 1
MANIFEST = "manifest.json"
ENCODER = "encoder"
SEGMENTS = "segments"
INDEX = "index"
VECTORS = "vectors.i16"
CELLS = "cells.arrow"
LANDMARKS = "landmarks.npz"
EMPTY = "empty.npy"
SEGMENT_FILES = (VECTORS, CELLS, LANDMARKS, EMPTY)

#: How thoroughly files are compared with the manifest.
Verify = Literal["full", "sample", "sizes"]
#: Files that are mapped into memory, or hashed when they are first read; all others are parsed on opening.
_LATER = (VECTORS, CELLS, LANDMARKS)
#: Blocks of a large file that a sample looks at, beside its first and last.
_SAMPLED = 8

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
    manifest = read_json(path, KIND, ReferenceFolderError, newest=NEWEST)
    if missing := [name for name in _NEEDED if name not in manifest]:
        raise ReferenceFolderError(f"{path} lacks {missing[0]!r}. Build the reference again.")
    return manifest


def write_manifest(root: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Put a manifest in the place of the old one in a single step, with which everything in it becomes visible."""
    n_rows = sum(int(segment["n_cells"]) for segment in manifest["segments"])
    newer = manifest.get("removed") or (manifest.get("index") or {}).get("n_cells", n_rows) != n_rows
    return write_json(root / MANIFEST, KIND, manifest, version=NEWEST if newer else PLAIN)


def verify(root: Path, how: Verify = "full", *, weights: bool = True) -> dict[str, Any]:
    """Read the manifest and compare every file with it before anything parses them.

    Parameters
    ----------
    root
        Folder of the reference.
    how
        ``"sizes"``: that all files are there with their sizes, and the content of all but large vectors, metadata and
        landmarks; ``"sample"``: some
        blocks of the larger ones too, drawn anew each time; ``"full"``: all of all.
    weights
        Compare the encoder's weights by more than their size. Opening leaves that to the encoder, whose id is a hash of
        its content: they are the largest file of most references, and searches do not need them.

    Raises
    ------
    ReferenceFolderError
        A file is missing, has another size, or another content; the message names it.
    """
    manifest = read_manifest(root)
    listed: dict[str, dict[str, Any]] = manifest["files"]
    for segment in manifest["segments"]:
        for name in (VECTORS, CELLS):
            if f"{SEGMENTS}/{segment['name']}/{name}" not in listed:
                raise ReferenceFolderError(f"{root / MANIFEST} does not list segment {segment['name']}.")

    def content(name: str) -> bool:
        if name == f"{ENCODER}/{WEIGHTS}":
            return weights
        if how == "full" or is_small(listed[name]) or Path(name).name not in _LATER:
            return True
        # What was written before blocks were hashed has to be read as a whole.
        return how == "sample" and "blocks" not in listed[name]

    check_files(root, listed, ReferenceFolderError, content=content)
    if how == "sample":
        for name, facts in listed.items():
            if not content(name) and "blocks" in facts:
                last = len(facts["blocks"]) - 1
                some = random.sample(range(last + 1), min(_SAMPLED, last + 1))
                check_blocks(root / name, facts, sorted({0, last, *some}), ReferenceFolderError)
    return manifest


def is_small(facts: Mapping[str, Any]) -> bool:
    """Whether a file is hashed whenever the reference is opened, whatever it is."""
    return int(facts["bytes"]) <= BLOCK_BYTES


def check_file(root: Path, manifest: Mapping[str, Any], name: str) -> None:
    """Compare one file, which is read long after the reference was opened, with the manifest of that time.

    Raises
    ------
    ReferenceFolderError
        It is missing or another one; the message says so if the reference was written to since.
    """
    try:
        check_files(root, {name: manifest["files"][name]}, ReferenceFolderError)
    except ReferenceFolderError as error:
        if (root / MANIFEST).is_file() and read_manifest(root)["sha256"] != manifest["sha256"]:
            raise ReferenceFolderError(
                f"{root} was written to more than once since it was opened, and {name} of that time is gone. Take the "
                "newest version with refresh(), or open it again."
            ) from error
        raise
