"""Choose the term of each cell, and make sets of labels."""

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


def assign(by_term: np.ndarray, terms: TermSpace, *, enough: float) -> np.ndarray:
    """Find the most specific term with a probability of at least ``enough``, int64 (n_cells,); -1 for none.

    Terms that are a label come first: a cell that may be any B cell is a "B cell", as studies say, and not a "mature B
    cell". Other terms, which only the ontology has, are for cells that no label has enough of.

    ``by_term`` are probabilities or shares of votes of the terms, (n_cells, n_terms). With one half or more, no two
    terms that exclude each other have enough.
    """
    is_label = np.zeros(len(terms.terms), dtype=bool)
    is_label[terms.label_term] = True
    order = np.lexsort((terms.specificity(), ~is_label))
    generic = np.array([term in GENERIC for term in terms.terms], dtype=bool)
    enough = enough - _ROUNDING
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


def set_texts(inside: np.ndarray, by_label: np.ndarray, terms: TermSpace) -> list[str]:
    """Write prediction sets as text, most probable label first."""
    names = terms.term_names[terms.label_term].astype(str)
    sizes = inside.sum(axis=1)
    sets = np.where(sizes == 1, names.astype(object)[inside.argmax(axis=1)], "")
    for row in np.flatnonzero(sizes > 1):
        members = np.flatnonzero(inside[row])
        sets[row] = ";".join(names[members[np.argsort(-by_label[row, members], kind="stable")]])
    return list(sets)
