"""Measure, on cells of an index, the share of the true neighbours by the number of lists and candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._exact import ExactIndex, nearest_of_others
from ._vectors import FixedVectors

#: Number of neighbours to measure for -> most candidates per neighbour that are tried.
DEPTHS = {10: 64, 50: 32, 1_000: 8, 3_000: 6, 10_000: 4}
#: Candidates per neighbour to measure for.
_FACTORS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
#: Fewest cells of studies that may be left out.
_MIN_TRIED_CELLS = 20


def cells_to_try(
    directed: np.ndarray, groups: np.ndarray | None, *, seed: int
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Draw the cells that an index is tried on: any cells, and cells that are compared with other studies only.

    Cells of a new study find their neighbours farther out than the index's own cells do. Cells of a study that is left
    out stand for them, if most cells are left without that study.

    Cells are drawn from the positions ``directed``. ``groups`` are the studies of all cells, codes (n_cells,), if there
    are several. Return positions in random order, each with None, or with ``groups`` if only neighbours of other groups
    count.
    """
    order = np.random.default_rng(seed).permutation(directed)
    if groups is None:
        return [(order, None)]
    sizes = np.bincount(groups - groups.min())
    small = order[2 * sizes[groups[order] - groups.min()] <= len(groups)]
    return [(order, None), (small, groups)] if len(small) >= _MIN_TRIED_CELLS else [(order, None)]


def true_neighbours(
    vectors: FixedVectors, rows: np.ndarray, k: int, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest cells of the cells ``rows``, exactly. The cells themselves, or their group, do not count.

    Return positions, nearest first, (m, t), and which of them count, bool (m, t), at most ``k`` of each.
    """
    queries = vectors.take(rows)
    if groups is None:
        truth = ExactIndex(vectors).nearest(queries, k + 1).indices
        counts = (truth >= 0) & (truth != rows[:, None])
    else:
        truth = nearest_of_others(vectors, queries, groups[rows], groups, k).indices
        counts = truth >= 0
    return truth, counts & (np.cumsum(counts, axis=1) <= k)


def worse_of(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Take the worse of two trials at each depth, in the order of the first."""
    both = {}
    for depth in (depth for depth in one if depth in other):
        a, b = one[depth], other[depth]
        among = {factor: min(a["among"][factor], b["among"][factor]) for factor in a["among"] if factor in b["among"]}
        both[depth] = {"visits": a["visits"], "found": np.minimum(a["found"], b["found"]).tolist(), "among": among}
    return both


def found_in_lists(order: np.ndarray, members: np.ndarray) -> tuple[list[int], list[float]]:
    """Share of the true neighbours in the nearest lists, by the number of lists.

    ``order`` has the lists by the distance of their centres, nearest first, (m, n_lists), and ``members`` the list of
    each true neighbour, (m, k); -1 for one that does not count.
    """
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[1])[None], axis=1)
    ranks = np.take_along_axis(rank, members, axis=1)[members >= 0]
    visits = np.unique(np.geomspace(1, order.shape[1], 60).astype(int))
    share = np.searchsorted(np.sort(ranks), visits, side="left") / max(len(ranks), 1)
    return visits.tolist(), np.round(share, 5).tolist()


def found_among(
    candidates: np.ndarray, truth: np.ndarray, counts: np.ndarray, k: int, *, of: float
) -> dict[str, float]:
    """Share of the true neighbours among the first 2k, 3k, ... candidates, if ``k`` neighbours are asked for.

    Candidates are in the order of their approximate distance, (m, c); -1 for none. ``truth`` are the true neighbours
    (m, t), ``counts`` which of them count, bool (m, t), and ``of`` the share that lies in the candidates' lists.
    """
    found = {}
    place = np.full(truth.shape, candidates.shape[1])
    for i in range(len(truth)):
        order = np.argsort(candidates[i])
        at = np.minimum(np.searchsorted(candidates[i], truth[i], sorter=order), candidates.shape[1] - 1)
        there = candidates[i, order[at]] == truth[i]
        place[i, there] = order[at[there]]
    total = max(counts.sum() * of, 1)
    for factor in _FACTORS:
        if factor * k <= candidates.shape[1]:
            found[str(factor)] = round(min(float((place[counts] < factor * k).sum() / total), 1.0), 5)
    return found
