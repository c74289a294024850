"""The vectors once more, in the order of the lists, so that what a search ranks again lies on neighbouring pages."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numba import njit

from ._heaps import before, sift, sort_heaps
from ._segments import gather_fixed

#: Vectors that one checksum covers: 16 KB of 128 dimensions.
BLOCK = 64
#: Bytes of vectors that are put in order at a time.
_BUFFER = 512_000_000


class OrderedVectors:
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
            if path.is_file() and path.stat().st_size == n * n_latent * 2:
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
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        similarity = np.full((len(queries), k), -np.inf, dtype=np.float32)
        mask = np.empty(0, dtype=bool) if allowed is None else allowed
        if self._vectors is not None and not _rank(
            self._vectors, self._rows, self._sums, self._seen, queries, candidates, mask, similarity, positions
        ):
            self._give_up()
            positions[:], similarity[:] = -1, -np.inf
        if self._vectors is None:
            for i in range(len(queries)):
                mine = np.sort(candidates[i : i + 1, candidates[i] >= 0])  # equal ones come by position
                vectors = gather_fixed(self._segments, mine[0])
                # The vectors are copied, so that their places are the candidates'.
                place, none = np.arange(len(vectors), dtype=np.int32), np.empty(0, dtype=np.uint64)
                inside = place[None].astype(np.int64) if allowed is None else np.where(mask[mine], place[None], -1)
                part = similarity[i : i + 1], positions[i : i + 1]
                _rank(vectors, place, none, none.astype(np.uint8), queries[i : i + 1], inside, mask[:0], *part)
                held = positions[i] >= 0
                positions[i, held] = mine[0, positions[i, held]]
        return positions, similarity

    def _give_up(self) -> None:
        self._vectors = None
        warnings.warn(
            f"The index file {self._path} is missing or damaged. Searches read the vectors of the cells instead, which "
            "takes longer. Build the reference again to have it back.",
            UserWarning,
            stacklevel=6,
        )


def compare_each(
    segments: list[np.ndarray], queries: np.ndarray, rows: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compare queries (m, d) with the cells ``rows``, which ascend; see :meth:`OrderedVectors.best` for the result."""
    positions = np.full((len(queries), k), -1, dtype=np.int64)
    similarity = np.full((len(queries), k), -np.inf, dtype=np.float32)
    starts = np.cumsum([0, *map(len, segments)])
    bounds = np.searchsorted(rows, starts)
    for segment, start, a, b in zip(segments, starts[:-1], bounds[:-1], bounds[1:], strict=True):
        _offer(segment, int(start), rows[a:b], queries, similarity, positions)
    sort_heaps(similarity, positions, np.arange(len(queries)))
    return positions, similarity


def write_ordered(segments: list[np.ndarray], rows: np.ndarray, path: Path) -> np.ndarray:
    """Write vectors in the order of ``rows``, see :class:`OrderedVectors`, and return the checksums.

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


@njit(cache=True, nogil=True)
def _scatter(segment, rows, first, buffer):  # type: ignore[no-untyped-def]
    """Copy the vectors whose place is in ``buffer``, which begins at ``first``."""
    for i in range(len(segment)):
        place = rows[i] - first
        if 0 <= place < len(buffer):
            for j in range(segment.shape[1]):
                buffer[place, j] = segment[i, j]


@njit(cache=True, nogil=True)
def _sums(vectors):  # type: ignore[no-untyped-def]
    """Checksum of each block of vectors, uint64."""
    n_blocks = (len(vectors) + BLOCK - 1) // BLOCK
    sums = np.empty(n_blocks, dtype=np.uint64)
    for b in range(n_blocks):
        sums[b] = _sum(vectors, b)
    return sums


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _similarity(vector, query):  # type: ignore[no-untyped-def]
    """Cosine of fixed-point numbers with a unit vector."""
    product, square = np.float32(0), np.float32(0)
    for j in range(len(query)):
        value = np.float32(vector[j])
        product += value * query[j]
        square += value * value
    return product / np.sqrt(square)


@njit(cache=True, nogil=True)
def _rank(vectors, rows, sums, seen, queries, candidates, allowed, similarity, positions):  # type: ignore[no-untyped-def]
    """Fill heaps of the best candidates and sort them; False where a block is not what it was."""
    k = similarity.shape[1]
    for q in range(len(queries)):
        worst = similarity[q, 0]
        for i in range(candidates.shape[1]):
            position = candidates[q, i]
            if position < 0 or (len(allowed) and not allowed[position]):
                continue
            row = rows[position]
            if len(seen) and not seen[row // BLOCK]:
                if _sum(vectors, row // BLOCK) != sums[row // BLOCK]:
                    return False
                seen[row // BLOCK] = 1
            found = _similarity(vectors[row], queries[q])
            if found >= worst and before(worst, positions[q, 0], found, position):
                sift(similarity[q], positions[q], found, position, k)
                worst = similarity[q, 0]
    sort_heaps(similarity, positions, np.arange(len(queries)))
    return True


@njit(cache=True, nogil=True)
def _offer(segment, start, rows, queries, similarity, positions):  # type: ignore[no-untyped-def]
    """Offer cells to the heaps of all queries; one without direction has no similarity, and is never better."""
    k = similarity.shape[1]
    for i in range(len(rows)):
        vector = segment[rows[i] - start]
        for q in range(len(queries)):
            found = _similarity(vector, queries[q])
            if found >= similarity[q, 0] and before(similarity[q, 0], positions[q, 0], found, rows[i]):
                sift(similarity[q], positions[q], found, rows[i], k)
