"""Search with a cap on the hits of each group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .._compiled import njit
from ._kernels import distance_of, key_of, position_of, similarity_of
from ._protocol import Hits, Index
from ._vectors import FixedVectors, both

#: Sort keys of cells that are held at a time: 256 MB.
KEYS_AT_A_TIME = 32_000_000
#: Hits that are searched at a time.
HITS_AT_A_TIME = 4_000_000
#: If a search would go deeper than all cells divided by this, all cells are sorted instead.
SORT_ALL_DIVISOR = 64


@dataclass(frozen=True, eq=False)
class Cap:
    """Most hits of a group.

    ``codes`` are the groups of the cells, (n,), -1 for a missing value, which is a group as well.
    """

    codes: np.ndarray
    most: int


def search_capped(
    index: Index,
    queries: np.ndarray,
    k: int,
    caps: Sequence[Cap],
    *,
    allowed: np.ndarray | None = None,
    recall: float | None = None,
) -> Hits:
    """Search deeper and deeper, until the hits that the caps leave fill k places, or no more can be found.

    If the index is local, the last step sorts all cells: a cap on types is filled by cells that lie far out, and deeper
    searches would come to the same, one after the other. See :meth:`Index.nearest` for the other parameters.
    """
    cells = both(allowed, index.findable)
    hits, available = Hits.none(len(queries), k), index.vectors.count(cells)
    groups = [np.bincount((cap.codes if cells is None else cap.codes[cells]) + 1) for cap in caps]
    enough = min(k, *(int(np.minimum(group, cap.most).sum()) for group, cap in zip(groups, caps, strict=True)))
    todo, depth = np.arange(len(queries)), k
    while len(todo):
        if index.local and depth * SORT_ALL_DIVISOR > available:
            hits.put(todo, sort_all(index.vectors, queries[todo], k, cells, caps))
            break
        missing = []
        step = max(1, HITS_AT_A_TIME // depth)
        for part in (todo[i : i + step] for i in range(0, len(todo), step)):
            found = under_caps(index.nearest(queries[part], depth, allowed, recall), caps, k)
            full = ((found.indices >= 0).sum(axis=1) >= enough) | (depth == available)
            hits.put(part[full], Hits(found.indices[full], found.distances[full]))
            missing.append(part[~full])
        todo, depth = np.concatenate(missing), min(4 * depth, available)
    return hits


def under_caps(hits: Hits, caps: Sequence[Cap], k: int | None = None) -> Hits:
    """Keep the first ``k`` hits, or all, whose groups are not full when their turn comes.

    A hit that one column drops does not fill a group of another column.
    """
    keep = hits.indices >= 0
    groups = np.stack([np.where(keep, cap.codes[hits.indices], -1) + 1 for cap in caps])
    _drop_full(keep, groups, np.array([cap.most for cap in caps], dtype=np.int64), int(groups.max(initial=0)) + 1)
    k = int(keep.sum(axis=1).max(initial=0)) if k is None else k
    order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(keep, order, 1)
    indices = np.where(kept, np.take_along_axis(hits.indices, order, 1), -1)
    return Hits(indices, np.where(kept, np.take_along_axis(hits.distances, order, 1), np.float32(np.inf)))


@njit(nogil=True)
def _drop_full(keep, groups, caps, n_groups):  # type: ignore[no-untyped-def]
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


def sort_all(
    vectors: FixedVectors, queries: np.ndarray, k: int, allowed: np.ndarray | None, caps: Sequence[Cap]
) -> Hits:
    """Sort all cells by their distance, and take the first k that no cap drops, see :func:`search_capped`."""
    hits, n_cells = Hits.none(len(queries), k), vectors.count(allowed)
    codes, most = np.stack([cap.codes + 1 for cap in caps]), np.array([cap.most for cap in caps], dtype=np.int64)
    step = max(1, KEYS_AT_A_TIME // max(n_cells, 1))
    for part in (slice(i, i + step) for i in range(0, len(queries), step)):
        keys, start = np.zeros((len(queries[part]), n_cells), dtype=np.uint64), 0
        for rows, block in vectors.blocks(allowed):
            _write_keys(queries[part] @ block.T, rows, keys[:, start : start + len(rows)])
            start += len(rows)
        keys.sort(axis=1)
        _take_best(keys, codes, most, int(codes.max(initial=0)) + 1, hits.indices[part], hits.distances[part])
    return hits


@njit(nogil=True)
def _write_keys(similarity, rows, keys):  # type: ignore[no-untyped-def]
    """Write sort keys of cells by their distance, which is clipped to 0 and 2."""
    for q in range(similarity.shape[0]):
        for i in range(similarity.shape[1]):
            keys[q, i] = key_of(-distance_of(similarity[q, i]), rows[i])


@njit(nogil=True)
def _take_best(keys, codes, caps, n_groups, positions, distances):  # type: ignore[no-untyped-def]
    """Take cells, from the last key on, whose groups (columns, n_cells) are not full."""
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
