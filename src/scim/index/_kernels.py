"""Compiled loops that several files use: sort keys, vectors to unit length, positions of set bits.

A sort key packs similarity and position into one integer. A larger key is a more similar cell; ties go to the lower
position.
"""

from __future__ import annotations

import numpy as np

from .._compiled import njit

#: Cells that are fetched from memory at a time.
_FETCHED_CELLS = 16
#: int16 numbers in a cache line.
_LINE_NUMBERS = 32


@njit(nogil=True)
def key_of(similarity, position):  # type: ignore[no-untyped-def]
    """Sort key of a cell's similarity, float32, and position; 0 if the similarity is not a number.

    The bits of a float sort as the float does once its sign bit is turned, and all other bits if it was set.
    """
    if similarity != similarity:
        return np.uint64(0)
    bits = np.float32(similarity + np.float32(0)).view(np.uint32)  # makes 0 of -0
    ordered = ~bits if bits >> np.uint32(31) else bits | np.uint32(0x80000000)
    return (np.uint64(ordered) << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - np.uint64(position))


@njit(nogil=True)
def similarity_of(key):  # type: ignore[no-untyped-def]
    """Similarity in a sort key."""
    ordered = np.uint32(key >> np.uint64(32))
    bits = ordered & np.uint32(0x7FFFFFFF) if ordered >> np.uint32(31) else ~ordered
    return np.uint32(bits).view(np.float32)


@njit(nogil=True)
def position_of(key):  # type: ignore[no-untyped-def]
    """Position in a sort key."""
    return np.int64(np.uint64(0xFFFFFFFF) - (key & np.uint64(0xFFFFFFFF)))


@njit(nogil=True)
def distance_of(similarity):  # type: ignore[no-untyped-def]
    """Cosine distance of a similarity, float32, clipped to 0 and 2 against rounding."""
    return min(max(np.float32(1) - similarity, np.float32(0)), np.float32(2))


def best_of(keys: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions int64 and similarities float32 (m, k) of the largest sort keys (m, n), best first; -1, -inf for 0."""
    n = keys.shape[1]
    if n > k:
        keys = np.partition(keys, n - k, axis=1)[:, n - k :]
    keys = np.sort(keys, axis=1)
    positions = np.full((len(keys), k), -1, dtype=np.int64)
    similarity = np.full((len(keys), k), -np.inf, dtype=np.float32)
    _read(keys, positions, similarity)
    return positions, similarity


@njit(nogil=True)
def _read(keys, positions, similarity):  # type: ignore[no-untyped-def]
    """Write ascending keys to rows that descend."""
    n = keys.shape[1]
    for q in range(len(keys)):
        for i in range(n):
            key = keys[q, n - 1 - i]
            if key:
                positions[q, i], similarity[q, i] = position_of(key), similarity_of(key)


@njit(nogil=True, fastmath={"reassoc", "contract"})
def to_unit(segment, rows, out):  # type: ignore[no-untyped-def]
    """Write rows of fixed-point vectors as float32 of length 1 to ``out``, and return how many are zero and stay so."""
    empty = 0
    for i in range(len(rows)):
        vector = segment[rows[i]]
        # Squares are whole numbers up to 2**30, so that their sum is exact in any order.
        total = np.int64(0)
        for j in range(len(vector)):
            total += np.int32(vector[j]) * np.int32(vector[j])
        empty += total == 0
        scale = np.float32(1 / np.sqrt(np.float64(total))) if total else np.float32(0)
        for j in range(len(vector)):
            out[i, j] = np.float32(vector[j]) * scale
    return empty


@njit(nogil=True, fastmath={"reassoc", "contract"})
def similarity_with(vector, query):  # type: ignore[no-untyped-def]
    """Cosine of a fixed-point vector and a unit vector; not a number if all are 0, as in a damaged file."""
    product, square = np.float32(0), np.float32(0)
    for j in range(len(query)):
        value = np.float32(vector[j])
        product += value * query[j]
        square += value * value
    return product / np.sqrt(square) if square else np.float32(np.nan)


@njit(nogil=True)
def compare_rows(segment, start, rows, queries, keys):  # type: ignore[no-untyped-def]
    """Write the sort key of each cell for each query, 0 for a cell without direction.

    Cells lie scattered. One number of each cache line of the next cells is read first, to wait for memory once for all
    of them. The sum of these numbers is returned, or the compiler would drop the reads.
    """
    touched = 0
    for i in range(len(rows)):
        if i % _FETCHED_CELLS == 0:
            for ahead in rows[i : i + _FETCHED_CELLS]:
                for j in range(0, segment.shape[1], _LINE_NUMBERS):
                    touched += segment[ahead - start, j]
        vector = segment[rows[i] - start]
        for q in range(len(queries)):
            keys[q, i] = key_of(similarity_with(vector, queries[q]), rows[i])
    return touched


def rows_of(allowed: np.ndarray) -> np.ndarray:
    """Positions of the cells that are allowed, int64, ascending, as np.flatnonzero gives them, but faster."""
    allowed = np.ascontiguousarray(allowed)
    rows = np.empty(np.count_nonzero(allowed), dtype=np.int64)
    _find(allowed[: len(allowed) // 8 * 8].view(np.uint64), allowed, rows)
    return rows


@njit(nogil=True)
def _find(words, allowed, rows):  # type: ignore[no-untyped-def]
    """Write the positions that are set to ``rows``, which has room for all; look at eight at once."""
    n = 0
    for w in range(len(words)):
        if words[w]:
            n = _find_in(8 * w, 8 * w + 8, allowed, rows, n)
    _find_in(8 * len(words), len(allowed), allowed, rows, n)


@njit(nogil=True)
def _find_in(first, last, allowed, rows, n):  # type: ignore[no-untyped-def]
    """Write the positions that are set in a part to ``rows[n:]``, and return the next place."""
    for i in range(first, last):
        if allowed[i]:
            rows[n] = i
            n += 1
    return n
