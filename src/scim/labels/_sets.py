"""Make sets of labels, and find the term that covers each set."""

from __future__ import annotations

import numpy as np

from .._compiled import njit
from .._threads import in_blocks
from ..ontology import GENERIC, TermSpace

#: A sum of float32 shares may be smaller than 1 by this much.
_ROUNDING = 1e-5


@njit(nogil=True)
def first_enough(shares, order, enough, chosen):  # type: ignore[no-untyped-def]
    """Write the first column in ``order`` with a share of at least ``enough``, for each row; -1 for none."""
    for i in range(len(shares)):
        chosen[i] = -1
        for column in order:
            if shares[i, column] >= enough:
                chosen[i] = column
                break


@njit(nogil=True)
def smallest_sets(shares, enough, sets):  # type: ignore[no-untyped-def]
    """Mark the fewest columns whose shares sum to ``enough``, for each row; of equal columns, the first."""
    for i in range(len(shares)):
        held = 0.0
        while True:
            best = -1
            for j in range(shares.shape[1]):
                if not sets[i, j] and shares[i, j] > 0 and (best < 0 or shares[i, j] > shares[i, best]):
                    best = j
            # The first column is always marked, a column after enough never.
            if best < 0 or (held > 0 and held >= enough):
                break
            sets[i, best] = True
            held += shares[i, best]


def assign(by_term: np.ndarray, terms: TermSpace, *, alpha: float) -> np.ndarray:
    """Find the most specific term with at least 1 - ``alpha`` of the votes, int64 (n_cells,); -1 for none.

    ``by_term`` are shares of the votes, (n_cells, n_terms). ``alpha``, below one half, may be for other terms.
    """
    order = np.argsort(terms.specificity())
    generic = np.array([term in GENERIC for term in terms.terms], dtype=bool)
    enough = 1.0 - alpha - _ROUNDING
    order = order[~generic[order] & (by_term.max(axis=0, initial=0.0)[order] >= enough)]
    if not len(order):
        return np.full(len(by_term), -1, dtype=np.int64)
    chosen = np.empty(len(by_term), dtype=np.int64)

    def work(part: slice) -> None:
        first_enough(by_term[part], order, np.float32(enough), chosen[part])

    in_blocks(len(by_term), work)
    return chosen


def prediction_sets(by_label: np.ndarray, *, alpha: float) -> np.ndarray:
    """Find the smallest sets with 1 - ``alpha`` of the votes, bool (n_cells, n_labels); empty without votes."""
    sets = np.zeros(by_label.shape, dtype=bool)

    def work(part: slice) -> None:
        smallest_sets(by_label[part], 1.0 - alpha - _ROUNDING, sets[part])

    in_blocks(len(by_label), work)
    return sets


def cover(sets: np.ndarray, terms: TermSpace) -> np.ndarray:
    """Find the most specific term that covers all labels of a set, int64 (n,); -1 for none.

    A term covers itself and its descendants. ``sets`` are bool (n, n_labels).
    """
    sizes, generic = sets.sum(axis=1), np.array([term in GENERIC for term in terms.terms], dtype=bool)
    order = np.argsort(terms.specificity())

    def one(members: np.ndarray) -> int:
        above = terms.closure[members].all(axis=0) & ~generic
        return int(order[np.argmax(above[order])]) if above.any() else -1

    found = np.full(len(sets), -1, dtype=np.int64)
    # Most sets hold one label. The other sets are often equal, and each different set is covered once.
    single = np.array([one(np.array([label])) for label in range(sets.shape[1])], dtype=np.int64)
    found[sizes == 1] = single[sets[sizes == 1].argmax(axis=1)]
    several = np.flatnonzero(sizes > 1)
    different, which = np.unique(np.packbits(sets[several], axis=1), axis=0, return_inverse=True)
    different = np.unpackbits(different, axis=1, count=sets.shape[1]).astype(bool)
    found[several] = np.array([one(np.flatnonzero(members)) for members in different], dtype=np.int64)[which.ravel()]
    return found
