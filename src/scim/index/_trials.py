"""What share of the true neighbours lies how far in: measured on cells of the index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._exact import ExactIndex, nearest_of_others
from ._vectors import take_vectors

#: Numbers of neighbours for which that is measured, and most candidates per neighbour that are tried.
DEPTHS = {10: 64, 50: 32, 1_000: 8, 3_000: 6, 10_000: 4}


#: Candidates per neighbour, of which the fewest are taken that lose no more than this share of the allowed loss.
_FACTORS = (2, 3, 4, 6, 8, 12, 16, 24, 32)


_FEW = 20


def cells_to_try(
    directed: np.ndarray, groups: np.ndarray | None, *, seed: int
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Draw the cells that an index is tried on: any, and cells whose neighbours in other studies alone will count.

    Cells of a study that a reference lacks find their neighbours in those that it has, and farther out than its own
    cells find theirs. A cell of one of its studies stands for them where that is left out, if most cells are left then.

    Parameters
    ----------
    directed
        Positions of the cells that have a direction.
    groups
        Study of each cell, codes (n_cells,), if there are several.
    seed
        Seed of the draw.

    Returns
    -------
    Positions in random order, each with None, or with ``groups`` where only neighbours of other groups count.
    """
    order = np.random.default_rng(seed).permutation(directed)
    if groups is None:
        return [(order, None)]
    sizes = np.bincount(groups - groups.min())
    small = order[2 * sizes[groups[order] - groups.min()] <= len(groups)]
    return [(order, None), (small, groups)] if len(small) >= _FEW else [(order, None)]


def true_neighbours(
    segments: list[np.ndarray], rows: np.ndarray, k: int, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest cells of the cells ``rows``, exactly: themselves, or what is of their group, do not count.

    Returns
    -------
    Positions, nearest first, (m, t), and which of them count, bool (m, t), ``k`` of each at most.
    """
    queries = take_vectors(segments, rows)
    if groups is None:
        truth, _ = ExactIndex(segments).search(queries, k + 1, None)
        counts = (truth >= 0) & (truth != rows[:, None])
    else:
        truth, _ = nearest_of_others(segments, queries, groups[rows], groups, k)
        counts = truth >= 0
    return truth, counts & (np.cumsum(counts, axis=1) <= k)


def worse_of(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Trials that found what the worse of two found, depth by depth, in the order of the first."""
    both = {}
    for depth in (depth for depth in one if depth in other):
        a, b = one[depth], other[depth]
        among = {factor: min(a["among"][factor], b["among"][factor]) for factor in a["among"] if factor in b["among"]}
        both[depth] = {"visits": a["visits"], "found": np.minimum(a["found"], b["found"]).tolist(), "among": among}
    return both


def found_in_lists(order: np.ndarray, members: np.ndarray) -> tuple[list[int], list[float]]:
    """Share of the true neighbours that lie in the nearest lists, by the number of lists.

    Parameters
    ----------
    order
        Lists by the distance of their centres, nearest first, (m, n_lists).
    members
        List of each true neighbour, (m, k); -1 for one that does not count.
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
    """Share of the true neighbours among the candidates that are among the first 2k, 3k, ... of them.

    Parameters
    ----------
    candidates
        Cells in the order of their approximate distance, (m, c); -1 for none.
    truth, counts
        True neighbours (m, t), and which of them count, bool (m, t).
    k
        Neighbours looked for.
    of
        Share of the true neighbours that lie in the lists that the candidates come from.
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
