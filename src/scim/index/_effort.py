"""How many lists a search visits, and how many candidates it ranks again, read off the trials of an index."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any, Self

import numpy as np

from .._compiled import njit

#: Share of the allowed loss that the trial may lose: cells of a new study lose a quarter more.
_TRIAL_LOSS_SHARE = 0.75
#: Share of that loss that may be due to too few candidates.
_CANDIDATE_LOSS_SHARE = 0.25
#: Fewest candidates: compared with the lists, these cost nothing.
_MIN_CANDIDATES = 64
#: Times as many candidates as were tried, if these held too few of the neighbours.
_BEYOND_TRIED_FACTOR = 8


class Effort:
    """Visits and candidates for a number of neighbours.

    ``trials`` are what was measured, by the number of neighbours: ``visits`` and ``found`` of :func:`found_in_lists`,
    and ``among`` of :func:`found_among`. ``target`` is the share of the true neighbours to find.
    """

    def __init__(self, trials: Mapping[str, Any], target: float, n_lists: int, n_cells: int) -> None:
        self._trials, self._n_lists, self._n_cells = trials, n_lists, n_cells
        self._aim(target)

    def _aim(self, target: float) -> None:
        depths = sorted(int(depth) for depth in self._trials)
        chosen = [_enough(self._trials[str(depth)], target) for depth in depths]
        self._depths, self._shallowest = np.log(np.array(depths, dtype=float)), depths[0]
        # More neighbours never lie in fewer lists, even if chance made it seem so in the trial.
        self._visits = np.log(np.maximum.accumulate([float(visits) for visits, _ in chosen]))
        self._factors = np.array([factor for _, factor in chosen], dtype=float)

    def aiming(self, target: float) -> Self:
        """Copy with another share of the true neighbours to find."""
        other = copy(self)
        other._aim(target)
        return other

    def visits(self, k: float) -> int:
        """Give the number of lists to visit for k neighbours."""
        # Lists with too few cells would send a query to all cells.
        enough = 2 * k * self._n_lists / max(self._n_cells, 1)
        visits = max(np.exp(_interpolate(np.log(k), self._depths, self._visits)), enough)
        return int(min(np.ceil(visits), self._n_lists))

    def candidates(self, k: int) -> int:
        """Give the number of candidates to rank again for k neighbours."""
        factor = np.interp(np.log(k), self._depths, self._factors)
        # Fewer neighbours than were tried are found among as many candidates.
        return max(int(np.ceil(max(k, self._shallowest) * factor)), _MIN_CANDIDATES)


class FilteredEffort(Effort):
    """Visits for a number of neighbours if only some cells may be found, too.

    ``sizes`` are the cells of each list, int64 (n_lists,). ``sample`` has the lists of a sample of the cells, int64
    (s,), ascending, and their positions. See :class:`Effort` for the others.
    """

    def __init__(
        self, trials: Mapping[str, Any], target: float, sizes: np.ndarray, sample: tuple[np.ndarray, np.ndarray]
    ) -> None:
        super().__init__(trials, target, len(sizes), int(sizes.sum()))
        self.sizes, self._lists, self._positions = sizes, *sample

    def most(self, k: int, share: float) -> int:
        """Give the most lists to visit if this share of the cells may be found, beyond which each cell is compared."""
        return min(len(self.sizes), 2 * self.visits(k / share))

    def filtered(self, order: np.ndarray, k: int, allowed: np.ndarray) -> np.ndarray:
        """Estimate the number of lists to visit, (m,), if only the cells ``allowed``, bool (n_cells,), may be found.

        If one cell in ten of the lists visited passes the filter, the k-th neighbour is the 10 k-th of all cells, and
        needs as many visits as that. The cells that pass are estimated from a sample, list by list. ``order`` has the
        lists by the distance of their centres, nearest first, (m, n).

        The result is 0 if the lists given are not enough, or if less than half as many of their cells pass as on
        average: such a query is far from the cells that pass, and its neighbours lie scattered.
        """
        return self.filtered_by(order, k, self.passing(allowed), np.count_nonzero(allowed) / len(allowed))

    def passing(self, allowed: np.ndarray) -> np.ndarray:
        """Cells of the sample that may be found, bool (s,)."""
        return np.asarray(allowed[self._positions])

    def filtered_by(self, order: np.ndarray, k: int, passing: np.ndarray, share: float) -> np.ndarray:
        """Find the number of lists to visit as :meth:`filtered` does, from the sampled cells that pass a filter."""
        passed = np.bincount(self._lists[passing], minlength=len(self.sizes))
        passed = passed * (self.sizes.sum() / max(len(self._lists), 1))
        visits = np.empty(len(order), dtype=np.int64)
        _visits_needed(order, self.sizes, passed, k, self.visits(k), self._depths, self._visits, visits)
        base = order[:, : self.visits(k / share)]
        visits[2 * passed[base].sum(axis=1) < share * self.sizes[base].sum(axis=1)] = 0
        return visits


def _enough(trial: Mapping[str, Any], target: float) -> tuple[float, int]:
    """Visits, and candidates per neighbour, that reach the target for one number of neighbours."""
    target = 1 - (1 - target) * _TRIAL_LOSS_SHARE
    among = {int(factor): share for factor, share in trial["among"].items()}
    enough = [factor for factor, share in among.items() if share >= 1 - (1 - target) * _CANDIDATE_LOSS_SHARE]
    factor = min(enough) if enough else max(among)
    if among[factor] < target:  # codes hardly tell the cells apart: rank far more than were tried
        factor *= _BEYOND_TRIED_FACTOR
        among = {factor: 1.0}
    wanted = min(target / max(among[factor], 1e-6), 1.0)
    visits, found = np.asarray(trial["visits"], dtype=float), np.asarray(trial["found"], dtype=float)
    first = int(np.argmax(found >= wanted)) if found[-1] >= wanted else len(found) - 1
    if first == 0:
        return visits[0], factor
    low, high = first - 1, first
    share = (wanted - found[low]) / max(found[high] - found[low], 1e-9)
    return float(visits[low] + min(share, 1.0) * (visits[high] - visits[low])), factor


@njit(nogil=True)
def _interpolate(x, xs, ys):  # type: ignore[no-untyped-def]
    """Interpolate between points; beyond the last, along the last slope; before the first, its value."""
    if x <= xs[0]:
        return ys[0]
    i = 1
    while i < len(xs) - 1 and x > xs[i]:
        i += 1
    if len(xs) == 1:
        return ys[0] + x - xs[0]
    return ys[i - 1] + (x - xs[i - 1]) * (ys[i] - ys[i - 1]) / (xs[i] - xs[i - 1])


@njit(nogil=True)
def _visits_needed(order, sizes, passed, k, least, depths, visits, out):  # type: ignore[no-untyped-def]
    for q in range(len(order)):
        cells, inside = 0.0, 0.0
        out[q] = len(sizes) if order.shape[1] == len(sizes) else 0
        for n in range(order.shape[1]):
            cells += sizes[order[q, n]]
            inside += passed[order[q, n]]
            if n + 1 >= least and inside > 0:
                deep = np.log(k * max(cells / inside, 1.0))
                if n + 1 >= np.exp(_interpolate(deep, depths, visits)):
                    out[q] = n + 1
                    break
