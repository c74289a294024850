"""A second copy of the vectors, in the order of the lists, so that the candidates of a search lie on few pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .._compiled import njit
from .._warn import warn
from ._kernels import best_of, compare_rows, key_of, similarity_with
from ._protocol import Hits
from ._vectors import FixedVectors

#: Vectors that one checksum covers: a page of 128 dimensions. Checking larger blocks at their first reading would take
#: longer than comparing the candidates in them.
BLOCK = 16
#: Bytes of vectors that are put in order at a time.
_BUFFER_BYTES = 512_000_000
#: Place of a candidate that does not count: behind all others.
_NOWHERE = np.uint64(0xFFFFFFFFFFFFFFFF)


class ListOrderedVectors:
    """Vectors in the order of the lists, each block compared with its checksum, uint64, when it is first read.

    They are in the file ``path``, int16 (n, d); None: there is none. ``vectors`` are in the order of the reference, and
    are read if the ordered ones are missing or damaged. ``rows`` are the places of the cells' vectors in the file,
    int32 (n_cells,); -1 for a cell without direction.
    """

    def __init__(self, vectors: FixedVectors, path: Path | None, rows: np.ndarray, sums: np.ndarray) -> None:
        self._cells, self._path, self._rows, self._sums = vectors, path, rows, sums
        self._seen = np.zeros(len(sums), dtype=np.uint8)
        self._ordered: np.ndarray | None = None
        #: Whether the file was found to be damaged, and nobody was warned yet.
        self._lost = False
        if path is not None:
            n, n_latent = int(np.count_nonzero(rows >= 0)), vectors.n_latent
            if path.is_file() and path.stat().st_size == n * n_latent * 2 and len(sums) == -(-n // BLOCK):
                self._ordered = np.memmap(path, dtype="<i2", mode="r", shape=(n, n_latent))
            else:
                self._lost = True
                self.warn_if_lost()

    def best(self, queries: np.ndarray, candidates: np.ndarray, k: int, allowed: np.ndarray | None) -> Hits:
        """Keep the ``k`` best of the candidates, positions of cells int64 (m, c), by their exact distance.

        Each candidate occurs once; -1 for none. See :meth:`Index.nearest` for the queries and ``allowed``.
        """
        mask = np.empty(0, dtype=bool) if allowed is None else allowed
        ordered = self._ordered  # another thread may give it up meanwhile
        if ordered is not None:
            keys = np.zeros(candidates.shape, dtype=np.uint64)
            places = _places(candidates, self._rows, mask)
            if _compare(ordered, self._sums, self._seen, queries, places, keys):
                return Hits.of(*best_of(keys, k))
            self._ordered, self._lost = None, True
        return self._best_of_cells(queries, candidates, k, allowed)

    def _best_of_cells(self, queries: np.ndarray, candidates: np.ndarray, k: int, allowed: np.ndarray | None) -> Hits:
        """Rank candidates by the vectors in the order of the reference."""
        hits = Hits.none(len(queries), k)
        for i, mine in enumerate(candidates):
            mine = mine[mine >= 0]
            mine = np.sort(mine if allowed is None else mine[allowed[mine]])
            if len(mine):
                keys = np.zeros((1, len(mine)), dtype=np.uint64)
                compare_rows(self._cells.gather(mine), 0, np.arange(len(mine)), queries[i : i + 1], keys)
                at, similarity = best_of(keys, k)
                hits.put(slice(i, i + 1), Hits.of(np.where(at < 0, -1, mine[at]), similarity))
        return hits

    def warn_if_lost(self) -> None:
        """Warn once if the file is damaged. The thread of the user calls this: a warning names its line."""
        if self._lost:
            self._lost = False
            warn(
                f"The index file {self._path} is missing or damaged. Searches read the vectors of the cells instead, "
                "which takes longer. Reference.reindex() writes it."
            )


def write_ordered(vectors: FixedVectors, rows: np.ndarray, path: Path) -> np.ndarray:
    """Write vectors to the places ``rows``, see :class:`ListOrderedVectors`, and return the checksums.

    All vectors are read once for each half gigabyte that is written.
    """
    n_latent, n = vectors.n_latent, int(np.count_nonzero(rows >= 0))
    step = max(1, _BUFFER_BYTES // (2 * n_latent) // BLOCK) * BLOCK
    sums = [np.empty(0, dtype=np.uint64)]
    with open(path, "wb") as file:
        for first in range(0, n, step):
            buffer = np.empty((min(step, n - first), n_latent), dtype=np.int16)
            start = 0
            for segment in vectors.segments:
                _scatter(segment, rows[start : start + len(segment)], first, buffer)
                start += len(segment)
            sums.append(_sums(buffer))
            file.write(buffer.astype("<i2", copy=False).data)
    return np.concatenate(sums)


@njit(nogil=True)
def _scatter(segment, rows, first, buffer):  # type: ignore[no-untyped-def]
    """Copy the vectors whose places lie in ``buffer``, which begins at place ``first``."""
    for i in range(len(segment)):
        place = rows[i] - first
        if 0 <= place < len(buffer):
            for j in range(segment.shape[1]):
                buffer[place, j] = segment[i, j]


@njit(nogil=True)
def _sums(vectors):  # type: ignore[no-untyped-def]
    """Checksum of each block of vectors, uint64."""
    n_blocks = (len(vectors) + BLOCK - 1) // BLOCK
    sums = np.empty(n_blocks, dtype=np.uint64)
    for b in range(n_blocks):
        sums[b] = _sum(vectors, b)
    return sums


@njit(nogil=True)
def _sum(vectors, block):  # type: ignore[no-untyped-def]
    """Checksum of a block: two sums modulo 2**32, plain and by place, so that changed and moved numbers show."""
    plain, placed = np.uint32(0), np.uint32(0)
    for i in range(block * BLOCK, min((block + 1) * BLOCK, len(vectors))):
        seat = np.uint32((i - block * BLOCK) * vectors.shape[1] + 1)
        for j in range(vectors.shape[1]):
            value = np.uint32(np.int32(vectors[i, j]) + 32769)
            plain = np.uint32(plain + value * value)
            placed = np.uint32(placed + value * np.uint32(seat + np.uint32(j)))
    return np.uint64(plain) << np.uint64(32) | np.uint64(placed)


def _places(candidates: np.ndarray, rows: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Places and positions of candidates, packed into one integer and sorted, so that memory is read in order."""
    places = np.empty(candidates.shape, dtype=np.uint64)
    _fill_places(candidates, rows, allowed, places)
    places.sort(axis=1)
    return places


@njit(nogil=True)
def _fill_places(candidates, rows, allowed, places):  # type: ignore[no-untyped-def]
    for q in range(candidates.shape[0]):
        for i in range(candidates.shape[1]):
            position = candidates[q, i]
            places[q, i] = _NOWHERE
            if position >= 0 and (not len(allowed) or allowed[position]):
                places[q, i] = (np.uint64(rows[position]) << np.uint64(32)) | np.uint64(position)


@njit(nogil=True)
def _compare(vectors, sums, seen, queries, places, keys):  # type: ignore[no-untyped-def]
    """Write the sort key of each candidate; False if a block does not fit its checksum."""
    for q in range(len(queries)):
        for i in range(places.shape[1]):
            if places[q, i] == _NOWHERE:
                break
            row, position = np.int64(places[q, i] >> np.uint64(32)), places[q, i] & np.uint64(0xFFFFFFFF)
            if not seen[row // BLOCK]:
                if _sum(vectors, row // BLOCK) != sums[row // BLOCK]:
                    return False
                seen[row // BLOCK] = 1
            keys[q, i] = key_of(similarity_with(vectors[row], queries[q]), position)
    return True
