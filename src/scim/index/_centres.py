"""Centres of lists: learned by k-means, and the nearest one found by a coarse search first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._threads import in_threads, one_thread_of_blas

#: Rounds of k-means.
ROUNDS = 6
#: Vectors of each list that its centre is learned from.
LEARNED_FROM = 40
#: Compare with every centre if there are fewer than this.
_COARSE_FROM_CENTRES = 1_000
#: Coarse centres per square root of the number of centres.
_COARSE_PER_ROOT = 4
#: Centres around each coarse centre, per square root of the number of centres.
_AROUND_PER_ROOT = 8


class Centres:
    """Centres, float32 (n, d), some of which serve for a coarse search.

    A vector is compared with the coarse centres and then with the centres around the nearest one: a tenth of the work
    of comparing it with all of 4,096 centres, and a thirtieth of 16,384. About one vector in a hundred goes to its
    second-nearest centre instead, which does not matter to a search.
    """

    def __init__(self, centres: np.ndarray) -> None:
        self.centres = np.ascontiguousarray(centres, dtype=np.float32)
        self._half = (self.centres**2).sum(axis=1) / 2
        self._coarse: Centres | None = None
        if len(centres) >= _COARSE_FROM_CENTRES:
            root = np.sqrt(len(centres))
            chosen = self.centres[np.linspace(0, len(centres) - 1, int(_COARSE_PER_ROOT * root)).astype(int)]
            self._coarse = Centres(chosen)
            self._around = _nearest(chosen, self.centres, self._half, int(_AROUND_PER_ROOT * root))

    def __len__(self) -> int:
        return len(self.centres)

    def by_distance(self, vectors: np.ndarray) -> np.ndarray:
        """All centres in the order of their distance from each vector, int64 (m, n)."""
        return np.argsort(self._half - vectors @ self.centres.T, axis=1, kind="stable")

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """Nearest centre of each vector (m, d), int64 (m,)."""
        found = np.empty(len(vectors), dtype=np.int64)

        def work(first: int, last: int) -> None:
            found[first:last] = self._assign(vectors[first:last])

        with one_thread_of_blas():
            in_threads(len(vectors), work)
        return found

    def _assign(self, vectors: np.ndarray) -> np.ndarray:
        if self._coarse is None:
            return np.argmax(vectors @ self.centres.T - self._half, axis=1)
        coarse = self._coarse._assign(vectors)
        order = np.argsort(coarse, kind="stable")
        bounds = np.searchsorted(coarse[order], np.arange(len(self._around) + 1))
        found = np.empty(len(vectors), dtype=np.int64)
        for near, a, b in zip(self._around, bounds[:-1], bounds[1:], strict=True):
            if a < b:
                mine = order[a:b]
                found[mine] = near[np.argmax(vectors[mine] @ self.centres[near].T - self._half[near], axis=1)]
        return found


def _nearest(points: np.ndarray, centres: np.ndarray, half: np.ndarray, n: int) -> np.ndarray:
    """Find the ``n`` centres that are nearest to each point, ascending, int64 (m, n)."""
    n = min(n, len(centres))
    found = [
        np.argpartition(half - points[i : i + 1_024] @ centres.T, n - 1, axis=1)[:, :n]
        for i in range(0, len(points), 1_024)
    ]
    return np.sort(np.concatenate(found), axis=1)


def learn(vectors: np.ndarray, n: int, *, seed: int, step: Callable[[int], object] = lambda _: None) -> Centres:
    """Learn ``n`` centres by Lloyd's k-means, beginning with vectors drawn at random.

    There are at least ``n`` vectors, float32 (m, d). ``step`` is called with their number after each round.
    """
    start = np.random.default_rng(seed).permutation(len(vectors))[:n]
    centres = Centres(vectors[np.sort(start)])
    for _ in range(ROUNDS):
        members = centres.assign(vectors)
        order = np.argsort(members, kind="stable")
        held, first, count = np.unique(members[order], return_index=True, return_counts=True)
        # A centre without vectors stays where it is.
        moved = centres.centres.copy()
        moved[held] = np.add.reduceat(vectors[order], first, axis=0) / count[:, None].astype(np.float32)
        centres = Centres(moved)
        step(len(vectors))
    return centres
