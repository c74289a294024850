"""Some lists of an index, read without the others: what a worker of a cluster holds of the index of many cells."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..._disk import CheckedFile, IndexFileError

#: What faiss writes before the lists of a fast-scan index; numbers that follow it: lists, bytes of a code, cells of a
#: block, and bytes of a block.
_BEGIN = b"ilbl"
_NUMBERS = 4


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
