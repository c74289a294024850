"""The vectors once more, in the order of the lists, so that what a search ranks again lies on neighbouring pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .._compiled import njit
from .._threads import in_threads
from .._warn import warn
from ._kernels import best_of, key_of
from ._vectors import gather_fixed

#: Vectors that one checksum covers, a page of 128 dimensions: larger blocks would take longer to compare, when they are
#: first read, than the candidates in them.
BLOCK = 16
#: Bytes of vectors that are put in order at a time; cells that are compared one by one at a time, and by a thread.
_BUFFER = 512_000_000
_CELLS = 65_536
_PART = 4_096
#: Vectors that are fetched from memory at a time, and numbers of them in a cache line.
_AHEAD = 16
_LINE = 32
#: Place of a candidate that does not count: behind all others.
_NOWHERE = np.uint64(0xFFFFFFFFFFFFFFFF)


class ListOrderedVectors:
    """Vectors in the order of the lists, each block compared with its checksum when it is first read.

    Parameters
    ----------
    segments
        Vectors in the order of the reference, int16 (n_i, d): read where the ordered ones are missing or damaged.
    path
        The ordered vectors, int16 (n, d); None: there are none.
    rows
        Where each cell's vector lies there, int32 (n_cells,); -1 for one that has no direction.
    sums
        Checksum of each block, uint64.
    """

    def __init__(self, segments: list[np.ndarray], path: Path | None, rows: np.ndarray, sums: np.ndarray) -> None:
        self._segments, self._path, self._rows, self._sums = segments, path, rows, sums
        self._seen = np.zeros(len(sums), dtype=np.uint8)
        self._vectors: np.ndarray | None = None
        n_latent = segments[0].shape[1]
        if path is not None:
            n = int(np.count_nonzero(rows >= 0))
            if path.is_file() and path.stat().st_size == n * n_latent * 2 and len(sums) == -(-n // BLOCK):
                self._vectors = np.memmap(path, dtype="<i2", mode="r", shape=(n, n_latent))
            else:
                self._give_up()

    def best(
        self, queries: np.ndarray, candidates: np.ndarray, k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rank candidates by their exact distance.

        Parameters
        ----------
        queries
            Unit vectors, float32 (m, d).
        candidates
            Positions of cells int64 (m, c), each once; -1 for none.
        k
            Cells to keep of each query.
        allowed
            Cells that may be kept, bool (n_cells,), or None.

        Returns
        -------
        Positions int64 and cosine similarities float32 (m, k), best first, equal ones by position; -1 and -inf for
        none.
        """
        mask = np.empty(0, dtype=bool) if allowed is None else allowed
        vectors = self._vectors  # another thread may give it up meanwhile
        if vectors is not None:
            keys = np.zeros(candidates.shape, dtype=np.uint64)
            places = _places(candidates, self._rows, mask)
            if _compare(vectors, self._sums, self._seen, queries, places, keys):
                return best_of(keys, k)
            self._give_up()
        return self._best_of_segments(queries, candidates, k, allowed)

    def _best_of_segments(
        self, queries: np.ndarray, candidates: np.ndarray, k: int, allowed: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rank candidates by the vectors of the cells themselves."""
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        similarity = np.full((len(queries), k), -np.inf, dtype=np.float32)
        for i, mine in enumerate(candidates):
            mine = mine[mine >= 0]
            mine = np.sort(mine if allowed is None else mine[allowed[mine]])
            if len(mine):
                keys = np.zeros((1, len(mine)), dtype=np.uint64)
                _compare_some(gather_fixed(self._segments, mine), 0, np.arange(len(mine)), queries[i : i + 1], keys)
                at, similarity[i] = (part[0] for part in best_of(keys, k))
                positions[i] = np.where(at < 0, -1, mine[at])
        return positions, similarity

    def _give_up(self) -> None:
        self._vectors = None
        warn(
            f"The index file {self._path} is missing or damaged. Searches read the vectors of the cells instead, which "
            "takes longer. Reference.reindex() writes it."
        )


def compare_each(
    segments: list[np.ndarray], queries: np.ndarray, rows: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compare queries (m, d) with the cells ``rows``, which ascend; see :meth:`ListOrderedVectors.best`."""
    best = np.zeros((len(queries), 0), dtype=np.uint64)
    starts = np.cumsum([0, *map(len, segments)])
    bounds = np.searchsorted(rows, starts)
    for segment, start, a, b in zip(segments, starts[:-1], bounds[:-1], bounds[1:], strict=True):
        for first in range(a, b, _CELLS):
            mine = rows[first : min(first + _CELLS, b)]
            keys = np.empty((len(queries), len(mine)), dtype=np.uint64)
            _compare_in_threads(segment, int(start), mine, queries, keys)
            best = np.concatenate([best, keys], axis=1)
            if best.shape[1] > k:
                best = np.partition(best, best.shape[1] - k, axis=1)[:, best.shape[1] - k :]
    return best_of(best, k)


def _compare_in_threads(
    segment: np.ndarray, start: int, rows: np.ndarray, queries: np.ndarray, keys: np.ndarray
) -> None:
    """Write the keys of cells: what they wait for is memory, which each thread asks for by itself."""

    def work(first: int, last: int) -> None:
        part = slice(first * _PART, last * _PART)
        _compare_some(segment, start, rows[part], queries, keys[:, part])

    in_threads(-(-len(rows) // _PART), work)


def write_ordered(segments: list[np.ndarray], rows: np.ndarray, path: Path) -> np.ndarray:
    """Write vectors in the order of ``rows``, see :class:`ListOrderedVectors`, and return the checksums.

    The vectors are read once for each half gigabyte that is written, one after the other.
    """
    n_latent, n = segments[0].shape[1], int(np.count_nonzero(rows >= 0))
    step = max(1, _BUFFER // (2 * n_latent) // BLOCK) * BLOCK
    sums = [np.empty(0, dtype=np.uint64)]
    with open(path, "wb") as file:
        for first in range(0, n, step):
            buffer = np.empty((min(step, n - first), n_latent), dtype=np.int16)
            start = 0
            for segment in segments:
                _scatter(segment, rows[start : start + len(segment)], first, buffer)
                start += len(segment)
            sums.append(_sums(buffer))
            file.write(buffer.astype("<i2", copy=False).data)
    return np.concatenate(sums)


@njit(nogil=True)
def _scatter(segment, rows, first, buffer):  # type: ignore[no-untyped-def]
    """Copy the vectors whose place is in ``buffer``, which begins at ``first``."""
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
    """Two sums modulo 2**32, plain and by place, so that neither another number nor another order goes unseen."""
    plain, placed = np.uint32(0), np.uint32(0)
    for i in range(block * BLOCK, min((block + 1) * BLOCK, len(vectors))):
        seat = np.uint32((i - block * BLOCK) * vectors.shape[1] + 1)
        for j in range(vectors.shape[1]):
            value = np.uint32(np.int32(vectors[i, j]) + 32769)
            plain = np.uint32(plain + value * value)
            placed = np.uint32(placed + value * np.uint32(seat + np.uint32(j)))
    return np.uint64(plain) << np.uint64(32) | np.uint64(placed)


@njit(nogil=True, fastmath={"reassoc", "contract"})
def _similarity(vector, query):  # type: ignore[no-untyped-def]
    """Cosine of fixed-point numbers with a unit vector; none, where all are 0: a file was damaged."""
    product, square = np.float32(0), np.float32(0)
    for j in range(len(query)):
        value = np.float32(vector[j])
        product += value * query[j]
        square += value * value
    return product / np.sqrt(square) if square else np.float32(np.nan)


def _places(candidates: np.ndarray, rows: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Places of candidates with their positions, one number each, ascending: memory is read from front to back then."""
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
    """Write the key of each candidate; False where a block is not what it was."""
    for q in range(len(queries)):
        for i in range(places.shape[1]):
            if places[q, i] == _NOWHERE:
                break
            row, position = np.int64(places[q, i] >> np.uint64(32)), places[q, i] & np.uint64(0xFFFFFFFF)
            if not seen[row // BLOCK]:
                if _sum(vectors, row // BLOCK) != sums[row // BLOCK]:
                    return False
                seen[row // BLOCK] = 1
            keys[q, i] = key_of(_similarity(vectors[row], queries[q]), position)
    return True


@njit(nogil=True)
def _compare_some(segment, start, rows, queries, keys):  # type: ignore[no-untyped-def]
    """Write the key of each cell for each query; that of one without direction is 0.

    Cells lie scattered. A number of each cache line of the next ones is read first, so that memory is waited for once
    for all of them; what these add up to is returned, or they would not be read.
    """
    touched = 0
    for i in range(len(rows)):
        if i % _AHEAD == 0:
            for ahead in rows[i : i + _AHEAD]:
                for j in range(0, segment.shape[1], _LINE):
                    touched += segment[ahead - start, j]
        vector = segment[rows[i] - start]
        for q in range(len(queries)):
            keys[q, i] = key_of(_similarity(vector, queries[q]), rows[i])
    return touched
