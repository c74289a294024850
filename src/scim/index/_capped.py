"""Caps on hits per group: loops over hits, compiled when they are first needed."""

from __future__ import annotations

import numpy as np

from .._compiled import njit
from ._exact import blocks, no_hits
from ._kernels import distance_of, key_of, position_of, similarity_of

#: Cells of all queries that are sorted at a time, a number each: 256 MB.
_KEYS = 32_000_000


@njit(nogil=True)
def fill_groups(keep, groups, caps, n_groups):  # type: ignore[no-untyped-def]
    """Drop hits, in place, of groups (columns, m, k) that are full."""
    counts = np.zeros((len(caps), n_groups), dtype=np.int64)
    for row in range(keep.shape[0]):
        counts[:] = 0
        for i in range(keep.shape[1]):
            for column in range(len(caps)):
                if counts[column, groups[column, row, i]] >= caps[column]:
                    keep[row, i] = False
            if keep[row, i]:
                for column in range(len(caps)):
                    counts[column, groups[column, row, i]] += 1


def search_all(
    segments: list[np.ndarray],
    queries: np.ndarray,
    k: int,
    allowed: np.ndarray | None,
    groups: list[tuple[np.ndarray, int]],
) -> tuple[np.ndarray, np.ndarray]:
    """Go through all cells by their distance until k are found that no cap drops.

    Parameters
    ----------
    segments
        Vectors of each segment, int16 (n_i, d).
    queries
        Unit vectors, float32 (m, d).
    k
        Hits of each.
    allowed
        Cells that may be found, bool (n,), or None.
    groups
        Group of each cell, -1 for a missing value, which is a group as well; and most hits of one.

    Returns
    -------
    Positions int64 and cosine distances float32 (m, k), nearest first, equal ones by position; -1 and inf for none.
    """
    positions, distances = no_hits(len(queries), k)
    n_cells = sum(map(len, segments)) if allowed is None else int(np.count_nonzero(allowed))
    codes, caps = np.stack([codes + 1 for codes, _ in groups]), np.array([cap for _, cap in groups], dtype=np.int64)
    step = max(1, _KEYS // max(n_cells, 1))
    for part in (slice(i, i + step) for i in range(0, len(queries), step)):
        keys, start = np.zeros((len(queries[part]), n_cells), dtype=np.uint64), 0
        for rows, block in blocks(segments, allowed):
            _write_keys(queries[part] @ block.T, rows, keys[:, start : start + len(rows)])
            start += len(rows)
        keys.sort(axis=1)
        _take_best(keys, codes, caps, int(codes.max(initial=0)) + 1, positions[part], distances[part])
    return positions, distances


@njit(nogil=True)
def _write_keys(similarity, rows, keys):  # type: ignore[no-untyped-def]
    """Write keys of cells by their distance, in which rounding beyond 0 and 2 is gone."""
    for q in range(similarity.shape[0]):
        for i in range(similarity.shape[1]):
            keys[q, i] = key_of(-distance_of(similarity[q, i]), rows[i])


@njit(nogil=True)
def _take_best(keys, codes, caps, n_groups, positions, distances):  # type: ignore[no-untyped-def]
    """Take cells from the last key on whose groups (columns, n_cells) are not full."""
    counts = np.zeros((len(caps), n_groups), dtype=np.int64)
    for q in range(len(keys)):
        counts[:] = 0
        n = 0
        for i in range(keys.shape[1] - 1, -1, -1):
            key = keys[q, i]
            if n == positions.shape[1] or not key:
                break
            cell, full = position_of(key), False
            for column in range(len(caps)):
                full |= counts[column, codes[column, cell]] >= caps[column]
            if not full:
                for column in range(len(caps)):
                    counts[column, codes[column, cell]] += 1
                positions[q, n], distances[q, n] = cell, np.float32(0) - similarity_of(key)
                n += 1
