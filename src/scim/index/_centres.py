"""Centres of lists: learned by k-means, and found again, by looking at the centres around a few landmarks only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._threads import in_threads, one_thread_of_blas

#: Rounds of k-means; vectors of each list that its centre is learned from.
ROUNDS = 6
LEARNED_FROM = 40
#: Fewer centres than this are all looked at.
_MANY = 1_000
#: Landmarks per square root of the number of centres, and centres around each, per square root too.
_LANDMARKS = 4
_AROUND = 8


class Centres:
    """Centres, and landmarks among them.

    A vector is compared with the landmarks and then with the centres around the nearest one, which is a tenth of the
    work of comparing it with all 4,096 centres, and a thirtieth with 16,384. About one vector in a hundred goes to its
    second-nearest centre for it, which a search does not notice.

    Parameters
    ----------
    centres
        float32 (n, d).
    """

    def __init__(self, centres: np.ndarray) -> None:
        self.centres = np.ascontiguousarray(centres, dtype=np.float32)
        self._half = (self.centres**2).sum(axis=1) / 2
        self._landmarks: Centres | None = None
        if len(centres) >= _MANY:
            root = np.sqrt(len(centres))
            chosen = self.centres[np.linspace(0, len(centres) - 1, int(_LANDMARKS * root)).astype(int)]
            self._landmarks = Centres(chosen)
            self._around = _nearest(chosen, self.centres, self._half, int(_AROUND * root))

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
        if self._landmarks is None:
            return np.argmax(vectors @ self.centres.T - self._half, axis=1)
        landmark = self._landmarks._assign(vectors)
        order = np.argsort(landmark, kind="stable")
        bounds = np.searchsorted(landmark[order], np.arange(len(self._around) + 1))
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
    """Lloyd's k-means from vectors drawn at random.

    Parameters
    ----------
    vectors
        float32 (m, d), at least ``n``.
    n
        Centres to learn.
    seed
        Seed of the first ones.
    step
        Called with the number of vectors after each round.
    """
    start = np.random.default_rng(seed).permutation(len(vectors))[:n]
    centres = Centres(vectors[np.sort(start)])
    for _ in range(ROUNDS):
        members = centres.assign(vectors)
        order = np.argsort(members, kind="stable")
        held, first, count = np.unique(members[order], return_index=True, return_counts=True)
        # A centre that nothing is near to stays where it is.
        moved = centres.centres.copy()
        moved[held] = np.add.reduceat(vectors[order], first, axis=0) / count[:, None].astype(np.float32)
        centres = Centres(moved)
        step(len(vectors))
    return centres
