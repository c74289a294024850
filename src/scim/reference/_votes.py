"""Votes of labelled neighbours, summed up the ontology."""

from __future__ import annotations

import numpy as np

from ..ontology import GENERIC, TermSpace

#: Cells at a time: bounds the memory for scores of many terms.
_BLOCK = 20_000
#: Smallest kernel width, a cosine distance: cells nearer than this are as good as equal.
_NARROWEST = 1e-4


def vote_weights(distances: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Weight of each neighbour's vote, rows summing to 1 (or to 0 where no neighbour has a label).

    ``w = exp(-d / h)``, with ``h`` the median distance of the cell's own neighbours (1e-4 at least): the nearest count
    up to e times as much as the middle ones, whatever the density, and a single cell at distance 0 cannot outvote the
    rest.

    Parameters
    ----------
    distances
        Cosine distances of neighbours (n_cells, k), inf where there is none.
    labelled
        Neighbours that have a label, bool (n_cells, k).
    """
    valid = labelled & np.isfinite(distances)
    known = np.where(valid, distances, np.nan)
    some = valid.any(axis=1)
    width = np.full(len(distances), _NARROWEST, dtype=np.float64)
    if some.any():
        width[some] = np.maximum(np.nanmedian(known[some], axis=1), _NARROWEST)
    # From the nearest on: only differences count, and nothing underflows.
    near = np.where(some, np.where(valid, distances, np.inf).min(axis=1, initial=np.inf), 0.0)
    weights = np.where(valid, np.exp(-(np.where(valid, distances, 0.0) - near[:, None]) / width[:, None]), 0.0)
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


def vote(distances: np.ndarray, codes: np.ndarray, terms: TermSpace) -> tuple[np.ndarray, np.ndarray]:
    """Sum the neighbours' votes per label, and up the ontology per term.

    Parameters
    ----------
    distances
        Cosine distances of neighbours (n_cells, k), inf where there is none.
    codes
        Label codes of neighbours (n_cells, k), -1 for none.
    terms
        The labels on the ontology.

    Returns
    -------
    Shares per label, float32 (n_cells, n_labels), and per term, float32 (n_cells, n_terms): a vote for a label is also
    one for each ancestor of it.
    """
    n, n_labels = len(codes), len(terms.labels)
    by_label = np.zeros((n, n_labels), dtype=np.float32)
    by_term = np.zeros((n, len(terms.terms)), dtype=np.float32)
    closure = terms.closure.astype(np.float32)
    for start in range(0, n, _BLOCK):
        part = slice(start, start + _BLOCK)
        weights = vote_weights(distances[part], codes[part] >= 0)
        flat = np.arange(len(weights))[:, None] * n_labels + np.maximum(codes[part], 0)
        sums = np.bincount(flat.ravel(), weights=weights.ravel(), minlength=len(weights) * n_labels)
        by_label[part] = sums.reshape(-1, n_labels)
        by_term[part] = by_label[part] @ closure
    return by_label, by_term


def assign(by_term: np.ndarray, terms: TermSpace, *, alpha: float) -> np.ndarray:
    """Position of the most specific term that holds at least 1 - ``alpha`` of the votes, int64 (n_cells,); -1 for none.

    Parameters
    ----------
    by_term
        Shares per term (n_cells, n_terms).
    terms
        The labels on the ontology.
    alpha
        Share of the votes that may be for something else, below one half.
    """
    order = np.argsort(terms.specificity())
    generic = np.array([term in GENERIC for term in terms.terms], dtype=bool)
    # Sums of float32 shares: what adds up to one may fall short of it by rounding.
    reaches = (by_term[:, order] >= 1.0 - alpha - 1e-5) & (by_term[:, order] > 0) & ~generic[order]
    return np.where(reaches.any(axis=1), order[reaches.argmax(axis=1)], -1)


def prediction_sets(by_label: np.ndarray, *, alpha: float) -> np.ndarray:
    """Smallest set of labels with 1 - ``alpha`` of the votes, bool (n_cells, n_labels); empty without votes."""
    order = np.argsort(-by_label, axis=1, kind="stable")
    ranked = np.take_along_axis(by_label, order, axis=1)
    before = np.cumsum(ranked, axis=1) - ranked
    inside = (before < 1.0 - alpha - 1e-5) & (ranked > 0)
    inside[:, 0] |= ranked[:, 0] > 0
    sets = np.zeros_like(inside)
    np.put_along_axis(sets, order, inside, axis=1)
    return sets
