"""A linear head on the embedding, with what its probabilities are worth on studies that it was not fitted to."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .._threads import in_blocks, one_thread_of_blas

#: Strength of the prior on the head's weights, as scikit-learn's C.
_C = 0.3
#: Parts that studies are put into, each scored by a head fitted to the others; parts of cells if there is one study.
_FOLDS = 5
_CELL_FOLDS = 5
#: Fewest scores of a label, in a study, that a p-value of its own is computed from.
_FEWEST = 20
#: Temperatures that are tried.
_TEMPERATURES = np.geomspace(0.1, 10, 41)

HeadKind = Literal["cross-study", "within-study"]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Unit vectors, float32 (n, d), label codes (n,), -1 for none, and study codes (n,)."""

    vectors: np.ndarray
    codes: np.ndarray
    studies: np.ndarray

    def known(self) -> Labelled:
        """Those that have a label and a direction."""
        some = (self.codes >= 0) & self.vectors.any(axis=1)
        return Labelled(self.vectors[some], self.codes[some], self.studies[some])

    @property
    def several_studies(self) -> bool:
        """Whether they are of two studies or more."""
        return len(np.unique(self.studies)) > 1


@dataclass(frozen=True, eq=False)
class Head:
    """Probabilities of labels, and conformal p-values for them.

    Attributes
    ----------
    classes
        Label codes that the head knows, int32 (c,), ascending.
    weights, bias
        float32 (c, d) and (c,).
    temperature
        What logits are divided by: fitted to cells of studies that were left out.
    scores, labels, groups
        Nonconformity of cells that were left out, 1 minus the probability of their own label, float32 (n,), with their
        label codes and studies, int32 (n,).
    kind
        ``"within-study"`` where there was one study to leave cells out of, so that all of this is too good for others.
    """

    classes: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    temperature: float
    scores: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    kind: HeadKind

    def probabilities(self, vectors: np.ndarray, n_labels: int) -> np.ndarray:
        """Probability of each label, float32 (m, n_labels); zeros for a cell without a direction.

        Parameters
        ----------
        vectors
            Unit vectors, float32 (m, d).
        n_labels
            Labels of the reference.
        """
        out = np.zeros((len(vectors), n_labels), dtype=np.float32)

        def work(part: slice) -> None:
            logits = vectors[part] @ self.weights.T + self.bias
            out[part, self.classes] = _softmax(logits / self.temperature)
            out[part][~vectors[part].any(axis=1)] = 0

        in_blocks(len(vectors), work)
        return out

    def possible(self, by_label: np.ndarray, *, alpha: float) -> np.ndarray:
        """Labels that cannot be ruled out, bool like ``by_label``: their conformal p-value is above ``alpha``.

        The p-value is ``(1 + cells of the label that fitted it as badly) / (1 + cells of the label)``, within each
        study that was left out, and the largest of these: cells of a study have more in common than exchangeability
        allows, and a label is ruled out where it would have been in every study (Mondrian conformal prediction, Vovk et
        al. 2005; by study as in Dunn, Wasserman & Ramdas 2023). A label that the head does not know is ruled out.

        Parameters
        ----------
        by_label
            Probability of each label, (m, n_labels).
        alpha
            Tolerated error. Cells too few for a p-value that small, 20 or 1/alpha, are put together with those of other
            studies, and if need be of other labels.
        """
        fewest = _fewest(alpha)
        worst = np.full(by_label.shape[1], -np.inf, dtype=np.float32)
        for label in self.classes:
            worst[label] = max(_worst(ranked, alpha) for ranked in self._scores_of(label, fewest))
        out = np.empty(by_label.shape, dtype=bool)
        in_blocks(len(by_label), lambda part: np.less_equal(1.0 - by_label[part], worst, out=out[part]))
        return out

    def pooled(self, *, alpha: float) -> np.ndarray:
        """Label codes that the scores of all labels stand in for, int32: too few cells of them were left out."""
        counts = np.bincount(self.labels, minlength=int(self.classes.max(initial=-1)) + 1)
        return np.asarray(self.classes[counts[self.classes] < _fewest(alpha)])

    def _scores_of(self, label: int, fewest: int) -> list[np.ndarray]:
        """Scores of a label's cells, ascending, by study; of all studies, or of all labels, where these are too few."""
        mine = self.labels == label
        parts = [self.scores[mine & (self.groups == group)] for group in np.unique(self.groups[mine])]
        parts = [part for part in parts if len(part) >= fewest] or [self.scores[mine]]
        return [np.sort(part) for part in (parts if len(parts[0]) >= fewest else [self.scores])]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All of it by name, for an .npz file."""
        return {f"head_{name}": np.asarray(value) for name, value in self.__dict__.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Head | None:
        """Read what :meth:`to_arrays` gave; None where there is no head."""
        if "head_classes" not in arrays:
            return None
        fields: dict[str, Any] = {name: np.asarray(arrays[f"head_{name}"]) for name in cls.__dataclass_fields__}
        return cls(**fields | {"temperature": float(fields["temperature"]), "kind": str(fields["kind"])})


def fit_head(cells: Labelled, *, n_labels: int, seed: int, scored: Labelled | None = None) -> Head | None:
    """Fit a head to cells that :func:`choose` chose, and find out what it is worth on studies left out.

    Multinomial logistic regression in which every label weighs the same: in a vote of neighbours, labels of few cells
    lose against their neighbours of many. Studies are left out in turn, in five parts where there are more; the
    temperature is chosen so that the probabilities of the others' heads fit the labels there best (Guo et al., On
    calibration of modern neural networks, 2017), and the probabilities of the true labels are kept as conformal scores.

    Parameters
    ----------
    cells
        What it is fitted to.
    n_labels
        Labels of the reference.
    seed
        Seed of the parts that are left out.
    scored
        Cells that what was left out is scored by, if not by the same: of the same studies, where there are several.

    Returns
    -------
    The head; None where there are fewer than two labels.
    """
    fitted = cells.known()
    if len(np.unique(fitted.codes)) < 2:
        return None
    # Within one study, cells are left out, and no other one is known to be that cell.
    tested = scored.known() if scored is not None and fitted.several_studies else fitted
    folds, tested_folds, kind = _folds(fitted.studies, tested.studies, seed=seed)
    logits, rows = [], []
    for fold in np.unique(folds):
        others = folds != fold
        # A label that only this fold has cannot be told from the others.
        mine = np.flatnonzero((tested_folds == fold) & np.isin(tested.codes, fitted.codes[others]))
        if len(mine) and len(np.unique(fitted.codes[others])) > 1:
            classes, weights, bias = _fit(fitted.vectors[others], fitted.codes[others])
            part = np.full((len(mine), n_labels), -np.inf, dtype=np.float32)
            part[:, classes] = tested.vectors[mine] @ weights.T + bias
            logits.append(part)
            rows.append(mine)
    classes, weights, bias = _fit(fitted.vectors, fitted.codes)
    temperature, scores, order = 1.0, np.empty(0, np.float32), np.empty(0, np.int64)
    if logits:
        order = np.concatenate(rows)
        temperature, scores = _calibrated(np.concatenate(logits), tested.codes[order])
    return Head(
        classes.astype(np.int32),
        weights,
        bias,
        temperature,
        scores,
        tested.codes[order].astype(np.int32),
        tested.studies[order].astype(np.int32),
        kind,
    )


def _folds(studies: np.ndarray, others: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray, HeadKind]:
    """Part of each of two sets of cells; the second is the first where there is one study."""
    names = np.unique(studies)
    rng = np.random.default_rng(seed)
    if len(names) == 1:
        folds = rng.permutation(len(studies)) % _CELL_FOLDS
        return folds, folds, "within-study"
    order = rng.permutation(len(names))
    fold_of = np.full(int(max(studies.max(), others.max(initial=0))) + 1, -1)
    fold_of[names] = order % _FOLDS
    return fold_of[studies], fold_of[others], "cross-study"


def _fit(vectors: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classes, of which there are two or more, weights and biases."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    classes = np.unique(codes)
    # Products so small that threads would only wait for each other.
    with warnings.catch_warnings(), one_thread_of_blas():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=_C, class_weight="balanced", max_iter=300).fit(vectors, codes)
    weights, bias = model.coef_, model.intercept_
    if len(classes) == 2:  # scikit-learn keeps one row for two
        weights, bias = np.vstack([-weights / 2, weights / 2]), np.concatenate([-bias / 2, bias / 2])
    return classes, weights.astype(np.float32), bias.astype(np.float32)


def _calibrated(logits: np.ndarray, codes: np.ndarray) -> tuple[float, np.ndarray]:
    """Temperature with which the labels are most likely, every label as important, and 1 - their probabilities."""
    weight = 1.0 / np.bincount(codes)[codes]

    def likely(temperature: float) -> np.ndarray:
        return _softmax(logits / np.float32(temperature))[np.arange(len(codes)), codes]

    losses = [float(-(weight * np.log(likely(t).clip(1e-7))).sum()) for t in _TEMPERATURES]
    best = float(_TEMPERATURES[int(np.argmin(losses))])
    return best, (1.0 - likely(best)).astype(np.float32)


def _fewest(alpha: float) -> int:
    """Fewest scores that p-values as small as alpha are computed from."""
    return max(_FEWEST, int(np.ceil(1 / max(alpha, 1e-9))))


def _worst(ranked: np.ndarray, alpha: float) -> float:
    """Largest score that is not ruled out by others, which ascend; inf where none is ruled out, -inf where all are."""
    pvalues = (1.0 + np.arange(len(ranked) + 1)) / (1.0 + len(ranked))
    # So many have to be as bad.
    n = int(np.searchsorted(pvalues, alpha, side="right"))
    if n == 0:
        return np.inf
    return -np.inf if n > len(ranked) else float(ranked[-n]) + 1e-6


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
