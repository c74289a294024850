"""Some lists of an index, read without the others: what a worker of a cluster holds of the index of many cells."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..._disk._atomic import sha256

#: What faiss writes before the lists of a fast-scan index; numbers that follow it: lists, bytes of a code, cells of a
#: block, and bytes of a block.
_BEGIN, _NUMBERS = b"ilbl", 4


class IndexFileError(ValueError):
    """A file of an index is missing, or is not what was written."""


class CheckedFile:
    """A file of which each block is compared with its hash before anything of it is used.

    Parameters
    ----------
    path
        The file.
    facts
        Its size and hashes, see :func:`scim._disk._atomic.describe_files`; without those of blocks, all of it is
        hashed at once.

    Raises
    ------
    IndexFileError
        It is missing, or has another size or content.
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
        """Go on behind the next ``n`` bytes, which are not read."""
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


def read_lists(path: Path, facts: Mapping[str, Any], sizes: np.ndarray, first: int, last: int) -> Any:
    """Read an index of codes of which all lists but some are empty.

    faiss has no way to read a part of such a file, but reads what it is given: where it asks for the length of a list
    that is not wanted it is told 0, and what the file has of that is passed over.

    Parameters
    ----------
    path, facts
        The file, and its size and hashes.
    sizes
        Cells of each list, int64 (n_lists,).
    first, last
        Lists to read; with none, what remains is the centres.

    Returns
    -------
    faiss.IndexIVFPQFastScan.

    Raises
    ------
    IndexFileError
        The file is missing, or not what was written.
    """
    import faiss

    file = CheckedFile(path, facts)
    try:
        chunks = _chunks(file, sizes, first, last)
        next(chunks)
        # Requests come one by one, and are not cut into pieces.
        reader = faiss.PyCallbackIOReader(chunks.send, 1 << 62)  # type: ignore[attr-defined]
        index: Any = faiss.read_index(reader)
    except (RuntimeError, StopIteration) as error:  # of faiss, where the file is another kind of index
        raise IndexFileError(path) from error
    finally:
        file.close()
    if not isinstance(index, faiss.IndexIVFPQFastScan) or index.nlist != len(sizes):
        raise IndexFileError(path)
    lists: Any = index.invlists
    held = np.array([lists.list_size(i) for i in range(first, last)], dtype=np.int64)
    if not np.array_equal(held, sizes[first:last]):
        raise IndexFileError(path)
    return index


def _chunks(file: CheckedFile, sizes: np.ndarray, first: int, last: int) -> Generator[bytes, int, None]:
    """Answer requests for bytes, each sent as their number: first for nothing, and then as faiss makes them."""
    content = b""
    while content != _BEGIN:
        content = file.read((yield content))
    numbers = []
    for _ in range(_NUMBERS):
        numbers.append(file.read((yield content)))
        content = numbers[-1]
    _, _, per_block, block = (int.from_bytes(number, "little") for number in numbers)
    for i, size in enumerate(sizes.tolist()):
        n_bytes = -(-size // per_block) * block
        if first <= i < last:
            for n in (8 * size, n_bytes):
                content = file.read((yield content))
                if n:
                    content = file.read((yield content))
        else:
            file.skip(16 + 8 * size + n_bytes)
            for _ in range(2):
                yield content
                content = bytes(8)
    yield content


def check_places(index: Any, rows: np.ndarray, sizes: np.ndarray, first: int, last: int) -> bool:
    """Whether cells of lists have the places, in the order of the lists, that ``rows`` gives them.

    Parameters
    ----------
    index
        What :func:`read_lists` read.
    rows
        Place of each cell, int32 (n_cells,), -1 for none.
    sizes, first, last
        See :func:`read_lists`.
    """
    import faiss

    starts = np.concatenate([[0], np.cumsum(sizes)])
    for i in range(first, last):
        if sizes[i]:
            ids = faiss.rev_swig_ptr(index.invlists.get_ids(i), int(sizes[i]))
            if ids.min() < 0 or ids.max() >= len(rows):
                return False
            if not np.array_equal(np.sort(rows[ids]), np.arange(starts[i], starts[i + 1])):
                return False
    return True
