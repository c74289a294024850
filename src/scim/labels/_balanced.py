"""Choose as many cells of each label and study."""

from __future__ import annotations

import numpy as np

#: Cells of a label and study that a head is fitted to, and cells in all.
_PER_GROUP = 300


_MOST = 20_000


def balanced_sample(
    codes: np.ndarray, studies: np.ndarray, *, seed: int, per_group: int = _PER_GROUP, most: int = _MOST
) -> np.ndarray:
    """Choose labelled cells at random, as many of each label and study, positions ascending."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(codes >= 0))
    group = codes[order].astype(np.int64) * (int(studies.max(initial=0)) + 1) + studies[order]
    by_group = order[np.argsort(group, kind="stable")]
    ranked = np.sort(group)
    turn = np.arange(len(ranked)) - np.searchsorted(ranked, ranked)
    first = by_group[turn < per_group]
    turn = turn[turn < per_group]
    return np.sort(first[np.argsort(turn, kind="stable")[:most]])
