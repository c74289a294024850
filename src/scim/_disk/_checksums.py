"""Describe files by size and SHA-256, and check them against the description."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

_REMEDY = "Copy the folder again, or make it again."


class FolderError(ValueError):
    """A folder holds something else, is damaged or edited, or was written by a newer scim."""


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_files(root: Path, names: Iterable[str], *, block: int | None = None) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files below ``root``, by name, and hashes of blocks of files of more than ``block`` bytes."""
    return {name: _describe(root / name, block) for name in sorted(names)}


def _describe(path: Path, block: int | None) -> dict[str, Any]:
    size = path.stat().st_size
    if block is None or size <= block:
        return {"bytes": size, "sha256": sha256(path)}
    whole, blocks = hashlib.sha256(), []
    with open(path, "rb") as file:
        while part := file.read(block):
            whole.update(part)
            blocks.append(hashlib.sha256(part).hexdigest())
    return {"bytes": size, "sha256": whole.hexdigest(), "block": block, "blocks": blocks}


def check_blocks(path: Path, expected: Mapping[str, Any], which: Iterable[int], error: type[FolderError]) -> None:
    """Compare chosen blocks of a file with those of :func:`describe_files`. Raise ``error`` if a block was changed."""
    with open(path, "rb") as file:
        for i in which:
            file.seek(i * expected["block"])
            if hashlib.sha256(file.read(expected["block"])).hexdigest() != expected["blocks"][i]:
                raise error(f"{path} was changed since it was written (the SHA-256 of block {i} differs). {_REMEDY}")


def check_files(
    root: Path,
    files: Mapping[str, Mapping[str, Any]],
    error: type[FolderError],
    *,
    content: Callable[[str], bool] = lambda name: True,
) -> None:
    """Compare files with their description: the size of all, and the content of those that ``content`` accepts.

    A file that is missing or was changed raises ``error``, whose message names the file.
    """
    for name, expected in files.items():
        path = root / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise error(f"{root} lists a file outside itself: {name}. {_REMEDY}")
        if not path.is_file():
            raise error(f"{path} is missing. {_REMEDY}")
        if (size := path.stat().st_size) != expected["bytes"]:
            raise error(f"{path} has {size:,} bytes where {expected['bytes']:,} were written. {_REMEDY}")
        if content(name) and sha256(path) != expected["sha256"]:
            raise error(f"{path} was changed since it was written (its SHA-256 differs). {_REMEDY}")


#: Bytes of a block. Smaller files are hashed whenever a reference is opened; larger ones have a hash for each block.
BLOCK_BYTES = 8 << 20


class IndexFileError(ValueError):
    """A file of an index is missing, or was changed since it was written."""


class CheckedFile:
    """A file whose blocks are compared with their hashes before they are used.

    ``facts`` are its size and hashes, see :func:`describe_files`. If it has no hashes of blocks, the whole file is
    hashed at once. A file that is missing or was changed raises an IndexFileError.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        if not path.is_file() or path.stat().st_size != facts["bytes"]:
            raise IndexFileError(path)
        if "blocks" not in facts and sha256(path) != facts["sha256"]:
            raise IndexFileError(path)
        self._path, self._blocks, self._size = path, facts.get("blocks", ()), int(facts.get("block", 0))
        self._file = open(path, "rb")  # closed in close()
        self._held, self._content, self._at = -1, b"", 0

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def skip(self, n: int) -> None:
        """Move on by ``n`` bytes without reading them."""
        self._at += n

    def read(self, n: int) -> bytes:
        """Read the next ``n`` bytes."""
        start, self._at = self._at, self._at + n
        if not self._blocks:
            self._file.seek(start)
            return self._file.read(n)
        which = range(start // self._size, -(-self._at // self._size))
        parts = [self._block(i)[max(start - i * self._size, 0) : self._at - i * self._size] for i in which]
        return b"".join(parts)

    def _block(self, i: int) -> bytes:
        if i != self._held:
            self._file.seek(i * self._size)
            self._content, self._held = self._file.read(self._size), i
            if i >= len(self._blocks) or hashlib.sha256(self._content).hexdigest() != self._blocks[i]:
                raise IndexFileError(self._path)
        return self._content
