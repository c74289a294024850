"""Count the votes of labelled neighbours, on the ontology or as SCimilarity does."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from .._compiled import njit
from .._threads import in_blocks
from .._validate import check_option
from ..ontology import TermSpace

Vote = Literal["auto", "calibrated", "ontology", "majority", "weighted"]
#: The votes of SCimilarity.
PLAIN_VOTES = ("majority", "weighted")

#: Smallest width of the kernel, a cosine distance.
_MIN_WIDTH = 1e-4
#: Smallest cosine distance whose inverse is the weight of a vote.
_MIN_DISTANCE = 1e-6


def check_vote(vote: str) -> None:
    """Raise if ``vote`` is not a name of a vote."""
    check_option(vote, get_args(Vote), argument="vote")


def vote_weights(distances: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Compute the weight of each neighbour's vote; rows sum to 1, or to 0 if no neighbour has a label.

    ``w = exp(-d / h)``, with ``h`` the median distance of the cell's labelled neighbours (at least 1e-4). The nearest
    neighbour has at most e times the weight of the median neighbour at any density, so that a single cell at distance 0
    cannot decide alone.

    ``distances`` are inf for no neighbour, (n_cells, k), and ``labelled`` are the neighbours with a label, bool.
    """
    weights = np.empty(distances.shape, dtype=np.float64)
    weigh(distances, labelled, _MIN_WIDTH, weights)
    return weights


def ontology_vote(distances: np.ndarray, codes: np.ndarray, terms: TermSpace) -> tuple[np.ndarray, np.ndarray]:
    """Sum the votes of the neighbours for each label, and for each term: a vote for a label counts for its ancestors.

    Parameters
    ----------
    distances
        Cosine distances of neighbours (n_cells, k), inf for no neighbour.
    codes
        Label codes of neighbours (n_cells, k), -1 for no label.
    terms
        Labels on the ontology.

    Returns
    -------
    Shares of labels, float32 (n_cells, n_labels), and of terms, float32 (n_cells, n_terms).
    """
    n, n_labels = len(codes), len(terms.labels)
    by_label = np.zeros((n, n_labels), dtype=np.float32)
    by_term = np.zeros((n, len(terms.terms)), dtype=np.float32)
    labels, above = np.nonzero(terms.closure)
    starts = np.searchsorted(labels, np.arange(n_labels + 1))

    def work(part: slice) -> None:
        weights = vote_weights(distances[part], codes[part] >= 0)
        add_up(weights, codes[part], above, starts, by_label[part], by_term[part])

    in_blocks(n, work)
    return by_label, by_term


def plain_vote(
    distances: np.ndarray, codes: np.ndarray, n_labels: int, *, weighted: bool
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Count the labels of the neighbours, without the ontology (SCimilarity, Heimberg et al. 2025).

    Parameters
    ----------
    distances, codes
        See :func:`ontology_vote`; nearest neighbours first.
    n_labels
        Number of labels.
    weighted
        Whether the weight of a vote is the inverse of its distance (at least 1e-6), instead of 1.

    Returns
    -------
    Shares of the votes, float32 (n_cells, n_labels). The label with most votes, int64 (n_cells,), -1 for none; of equal
    labels, the label of the nearest neighbour. Statistics by name, (n_cells,): ``min_dist``, ``max_dist``, ``vs2nd``
    (most votes / sum of most and second most), ``vsAll`` (most votes / all votes), and both for weighted votes.
    """
    n = len(codes)
    shares, best = np.zeros((n, n_labels), dtype=np.float32), np.full(n, -1, dtype=np.int64)
    valid = (codes >= 0) & np.isfinite(distances)
    stats = {
        "min_dist": np.where(valid, distances, np.inf).min(axis=1, initial=np.inf),
        "max_dist": np.where(valid, distances, -np.inf).max(axis=1, initial=-np.inf),
    }
    stats |= {name: np.zeros(n) for name in ("vs2nd", "vsAll", "vs2nd_weighted", "vsAll_weighted")}

    def work(part: slice) -> None:
        counted = valid[part].astype(np.float64)
        inverse = np.where(valid[part], 1.0 / np.maximum(distances[part], _MIN_DISTANCE), 0.0)
        for is_weighted, votes in ((False, counted), (True, inverse)):
            sums = _by_label(votes, codes[part], n_labels)
            ending = "_weighted" if is_weighted else ""
            top = -np.partition(-sums, min(1, n_labels - 1), axis=1)[:, :2]
            second = top[:, 1] if n_labels > 1 else np.zeros(len(top))
            stats[f"vs2nd{ending}"][part] = _ratio(top[:, 0], top[:, 0] + second)
            stats[f"vsAll{ending}"][part] = _ratio(top[:, 0], sums.sum(axis=1))
            if is_weighted == weighted:
                shares[part] = _ratio(sums, sums.sum(axis=1, keepdims=True))
                # The nearest neighbour whose label has the most votes.
                winners = (sums == top[:, :1]) & (sums > 0)
                wins = np.take_along_axis(winners, np.maximum(codes[part], 0), axis=1) & valid[part]
                nearest = np.take_along_axis(codes[part], wins.argmax(axis=1)[:, None], axis=1)[:, 0]
                best[part] = np.where(wins.any(axis=1), nearest, -1)

    in_blocks(n, work)
    return shares, best, stats


def _by_label(votes: np.ndarray, codes: np.ndarray, n_labels: int) -> np.ndarray:
    """Sum votes (n, k) by label, float64 (n, n_labels)."""
    flat = np.arange(len(votes))[:, None] * n_labels + np.maximum(codes, 0)
    return np.bincount(flat.ravel(), weights=votes.ravel(), minlength=len(votes) * n_labels).reshape(-1, n_labels)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide; 0 if the whole is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


@njit(nogil=True)
def weigh(distances, labelled, narrowest, weights):  # type: ignore[no-untyped-def]
    """Write the weights of votes, see :func:`vote_weights`; ``narrowest`` is the smallest width."""
    near = np.empty(distances.shape[1], dtype=np.float64)
    for i in range(len(distances)):
        n = 0
        for j in range(distances.shape[1]):
            weights[i, j] = 0
            if labelled[i, j] and np.isfinite(distances[i, j]):
                near[n] = distances[i, j]
                n += 1
        if not n:
            continue
        # Insertion sort: neighbours come nearest first, so that few are moved.
        for a in range(1, n):
            value, b = near[a], a
            while b and near[b - 1] > value:
                near[b] = near[b - 1]
                b -= 1
            near[b] = value
        width = max((near[(n - 1) // 2] + near[n // 2]) / 2, narrowest)
        total = 0.0
        for j in range(distances.shape[1]):
            if labelled[i, j] and np.isfinite(distances[i, j]):
                # Differences to the nearest neighbour do not underflow.
                weights[i, j] = np.exp(-(distances[i, j] - near[0]) / width)
                total += weights[i, j]
        for j in range(distances.shape[1]):
            weights[i, j] /= total


@njit(nogil=True)
def add_up(weights, codes, above, starts, by_label, by_term):  # type: ignore[no-untyped-def]
    """Sum votes by label and by term; the terms of a label are ``above[starts[label]:starts[label + 1]]``."""
    sums = np.zeros(by_label.shape[1], dtype=np.float64)
    for i in range(len(codes)):
        for j in range(codes.shape[1]):
            if codes[i, j] >= 0:
                sums[codes[i, j]] += weights[i, j]
        for j in range(codes.shape[1]):
            label = codes[i, j]
            if label >= 0 and sums[label] > 0:
                by_label[i, label] = sums[label]
                for term in above[starts[label] : starts[label + 1]]:
                    by_term[i, term] += sums[label]
                sums[label] = 0
