"""Cells as numbers to sort by: of two, the larger is more similar, or as similar and farther in front."""

from __future__ import annotations

import numpy as np

from .._compiled import njit


@njit(nogil=True)
def key_of(similarity, position):  # type: ignore[no-untyped-def]
    """Make one number of a cell's similarity, float32, and its position; 0 where there is no similarity.

    The bits of a float sort as it does when its sign is turned, and all the others where it was set.
    """
    if similarity != similarity:
        return np.uint64(0)
    bits = np.float32(similarity + np.float32(0)).view(np.uint32)  # -0 is as good as 0
    ordered = ~bits if bits >> np.uint32(31) else bits | np.uint32(0x80000000)
    return (np.uint64(ordered) << np.uint64(32)) | (np.uint64(0xFFFFFFFF) - np.uint64(position))


@njit(nogil=True)
def similarity_of(key):  # type: ignore[no-untyped-def]
    """Similarity of a cell that :func:`key_of` made a number of."""
    ordered = np.uint32(key >> np.uint64(32))
    bits = ordered & np.uint32(0x7FFFFFFF) if ordered >> np.uint32(31) else ~ordered
    return np.uint32(bits).view(np.float32)


@njit(nogil=True)
def position_of(key):  # type: ignore[no-untyped-def]
    """Position of a cell that :func:`key_of` made a number of."""
    return np.int64(np.uint64(0xFFFFFFFF) - (key & np.uint64(0xFFFFFFFF)))


@njit(nogil=True)
def distance_of(similarity):  # type: ignore[no-untyped-def]
    """Cosine distance of a similarity, float32, without what rounding put beyond 0 and 2."""
    return min(max(np.float32(1) - similarity, np.float32(0)), np.float32(2))


def best_of(keys: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions int64 and similarities float32 (m, k) of the largest of keys (m, n), best first; -1 and -inf for 0."""
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
    """Bring rows of fixed-point numbers to length 1; zero vectors stay zero. Returns how many there are of these."""
    empty = 0
    for i in range(len(rows)):
        vector = segment[rows[i]]
        # Whole numbers up to 2**30: their sum is exact, in whatever order.
        total = np.int64(0)
        for j in range(len(vector)):
            total += np.int32(vector[j]) * np.int32(vector[j])
        empty += total == 0
        scale = np.float32(1 / np.sqrt(np.float64(total))) if total else np.float32(0)
        for j in range(len(vector)):
            out[i, j] = np.float32(vector[j]) * scale
    return empty


def rows_of(allowed: np.ndarray) -> np.ndarray:
    """Positions of the cells that may be found, int64, as np.flatnonzero, in less time."""
    rows = few_rows(allowed, int(np.count_nonzero(allowed)))
    assert rows is not None  # there are no more
    return rows


def few_rows(allowed: np.ndarray, most: int) -> np.ndarray | None:
    """Positions of the cells that may be found, int64, ascending; None where they are more than ``most``."""
    allowed = np.ascontiguousarray(allowed)
    rows = np.empty(most, dtype=np.int64)
    n = _find(allowed[: len(allowed) // 8 * 8].view(np.uint64), allowed, rows)
    return None if n < 0 else rows[:n]


@njit(nogil=True)
def _find(words, allowed, rows):  # type: ignore[no-untyped-def]
    """Write positions of what is set, eight looked at at once, and return how many; -1 where there is no room."""
    n = 0
    for w in range(len(words)):
        if words[w]:
            n = _note(8 * w, 8 * w + 8, allowed, rows, n)
            if n < 0:
                return n
    return _note(8 * len(words), len(allowed), allowed, rows, n)


@njit(nogil=True)
def _note(first, last, allowed, rows, n):  # type: ignore[no-untyped-def]
    """Write positions of what is set in a part to ``rows[n:]``; return the next place, -1 where there is no room."""
    for i in range(first, last):
        if allowed[i]:
            if n == len(rows):
                return -1
            rows[n] = i
            n += 1
    return n
