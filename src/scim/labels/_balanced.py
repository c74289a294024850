"""Choose equal numbers of cells from each label and study."""

from __future__ import annotations

import numpy as np

#: Largest number of cells of each label and study that a head is fitted to.
HEAD_CELLS_PER_GROUP = 300
#: Largest number of cells that a head is fitted to.
HEAD_CELLS = 20_000


def rank_within(groups: np.ndarray) -> np.ndarray:
    """Rank of each cell within its group, from 0; ``groups`` (n,) are sorted."""
    return np.arange(len(groups)) - np.searchsorted(groups, groups)


def choose_in_turn(cells: np.ndarray, groups: np.ndarray, *, most: int, per_group: int | None = None) -> np.ndarray:
    """Choose the first cell of each group, then the second of each, until there are ``most``; positions ascending.

    Parameters
    ----------
    cells
        Positions of the cells, (n,), in the order in which the cells of a group are chosen.
    groups
        Group of each cell, (n,).
    most
        Largest number of cells.
    per_group
        Largest number of cells of a group. None: no limit.
    """
    order = np.argsort(groups, kind="stable")
    rank = rank_within(groups[order])
    if per_group is not None:
        order, rank = order[rank < per_group], rank[rank < per_group]
    return np.sort(cells[order[np.argsort(rank, kind="stable")[:most]]])


def balanced_sample(
    codes: np.ndarray, studies: np.ndarray, *, seed: int, per_group: int = HEAD_CELLS_PER_GROUP, most: int = HEAD_CELLS
) -> np.ndarray:
    """Choose labelled cells at random, equal numbers from each label and study; positions ascending."""
    cells = np.random.default_rng(seed).permutation(np.flatnonzero(codes >= 0))
    groups = codes[cells].astype(np.int64) * (int(studies.max(initial=0)) + 1) + studies[cells]
    return choose_in_turn(cells, groups, most=most, per_group=per_group)
