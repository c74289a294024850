"""A linear head on the embedding, and conformal scores of it from studies that were left out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .._threads import in_blocks, one_thread_of_blas

#: Inverse strength of the prior on the weights: C of scikit-learn.
_C = 0.3
#: Number of parts that studies are split into. Each part is scored by a head fitted to the others.
_STUDY_FOLDS = 5
#: Number of parts that cells are split into if there is one study.
_CELL_FOLDS = 5
#: Temperatures are multiplied by this: cells of a new study lie farther from their label than cells of a study that was
#: left out, which the encoder was trained on.
_NEW_STUDY = 1.25
#: Smallest number of scores of a label that p-values of the label are computed from.
_MIN_SCORES = 20
#: Temperatures that are tried.
_TEMPERATURES = np.geomspace(0.1, 10, 41)

#: Whether a calibration compares cells with other studies, or with other cells of the only study.
CalibrationKind = Literal["cross-study", "within-study"]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Unit vectors, float32 (n, d), label codes (n,), -1 for no label, and study codes (n,)."""

    vectors: np.ndarray
    codes: np.ndarray
    studies: np.ndarray

    def known(self) -> Labelled:
        """Keep the cells that have a label and a direction."""
        kept = (self.codes >= 0) & self.vectors.any(axis=1)
        return Labelled(self.vectors[kept], self.codes[kept], self.studies[kept])

    @property
    def several_studies(self) -> bool:
        """Whether the cells come from two or more studies."""
        return len(np.unique(self.studies)) > 1


@dataclass(frozen=True, eq=False)
class Head:
    """Probabilities of labels, and conformal p-values of labels.

    Attributes
    ----------
    classes
        Label codes that the head knows, int32 (c,), ascending.
    weights, bias
        float32 (c, d) and (c,).
    depths, temperatures
        Counts of a cell, ascending, and the divisor of the logits of such a cell, float32 (t,), fitted to cells of
        studies that were left out. Shallow cells have larger divisors, and so less certain labels.
    scores
        Nonconformity of cells that were left out: 1 - probability of their own label, float32 (n,).
    labels, groups
        Label codes and studies of these cells, int32 (n,).
    kind
        ``"within-study"`` if there was one study. Probabilities and p-values are then too optimistic for other studies.
    """

    classes: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    depths: np.ndarray
    temperatures: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    kind: CalibrationKind

    def probabilities(self, vectors: np.ndarray, n_labels: int, depth: np.ndarray | None = None) -> np.ndarray:
        """Compute the probability of each label, float32 (m, n_labels), from unit vectors, float32 (m, d).

        ``depth`` are the counts of each cell, (m,). None: unknown, and assumed to be enough. Cells without a direction
        have zeros.
        """
        from scipy.special import softmax

        out = np.zeros((len(vectors), n_labels), dtype=np.float32)
        deep = np.full(len(vectors), np.inf) if depth is None else np.maximum(depth, 1e-9)
        divisors = np.interp(np.log(deep), np.log(self.depths), self.temperatures).astype(np.float32)

        def work(part: slice) -> None:
            logits = vectors[part] @ self.weights.T + self.bias
            out[part, self.classes] = softmax(logits / divisors[part, None], axis=1)
            out[part][~vectors[part].any(axis=1)] = 0

        in_blocks(len(vectors), work)
        return out

    def possible(self, by_label: np.ndarray, *, alpha: float) -> np.ndarray:
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
        """
        n_needed = _scores_needed(alpha)
        limit = np.full(by_label.shape[1], -np.inf, dtype=np.float32)
        for label in self.classes:
            limit[label] = max(_largest_possible(scores, alpha) for scores in self._scores_of(label, n_needed))
        out = np.empty(by_label.shape, dtype=bool)
        in_blocks(len(by_label), lambda part: np.less_equal(1.0 - by_label[part], limit, out=out[part]))
        return out

    def pooled(self, *, alpha: float) -> np.ndarray:
        """Label codes with too few scores of their own, int32: the scores of all labels are used for them."""
        counts = np.bincount(self.labels, minlength=int(self.classes.max(initial=-1)) + 1)
        return np.asarray(self.classes[counts[self.classes] < _scores_needed(alpha)])

    def _scores_of(self, label: int, n_needed: int) -> list[np.ndarray]:
        """Sorted scores of a label for each study; of all studies, or of all labels, if there are too few."""
        mine = self.labels == label
        parts = [self.scores[mine & (self.groups == group)] for group in np.unique(self.groups[mine])]
        parts = [part for part in parts if len(part) >= n_needed] or [self.scores[mine]]
        return [np.sort(part) for part in (parts if len(parts[0]) >= n_needed else [self.scores])]

    def to_arrays(self, name: str = "head") -> dict[str, np.ndarray]:
        """Return all fields, with names that begin with ``name``, for an .npz file."""
        return {f"{name}_{field}": np.asarray(value) for field, value in self.__dict__.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], name: str = "head") -> Head | None:
        """Read the arrays of :meth:`to_arrays`. None if there is no head."""
        if f"{name}_classes" not in arrays:
            return None
        fields: dict[str, Any] = {field: np.asarray(arrays[f"{name}_{field}"]) for field in cls.__dataclass_fields__}
        return cls(**fields | {"kind": str(fields["kind"])})


def fit_head(
    cells: Labelled, *, n_labels: int, seed: int, scored: Sequence[tuple[float, Labelled]] = ()
) -> Head | None:
    """Fit a head to a balanced sample of cells, and score it on studies that are left out in turn.

    The head is a multinomial logistic regression in which every label has the same weight, so that rare labels do not
    lose against common ones. Studies are left out in five parts, if there are more. A temperature maximises the
    likelihood of the labels in the studies left out (Guo et al., On calibration of modern neural networks, 2017). The
    probabilities of the true labels there are kept as conformal scores.

    Parameters
    ----------
    cells
        Cells to fit the head to.
    n_labels, seed
        Number of labels of the reference, and seed of the parts that are left out.
    scored
        Depths, and cells of the same studies with about so many counts, to score the head on if there are several
        studies. Conformal scores are those of the deepest cells. Empty: ``cells`` themselves.

    Returns
    -------
    The head. None if there are fewer than two labels.
    """
    fitted = cells.known()
    if len(np.unique(fitted.codes)) < 2:
        return None
    # Within one study, cells are left out, and it is unknown which scored cell is which fitted cell.
    tested = [(depth, other.known()) for depth, other in scored] if fitted.several_studies else []
    tested = sorted(tested or [(np.inf, fitted)], key=lambda pair: pair[0])
    folds = _folds(fitted, seed=seed)
    heads = _left_out_heads(fitted, folds)
    depths: list[float] = []
    temperatures: list[float] = []
    kept = _Scored.none()
    for depth, others in tested:
        own = _folds_of_studies(others.studies, fitted.studies, folds) if scored and fitted.several_studies else folds
        logits = _left_out(heads, others, own, n_labels)
        known = np.isfinite(logits[np.arange(len(logits)), others.codes])
        if known.any():
            temperature, scores = _calibrated(logits[known], others.codes[known])
            depths.append(depth)
            temperatures.append(temperature)
            kept = _Scored(scores, others.codes[known], others.studies[known])
    classes, weights, bias = _fit(fitted.vectors, fitted.codes)
    return Head(
        classes=classes.astype(np.int32),
        weights=weights,
        bias=bias,
        # The deepest cells stand for all cells that are as deep or deeper.
        depths=np.array(depths or [np.inf], dtype=np.float32),
        # A cell with fewer counts is never more certain.
        temperatures=np.maximum.accumulate(np.array(temperatures or [1.0], dtype=np.float32)[::-1])[::-1],
        scores=kept.scores,
        labels=kept.codes.astype(np.int32),
        groups=kept.studies.astype(np.int32),
        kind="cross-study" if fitted.several_studies else "within-study",
    )


@dataclass(frozen=True, eq=False)
class _Scored:
    """Conformal scores, label codes and studies of cells that were left out, (n,)."""

    scores: np.ndarray
    codes: np.ndarray
    studies: np.ndarray

    @classmethod
    def none(cls) -> _Scored:
        return cls(np.empty(0, np.float32), np.empty(0, np.int32), np.empty(0, np.int32))


#: Classes, weights and biases of a head that was fitted without some studies.
_Fitted = tuple[np.ndarray, np.ndarray, np.ndarray]


def _folds(cells: Labelled, *, seed: int) -> np.ndarray:
    """Choose the fold of each cell: the fold of its study, or a random one if there is one study."""
    rng = np.random.default_rng(seed)
    if not cells.several_studies:
        return rng.permutation(len(cells.codes)) % _CELL_FOLDS
    names, place = np.unique(cells.studies, return_inverse=True)
    return (rng.permutation(len(names)) % _STUDY_FOLDS)[place.ravel()]


def _folds_of_studies(studies: np.ndarray, known: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Find the folds of studies (m,) from the ``known`` studies (n,) and their folds; -1 for another study."""
    fold_of = np.full(int(max(studies.max(initial=0), known.max())) + 1, -1)
    fold_of[known] = folds
    return np.asarray(fold_of[studies])


def _left_out_heads(cells: Labelled, folds: np.ndarray) -> dict[int, _Fitted]:
    """Fit a head without each fold (n,). A fold whose other cells have fewer than two labels has no head."""
    others = {int(fold): folds != fold for fold in np.unique(folds)}
    return {
        fold: _fit(cells.vectors[rest], cells.codes[rest])
        for fold, rest in others.items()
        if len(np.unique(cells.codes[rest])) > 1
    }


def _left_out(heads: Mapping[int, _Fitted], tested: Labelled, folds: np.ndarray, n_labels: int) -> np.ndarray:
    """Compute logits of cells, float32 (n, n_labels), by the head without their fold; -inf for unknown labels."""
    logits = np.full((len(tested.codes), n_labels), -np.inf, dtype=np.float32)
    for fold, (classes, weights, bias) in heads.items():
        mine = np.flatnonzero(folds == fold)
        logits[np.ix_(mine, classes)] = tested.vectors[mine] @ weights.T + bias
    return logits


def _fit(vectors: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit classes (two or more), weights and biases."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    classes = np.unique(codes)
    # The products are so small that several threads are slower than one.
    with warnings.catch_warnings(), one_thread_of_blas():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=_C, class_weight="balanced", max_iter=300).fit(vectors, codes)
    weights, bias = model.coef_, model.intercept_
    if len(classes) == 2:  # scikit-learn keeps one row for two classes
        weights, bias = np.vstack([-weights / 2, weights / 2]), np.concatenate([-bias / 2, bias / 2])
    return classes, weights.astype(np.float32), bias.astype(np.float32)


def _calibrated(logits: np.ndarray, codes: np.ndarray) -> tuple[float, np.ndarray]:
    """Find the temperature of the largest likelihood, with equal weights of all labels; return it and the scores."""
    from scipy.special import softmax

    weight = 1.0 / np.bincount(codes)[codes]

    def of_own_label(temperature: float) -> np.ndarray:
        return np.asarray(softmax(logits / np.float32(temperature), axis=1))[np.arange(len(codes)), codes]

    losses = [float(-(weight * np.log(of_own_label(t).clip(1e-7))).sum()) for t in _TEMPERATURES]
    best = _NEW_STUDY * float(_TEMPERATURES[int(np.argmin(losses))])
    return best, (1.0 - of_own_label(best)).astype(np.float32)


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
