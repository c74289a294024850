"""How sure a head is: temperatures and conformal scores, from cells of studies that were left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .._threads import in_blocks
from ._sharing import share_down

#: Temperatures are multiplied by this: cells of a new study lie farther from their label than cells of a study that was
#: left out, which the encoder was trained on.
_NEW_STUDY = 1.25
#: Smallest number of scores of a label that p-values of the label are computed from.
_MIN_SCORES = 20
#: Temperatures that are tried.
_TEMPERATURES = np.geomspace(0.1, 10, 41)


@dataclass(frozen=True, eq=False)
class Scale:
    """How sure a head is: divisors of its logits, and conformal scores, from cells of studies that were left out.

    Attributes
    ----------
    depths, temperatures
        Counts of a cell, ascending, and the divisor of the logits of such a cell, float32 (t,). Shallow cells have
        larger divisors, and so less certain labels.
    scores
        Nonconformity of cells that were left out: 1 - probability of their own label, float32 (n,).
    labels, groups
        Label codes and studies of these cells, int32 (n,).
    """

    depths: np.ndarray
    temperatures: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    groups: np.ndarray

    def divisors(self, depth: np.ndarray) -> np.ndarray:
        """Divisor of the logits of cells with so many counts, float32 (m,)."""
        deep = np.log(np.maximum(depth, 1e-9))
        return np.interp(deep, np.log(self.depths), self.temperatures).astype(np.float32)

    def possible(self, by_label: np.ndarray, *, alpha: float, classes: np.ndarray) -> np.ndarray:
        """Find labels that cannot be ruled out, bool like ``by_label``: their conformal p-value is above ``alpha``.

        Within each study that was left out, the p-value is ``(1 + number of cells of the label with a score as large) /
        (1 + number of cells of the label)``. The p-value of the label is the largest of these, because cells of a study
        are alike: a label is ruled out only if every study rules it out (Mondrian conformal prediction, Vovk et al.
        2005; by study as in Dunn, Wasserman & Ramdas 2023). A label that the head does not know is ruled out.

        Parameters
        ----------
        by_label
            Probability of each label, (m, n_labels).
        alpha
            Tolerated error. If a study has fewer than 20 or 1/alpha cells of a label, the cells of all studies are used
            together. If these are too few, the cells of all labels are used.
        classes
            Label codes that the head knows, (c,).
        """
        n_needed = _scores_needed(alpha)
        limit = np.full(by_label.shape[1], -np.inf, dtype=np.float32)
        for label in classes:
            limit[label] = max(_largest_possible(scores, alpha) for scores in self._scores_of(label, n_needed))
        out = np.empty(by_label.shape, dtype=bool)
        in_blocks(len(by_label), lambda part: np.less_equal(1.0 - by_label[part], limit, out=out[part]))
        return out

    def pooled(self, *, alpha: float, classes: np.ndarray) -> np.ndarray:
        """Codes of ``classes`` with too few scores of their own: the scores of all labels are used for them."""
        counts = np.bincount(self.labels, minlength=int(classes.max(initial=-1)) + 1)
        return np.asarray(classes[counts[classes] < _scores_needed(alpha)])

    def _scores_of(self, label: int, n_needed: int) -> list[np.ndarray]:
        """Sorted scores of a label for each study; of all studies, or of all labels, if there are too few."""
        mine = self.labels == label
        parts = [self.scores[mine & (self.groups == group)] for group in np.unique(self.groups[mine])]
        parts = [part for part in parts if len(part) >= n_needed] or [self.scores[mine]]
        return [np.sort(part) for part in (parts if len(parts[0]) >= n_needed else [self.scores])]


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Cells that a head was not fitted to: counts, logits (n, n_labels), label codes and study codes (n,).

    Labels that the head does not know have logits of -inf.
    """

    depth: float
    logits: np.ndarray
    codes: np.ndarray
    studies: np.ndarray


def fit_scale(tested: Sequence[LeftOut], below: np.ndarray | None = None, hidden: np.ndarray | None = None) -> Scale:
    """Calibrate logits of cells that were left out, at ascending depths.

    ``below`` says which labels are a label or below it, bool (n_labels, n_labels). A cell that is labelled "T cell" may
    be a CD4 T cell, unless its study has this label, too: a temperature maximises the probability of the label and of
    all labels below it that the study does not have. None: labels are not nested. ``hidden``, float32 (n_labels,
    n_labels), is applied to the probabilities, see :func:`share_down`.
    """
    depths: list[float] = []
    temperatures: list[float] = []
    kept = np.empty(0, np.float32), np.empty(0, np.int32), np.empty(0, np.int32)
    for part in tested:
        known = np.isfinite(part.logits[np.arange(len(part.logits)), part.codes])
        if known.any():
            right = _right(part.codes[known], part.studies[known], below)
            temperature, scores = _calibrated(part.logits[known], part.codes[known], right, hidden)
            depths.append(part.depth)
            temperatures.append(temperature)
            kept = scores, part.codes[known].astype(np.int32), part.studies[known].astype(np.int32)
    return Scale(
        # The deepest cells stand for all cells that are as deep or deeper.
        np.array(depths or [np.inf], dtype=np.float32),
        # A cell with fewer counts is never more certain.
        np.maximum.accumulate(np.array(temperatures or [1.0], dtype=np.float32)[::-1])[::-1],
        *kept,
    )


def _right(codes: np.ndarray, studies: np.ndarray, below: np.ndarray | None) -> np.ndarray | None:
    """Find the labels that are right for cells: their own and those below it that their study does not have."""
    if below is None:
        return None
    right = below[codes]
    for study in np.unique(studies):
        mine = np.flatnonzero(studies == study)
        right[np.ix_(mine, np.unique(codes[mine]))] = False
    right[np.arange(len(codes)), codes] = True
    return right


def _calibrated(
    logits: np.ndarray, codes: np.ndarray, right: np.ndarray | None, hidden: np.ndarray | None
) -> tuple[float, np.ndarray]:
    """Find the temperature of the largest likelihood, with equal weights of all labels; return it and the scores."""
    from scipy.special import softmax

    weight, cells = 1.0 / np.bincount(codes)[codes], np.arange(len(codes))

    def found(temperature: float) -> np.ndarray:
        return share_down(softmax(logits / np.float32(temperature), axis=1), hidden)

    def loss(temperature: float) -> float:
        by_label = found(temperature)
        own = by_label[cells, codes] if right is None else (by_label * right).sum(axis=1)
        return float(-(weight * np.log(own.clip(1e-7))).sum())

    best = _NEW_STUDY * float(_TEMPERATURES[int(np.argmin([loss(t) for t in _TEMPERATURES]))])
    return best, (1.0 - found(best)[cells, codes]).astype(np.float32)


def _scores_needed(alpha: float) -> int:
    """Smallest number of scores that p-values as small as alpha are computed from."""
    return max(_MIN_SCORES, int(np.ceil(1 / max(alpha, 1e-9))))


def _largest_possible(scores: np.ndarray, alpha: float) -> float:
    """Largest score that sorted scores do not rule out; inf if they rule out none, -inf if all."""
    pvalues = (1.0 + np.arange(len(scores) + 1)) / (1.0 + len(scores))
    # Number of scores that must be as large.
    n = int(np.searchsorted(pvalues, alpha, side="right"))
    if n == 0:
        return np.inf
    return -np.inf if n > len(scores) else float(scores[-n]) + 1e-6
