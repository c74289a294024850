"""Guess the tissue that cells are from, by their labels, and use it as a gentle prior on labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: The probability of a label that was never seen in the guessed tissue is multiplied by this. 1: labels do not depend
#: on the guess.
ABSENT_FACTOR = 1.0
#: Fewer cells get no guess.
MIN_CELLS = 200
#: A tissue is guessed if its share of the mixture is larger ...
_ENOUGH = 0.5
#: ... and if more than this share of the cells are well represented in the reference.
_REPRESENTED = 0.5
#: Part of each tissue's cells that are spread evenly over all labels: a label that is wrong, or new in the tissue.
_UNEXPECTED = 0.05
#: Number of steps of expectation maximisation.
_STEPS = 200
#: The steps end if no share of a tissue changes by more.
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class TissueGuess:
    """The tissue that has the largest share in a mixture of tissues.

    Attributes
    ----------
    tissue
        Code of the tissue.
    share
        Its share of the mixture, 0 to 1.
    """

    tissue: int
    share: float

    @property
    def is_sure(self) -> bool:
        """Whether the tissue has more than half of the mixture."""
        return self.share > _ENOUGH


def label_shares(
    codes: np.ndarray, studies: np.ndarray, tissues: np.ndarray, *, n_labels: int, n_tissues: int
) -> np.ndarray:
    """Measure the share of each label among the cells of each tissue, float64 (n_labels, n_tissues).

    The share is the mean over the studies of the tissue, so that a large study does not count more. A tissue without
    labelled cells has zeros.

    Parameters
    ----------
    codes, studies, tissues
        Codes of the label, study and tissue of each cell, (n,); -1 for none.
    n_labels, n_tissues
        Number of labels and tissues.
    """
    known = (codes >= 0) & (tissues >= 0) & (studies >= 0)
    pair = studies[known].astype(np.int64) * n_tissues + tissues[known]
    # Few of all pairs of study and tissue occur.
    there = np.bincount(pair) > 0
    pairs, place = np.flatnonzero(there), np.cumsum(there) - 1
    counts = np.bincount(place[pair] * n_labels + codes[known], minlength=len(pairs) * n_labels)
    counts = counts.reshape(len(pairs), n_labels)
    shares = np.zeros((n_labels, n_tissues))
    for tissue in np.unique(pairs % n_tissues):
        mine = counts[pairs % n_tissues == tissue]
        shares[:, tissue] = (mine / mine.sum(axis=1, keepdims=True)).mean(axis=0)
    return shares


def are_enough(represented: np.ndarray) -> bool:
    """Whether cells can get a guess: there are 200 or more, and more than half of them are well represented.

    Cells that are unlike the reference may be of a tissue that it lacks. ``represented`` is bool (n,).
    """
    return len(represented) >= MIN_CELLS and bool(represented.mean() > _REPRESENTED)


def guess_tissue(by_label: np.ndarray, represented: np.ndarray, shares: np.ndarray) -> TissueGuess | None:
    """Guess the tissue of cells from their labels.

    The mean probability of each label over the cells is explained as a mixture of the tissues' shares of labels. The
    weights of the tissues that explain it best are found by expectation maximisation (Dempster, Laird & Rubin, J R Stat
    Soc B 1977).

    Parameters
    ----------
    by_label
        Probability of each label, (n, n_labels).
    represented
        Cells that are well represented in the reference, bool (n,). Only these count.
    shares
        Share of each label in each tissue, (n_labels, n_tissues), see :func:`label_shares`.

    Returns
    -------
    The tissue of the largest weight. None if the cells are not enough, or for fewer than two tissues with labels.
    """
    there = np.flatnonzero(shares.any(axis=0))
    if len(there) < 2 or not are_enough(represented):
        return None
    mean = by_label[represented].mean(axis=0, dtype=np.float64)
    mean /= max(mean.sum(), 1e-12)
    expected = (1 - _UNEXPECTED) * shares[:, there] + _UNEXPECTED / len(shares)
    weights = np.full(len(there), 1 / len(there))
    for _ in range(_STEPS):
        before = weights
        weights = weights * (expected.T @ (mean / (expected @ weights)))
        if np.abs(weights - before).max() < _TOLERANCE:
            break
    first = int(weights.argmax())
    return TissueGuess(int(there[first]), float(weights[first]))


def favour_present(
    by_label: np.ndarray, shares: np.ndarray, comparable: np.ndarray, *, factor: float = ABSENT_FACTOR
) -> np.ndarray:
    """Multiply the probability of labels that were never seen in a tissue by a factor, and scale rows to their sum.

    Parameters
    ----------
    by_label
        Probability of each label, float32 (n, n_labels).
    shares
        Share of each label in the tissue, (n_labels,).
    comparable
        Whether two labels are the same, or ancestor and descendant, bool (n_labels, n_labels). A label also counts as
        seen if such a label was seen: studies of a tissue may only tell "T cell".
    factor
        Factor of the other labels, above 0. With 1, ``by_label`` is returned.
    """
    absent = ~comparable[:, shares > 0].any(axis=1)
    if factor == 1 or not absent.any():
        return by_label
    out = by_label * np.where(absent, factor, 1).astype(by_label.dtype)
    out *= by_label.sum(axis=1, keepdims=True) / np.maximum(out.sum(axis=1, keepdims=True), 1e-12)
    return np.asarray(out)
