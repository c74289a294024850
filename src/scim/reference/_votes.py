"""Votes: how the labels of neighbours become scores of terms.

A neighbour at the cosine distance d votes with the weight exp(-d / h), where h is the (upper) median distance of the
cell's own voting neighbours. The cosine distance is half the squared Euclidean one, so this is a Gaussian whose width
follows the density of the reference around the cell. At least half of m neighbours lie within h and weigh 1/e or
more, so that no single one, be it a duplicate at distance 0, has a larger share than 1 / (1 + floor(m / 2) / e).
"""

from __future__ import annotations

import numpy as np

#: Differences of scores below this are rounding.
TOLERANCE = 1e-6
#: The smallest width: about the error of a distance between stored float32 vectors.
_MIN_WIDTH = 1e-6
#: Numbers in the largest array of a block, 32 MB as float64.
_BLOCK_NUMBERS = 4_000_000


def vote_weights(distances: np.ndarray, voting: np.ndarray | None = None) -> np.ndarray:
    """Weigh neighbours by their distance.

    Parameters
    ----------
    distances
        Cosine distances (n, k) in any order, inf where there is no neighbour.
    voting
        Which neighbours vote, bool (n, k); all with a finite distance by default.

    Returns
    -------
    float64 (n, k), rows that sum to 1, or to 0 where nobody votes.
    """
    distances = np.asarray(distances, dtype=np.float64)
    may = np.isfinite(distances) if voting is None else voting & np.isfinite(distances)
    if 0 in distances.shape:
        return np.zeros(distances.shape)
    ordered = np.sort(np.where(may, distances, np.inf), axis=1)
    middle = may.sum(axis=1) // 2
    width = ordered[np.arange(len(ordered)), np.minimum(middle, ordered.shape[1] - 1)]
    width = np.where(np.isfinite(width), np.maximum(width, _MIN_WIDTH), 1.0)
    weights = np.where(may, np.exp(-np.where(may, distances, 0.0) / width[:, None]), 0.0)
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=weights, where=total > 0)


def tally(weights: np.ndarray, codes: np.ndarray, n_labels: int) -> np.ndarray:
    """Sum the weights of each label.

    Parameters
    ----------
    weights
        (n, k).
    codes
        Label of each neighbour, int (n, k); -1 for none, whose weight is not counted.
    n_labels
        Number of labels.

    Returns
    -------
    float64 (n, n_labels).
    """
    n = len(weights)
    # One bin more for the neighbours without a label.
    bins = np.where(codes < 0, n_labels, codes) + np.arange(n, dtype=np.int64)[:, None] * (n_labels + 1)
    sums = np.bincount(bins.ravel(), weights=weights.ravel(), minlength=n * (n_labels + 1))
    return sums.reshape(n, n_labels + 1)[:, :n_labels]


def most_specific(scores: np.ndarray, rank: np.ndarray, threshold: float) -> np.ndarray:
    """Choose for each row the most specific term whose score reaches the threshold.

    Parameters
    ----------
    scores
        (n, n_terms).
    rank
        Rank of each term, 0 for the most specific, all different: int (n_terms,).
    threshold
        The score to reach.

    Returns
    -------
    int64 (n,): positions of terms, -1 where none reaches it.
    """
    if scores.shape[1] == 0:
        return np.full(len(scores), -1, dtype=np.int64)
    reached = scores >= threshold - TOLERANCE
    order = np.argsort(rank)
    first = reached[:, order].argmax(axis=1)
    return np.where(reached.any(axis=1), order[first], -1)


def smallest_sets(votes: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Choose for each row the fewest columns whose votes sum to the threshold.

    Parameters
    ----------
    votes
        (n, m), none negative.
    threshold
        The sum to reach.

    Returns
    -------
    Columns by descending votes (ties by position), int64 (n, m), and how many of them make the set, int64 (n,): 0
    where all votes together do not reach the threshold.
    """
    order = np.argsort(-votes, axis=1, kind="stable")
    total = np.cumsum(np.take_along_axis(votes, order, 1), axis=1)
    reached = total >= threshold - TOLERANCE
    # A set holds a label at least, and none without votes.
    size = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, 0) if votes.shape[1] else np.zeros(len(votes), int)
    return order, np.where(votes.any(axis=1), size, 0)


def block_rows(*widths: int) -> int:
    """Rows of a block whose widest array has one of ``widths`` columns."""
    return max(1, min(8192, _BLOCK_NUMBERS // max(1, *widths)))
