"""Read some lists of an index without the others, as a worker of a cluster holds them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..._disk import CheckedFile, IndexFileError

#: Bytes that faiss writes before the lists of a fast-scan index.
_BEGIN = b"ilbl"
#: Numbers that follow: lists, bytes of a code, cells of a block, and bytes of a block.
_NUMBERS = 4


def read_lists(path: Path, facts: Mapping[str, Any], sizes: np.ndarray, first: int, last: int) -> Any:
    """Read an index of codes, a faiss.IndexIVFPQFastScan, with all lists empty but those from ``first`` to ``last``.

    faiss cannot read a part of such a file, but it reads the bytes that it is given: if it asks for the length of a
    list outside the range, it gets 0, and the list in the file is skipped. If the range is empty, only the centres are
    read.

    ``facts`` are size and hashes of the file, ``sizes`` the cells of each list, int64 (n_lists,). An IndexFileError
    says that the file is missing or damaged.
    """
    import faiss

    file = CheckedFile(path, facts)
    try:
        chunks = _chunks(file, sizes, first, last)
        next(chunks)
        # Requests are answered one by one, and not cut into pieces.
        reader = faiss.PyCallbackIOReader(chunks.send, 1 << 62)  # type: ignore[attr-defined]
        index: Any = faiss.read_index(reader)
    except (RuntimeError, StopIteration) as error:  # faiss raises it if the file is another kind of index
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
    """Yield bytes of a file. The first call gives none; each later call sends how many bytes are wanted."""
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
    """Whether the cells of lists have the places, in the order of the lists, that ``rows`` names.

    ``rows`` are the places of the cells, int32 (n_cells,), -1 for none. See :func:`read_lists` for the others.
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
