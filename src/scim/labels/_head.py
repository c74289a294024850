"""A linear head on the embedding, joined with the similarity of expression, and scored on studies left out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .._threads import in_blocks, one_thread_of_blas
from ._scale import LeftOut, Scale, fit_scale
from ._sharing import hidden_labels, share_down

#: Inverse strength of the prior on the weights: C of scikit-learn.
_C = 0.3
#: Number of parts that studies are split into. Each part is scored by a head fitted to the others.
_STUDY_FOLDS = 5
#: Number of parts that cells are split into if there is one study.
_CELL_FOLDS = 5
#: Weight of a correlation of expression against a logit of the head, if the means are of many studies ...
_SIMILARITY = 20.0
#: ... and half of it if they are of so many: means of few studies carry the habits of their laboratories.
_HALF_WEIGHT_STUDIES = 10

#: Whether a calibration compares cells with other studies, or with other cells of the only study.
CalibrationKind = Literal["cross-study", "within-study"]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Unit vectors, float32 (n, d), label codes (n,), -1 for no label, and study codes (n,)."""

    vectors: np.ndarray
    codes: np.ndarray
    studies: np.ndarray

    def is_known(self) -> np.ndarray:
        """Find the cells that have a label and a direction, bool (n,)."""
        return np.asarray((self.codes >= 0) & self.vectors.any(axis=1))

    def known(self) -> Labelled:
        """Keep the cells that have a label and a direction."""
        kept = self.is_known()
        return Labelled(self.vectors[kept], self.codes[kept], self.studies[kept])

    @property
    def several_studies(self) -> bool:
        """Whether the cells come from two or more studies."""
        return len(np.unique(self.studies)) > 1


@dataclass(frozen=True, eq=False)
class Head:
    """Probabilities of labels, and labels that cannot be ruled out.

    Attributes
    ----------
    classes
        Label codes that the head knows, int32 (c,), ascending.
    weights, bias
        float32 (c, d) and (c,).
    alone, joint
        Scales without and with the similarity of expression. ``joint`` is None if the similarity of the cells that were
        left out is unknown: then similarity is not used.
    kind
        ``"within-study"`` if there was one study. Probabilities and p-values are then too optimistic for other studies.
    similarity_weight
        Weight of a correlation against a logit.
    hidden
        How often a study that has a label hides another label in it, float32 (c, c), see :func:`hidden_labels`. None:
        never.
    """

    classes: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    alone: Scale
    joint: Scale | None
    kind: CalibrationKind
    similarity_weight: float = 0.0
    hidden: np.ndarray | None = None

    def scale(self, similarity: np.ndarray | None) -> Scale:
        """Return the scale for cells with or without similarities."""
        return self.alone if similarity is None or self.joint is None else self.joint

    def probabilities(
        self,
        vectors: np.ndarray,
        n_labels: int,
        depth: np.ndarray | None = None,
        similarity: np.ndarray | None = None,
    ) -> np.ndarray:
        """Compute the probability of each label, float32 (m, n_labels).

        Parameters
        ----------
        vectors
            Unit vectors, float32 (m, d). Cells without a direction have probabilities of zero.
        n_labels
            Number of labels of the reference.
        depth
            Counts of each cell, (m,). None: unknown, and assumed to be enough.
        similarity
            Correlation of each cell's expression with the mean of each label, (m, n_labels); nan for a label without a
            mean. None: unknown.
        """
        from scipy.special import softmax

        out = np.zeros((len(vectors), n_labels), dtype=np.float32)
        scale = self.scale(similarity)
        divisors = scale.divisors(np.full(len(vectors), np.inf) if depth is None else depth)

        def work(part: slice) -> None:
            logits = vectors[part] @ self.weights.T + self.bias
            if similarity is not None and scale is self.joint:
                logits = join_similarity(logits, similarity[part][:, self.classes], self.similarity_weight)
            out[part, self.classes] = share_down(softmax(logits / divisors[part, None], axis=1), self.hidden)
            out[part][~vectors[part].any(axis=1)] = 0

        in_blocks(len(vectors), work)
        return out

    def to_arrays(self, name: str = "head") -> dict[str, np.ndarray]:
        """Return all fields, with names that begin with ``name``, for an .npz file."""
        found = {f"{name}_{field}": np.asarray(getattr(self, field)) for field in (*_ARRAYS, *_PLAIN)}
        if self.hidden is not None:
            found[f"{name}_hidden"] = self.hidden
        for which, scale in (("alone", self.alone), ("joint", self.joint)):
            if scale is not None:
                found |= {f"{name}_{which}_{field}": value for field, value in scale.__dict__.items()}
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], name: str = "head") -> Head | None:
        """Read the arrays of :meth:`to_arrays`. None if there is no head."""
        if f"{name}_classes" not in arrays:
            return None
        scales = [
            Scale(**{field: np.asarray(arrays[f"{name}_{which}_{field}"]) for field in Scale.__dataclass_fields__})
            for which in ("alone", "joint")
            if which == "alone" or f"{name}_{which}_depths" in arrays
        ]
        kind: CalibrationKind = "within-study" if str(arrays[f"{name}_kind"]) == "within-study" else "cross-study"
        classes, weights, bias = (np.asarray(arrays[f"{name}_{field}"]) for field in _ARRAYS)
        joint = scales[1] if len(scales) > 1 else None
        weight, hidden = float(arrays[f"{name}_similarity_weight"]), arrays.get(f"{name}_hidden")
        return cls(classes, weights, bias, scales[0], joint, kind, weight, hidden)


#: Fields of a head that are arrays.
_ARRAYS = ("classes", "weights", "bias")
#: Fields of a head that are a text or a number.
_PLAIN = ("kind", "similarity_weight")


def join_similarity(logits: np.ndarray, similarity: np.ndarray, weight: float) -> np.ndarray:
    """Add weighted correlations to logits, both (m, c).

    A label without a mean, whose correlations are nan, has the mean correlation of the other labels, weighted by their
    probabilities: then only its logit counts.
    """
    from scipy.special import softmax

    known = np.isfinite(similarity)
    if not known.all():
        filled = np.where(known, similarity, 0.0)
        shares = softmax(np.where(known, logits + weight * filled, -1e9), axis=1)
        similarity = np.where(known, similarity, (shares * filled).sum(axis=1, keepdims=True))
    return np.asarray(logits + np.float32(weight) * similarity.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Trial:
    """Cells of about ``depth`` counts that a head is scored on.

    ``similarity`` is the correlation of each cell with the means of labels in other studies, float32 (n, n_labels); nan
    for no mean. None: unknown.
    """

    depth: float
    cells: Labelled
    similarity: np.ndarray | None = None

    def known(self) -> Trial:
        """Keep the cells that have a label and a direction."""
        kept = self.cells.is_known()
        return Trial(self.depth, self.cells.known(), None if self.similarity is None else self.similarity[kept])


def fit_head(
    cells: Labelled, *, n_labels: int, seed: int, tested: Sequence[Trial] = (), below: np.ndarray | None = None
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
    tested
        Cells of the same studies, at several depths, to score the head on if there are several studies. Conformal
        scores are those of the deepest cells. Empty: ``cells`` themselves.
    below
        Labels that are a label or below it, bool (n_labels, n_labels), see :func:`fit_scale`.

    Returns
    -------
    The head. None if there are fewer than two labels.
    """
    fitted = cells.known()
    if len(np.unique(fitted.codes)) < 2:
        return None
    folds = _folds(fitted, seed=seed)
    heads = _left_out_heads(fitted, folds)
    # Within one study, cells are left out, and it is unknown which tested cell is which fitted cell.
    if tested and fitted.several_studies:
        parts = sorted((part.known() for part in tested), key=lambda part: part.depth)
        found = [(part, _folds_of_studies(part.cells.studies, fitted.studies, folds)) for part in parts]
    else:
        found = [(Trial(np.inf, fitted), folds)]
    hidden = None if below is None else hidden_labels(fitted.codes, fitted.studies, below)
    n_studies = len(np.unique(fitted.studies))
    weight = _SIMILARITY * n_studies / (n_studies + _HALF_WEIGHT_STUDIES)
    alone, joint = [], []
    for part, places in found:
        logits, of = _left_out(heads, part.cells, places, n_labels), (part.cells.codes, part.cells.studies)
        alone.append(LeftOut(part.depth, logits, *of))
        if part.similarity is not None:
            joint.append(LeftOut(part.depth, _joined(logits, part.similarity, weight), *of))
    classes, weights, bias = _fit(fitted.vectors, fitted.codes)
    return Head(
        classes,
        weights,
        bias,
        alone=fit_scale(alone, below, hidden),
        joint=fit_scale(joint, below, hidden) if joint else None,
        kind="cross-study" if fitted.several_studies else "within-study",
        similarity_weight=weight,
        hidden=None if hidden is None else hidden[np.ix_(classes, classes)],
    )


def _joined(logits: np.ndarray, similarity: np.ndarray, weight: float) -> np.ndarray:
    """Add correlations to logits, (n, n_labels); labels that a head does not know keep -inf."""
    known = np.isfinite(logits)
    return np.where(known, join_similarity(np.where(known, logits, -1e9), similarity, weight), -np.inf)


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
    return classes.astype(np.int32), weights.astype(np.float32), bias.astype(np.float32)
