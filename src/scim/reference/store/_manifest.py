"""Manifest of a reference: its files and their checksums."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ..._disk import BLOCK_BYTES, FolderError, check_blocks, check_files, read_json, write_json
from ...encoder import WEIGHTS
from ...index import index_files

KIND = "scim-reference"
#: Newest format that this scim reads. It may have removed cells, and cells that are not in its index.
NEWEST = 2
#: Format of references without removed cells, whose index has all cells.
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
#: Files that are mapped into memory, or hashed when they are first read. Other files are parsed on opening.
_NOT_PARSED = (VECTORS, CELLS, LANDMARKS)
#: Blocks of a large file that a sample compares, besides the first and the last block.
_SAMPLED_BLOCKS = 8
#: Keys of a manifest that the next version takes over.
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
#: Other keys that every manifest has.
_NEEDED = ("files", "segments", "n_cells", "generation", "calibration", "removed", "index", "retired", "engines")
#: Keys that every segment of a manifest has.
_NEEDED_OF_SEGMENTS = ("name", "n_cells", "n_empty")


class ReferenceFolderError(FolderError):
    """A folder is not a reference, or it was damaged, edited, or written by a newer scim."""


def read_manifest(root: Path) -> dict[str, Any]:
    """Read the manifest of a folder.

    Raises
    ------
    ReferenceFolderError
        The folder is not a reference, or is of a newer format, or the manifest is damaged or edited.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise ReferenceFolderError(
            f"{root} is not a reference: it has no {MANIFEST}. Make a reference with Reference.build."
        )
    manifest = read_json(path, KIND, ReferenceFolderError, newest=NEWEST)
    missing = [name for name in (*FACTS, *_NEEDED) if name not in manifest]
    for segment in manifest.get("segments", ()):
        missing += [name for name in _NEEDED_OF_SEGMENTS if name not in segment]
    if missing:
        raise ReferenceFolderError(f"{path} lacks {missing[0]!r}. Build the reference again.")
    return manifest


def write_manifest(root: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the manifest in a single step, which makes everything in it visible."""
    n_rows = sum(int(segment["n_cells"]) for segment in manifest["segments"])
    newer = manifest["removed"] or (manifest["index"] or {}).get("n_cells", n_rows) != n_rows
    return write_json(root / MANIFEST, KIND, manifest, version=NEWEST if newer else PLAIN)


def verify(root: Path, how: Verify = "full", *, weights: bool = True) -> dict[str, Any]:
    """Read the manifest, and compare the files with it before they are parsed.

    Parameters
    ----------
    root
        Folder of the reference.
    how
        ``"sizes"`` compares the sizes of all files, and the content of all but large vectors, metadata and landmarks.
        ``"sample"`` also compares random blocks of these. ``"full"`` compares the content of all files.
    weights
        Compare the content of the encoder's weights. Opening leaves that to the encoder, whose id is a hash of its
        content: they are the largest file of most references, and searches do not need them.

    Raises
    ------
    ReferenceFolderError
        A file is missing, or has another size or content. The message names it.
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
        return how == "full" or is_small(listed[name]) or Path(name).name not in _NOT_PARSED

    check_files(root, listed, ReferenceFolderError, content=content)
    if how == "sample":
        for name, facts in listed.items():
            if not content(name) and not is_small(facts):
                last = len(facts["blocks"]) - 1
                sampled = random.sample(range(last + 1), min(_SAMPLED_BLOCKS, last + 1))
                check_blocks(root / name, facts, sorted({0, last, *sampled}), ReferenceFolderError)
    return manifest


def verify_with_index(root: Path, how: Verify) -> None:
    """Compare all files with the manifest as :func:`verify` does, also files of the index."""
    index = index_files(verify(root, how)["index"])
    try:
        check_files(root / INDEX, index, ReferenceFolderError, content=lambda _: how == "full")
    except ReferenceFolderError as error:
        raise ReferenceFolderError(f"{error} Or make the index again: Reference.reindex().") from error


def is_small(facts: Mapping[str, Any]) -> bool:
    """Whether a file is hashed whenever the reference is opened."""
    return int(facts["bytes"]) <= BLOCK_BYTES


def check_file(root: Path, manifest: Mapping[str, Any], name: str) -> None:
    """Compare a file with the manifest, long after the reference was opened.

    A ReferenceFolderError names a changed file, and says if the reference was written to since.
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
