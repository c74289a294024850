"""Caps on hits per group: loops over hits, compiled when they are first needed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .._compiled import njit
from ._kernels import distance_of, key_of, position_of, similarity_of
from ._protocol import Index, no_hits
from ._vectors import blocks

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


#: Hits that are looked through at a time where groups are capped.
_HITS = 4_000_000


#: Where caps leave too few of this part of all cells, all are gone through at once.
_DEEP = 64


def _search_capped(
    backend: Index,
    queries: np.ndarray,
    k: int,
    available: int,
    allowed: np.ndarray | None,
    groups: Mapping[str, tuple[np.ndarray, int]],
    local: list[np.ndarray] | None,
    recall: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Search deeper and deeper, until what the caps leave fills k places or nothing more can be found.

    Where the vectors are ``local``, the last step goes through all of them: a cap on types is filled by cells that lie
    far out, and deeper searches would come to the same, each after the other.
    """
    indices, distances = no_hits(len(queries), k)
    enough = min(k, *(_most_hits(codes if allowed is None else codes[allowed], cap) for codes, cap in groups.values()))
    todo, depth = np.arange(len(queries)), k
    while len(todo):
        if local is not None and depth * _DEEP > available:
            from ._capped import search_all

            indices[todo], distances[todo] = search_all(local, queries[todo], k, allowed, list(groups.values()))
            break
        missing = []
        step = max(1, _HITS // depth)
        for part in (todo[i : i + step] for i in range(0, len(todo), step)):
            found, near = backend.search(queries[part], depth, allowed, recall)
            keep = _under_caps(found, groups)
            full = (keep.sum(axis=1) >= enough) | (depth == available)
            indices[part[full]], distances[part[full]] = _packed(found[full], near[full], keep[full], k)
            missing.append(part[~full])
        todo, depth = np.concatenate(missing), min(4 * depth, available)
    return indices, distances


def _most_hits(codes: np.ndarray, cap: int) -> int:
    """How many cells can be found at most with ``cap`` of each group; a missing value, -1, is a group as well."""
    return int(np.minimum(np.bincount(codes + 1), cap).sum())


def _under_caps(indices: np.ndarray, groups: Mapping[str, tuple[np.ndarray, int]]) -> np.ndarray:
    """Mark the hits that come before their group is full; what one column drops does not fill a group of another."""
    from ._capped import fill_groups

    keep = indices >= 0
    # A missing value, -1, is a group as well.
    mine = [np.where(keep, codes[indices], -1) + 1 for codes, _ in groups.values()]
    stacked = np.stack(mine) if mine else np.empty((0, *indices.shape), dtype=np.int64)
    caps = np.array([cap for _, cap in groups.values()], dtype=np.int64)
    fill_groups(keep, stacked, caps, int(stacked.max(initial=0)) + 1)
    return keep


def _packed(found: np.ndarray, near: np.ndarray, keep: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Kept hits moved to the front of each row, and rows cut to k."""
    order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(keep, order, 1)
    return (
        np.where(kept, np.take_along_axis(found, order, 1), -1),
        np.where(kept, np.take_along_axis(near, order, 1), np.inf),
    )
