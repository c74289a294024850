"""Genes in which all labels of a reference can be compared: one that only a panel's cells have is out of reach else."""

from __future__ import annotations

import numpy as np

from ._landmarks import Landmarks

#: Share of the expression that a study has to have measured to stand for a label.
_COVERED = 0.7
#: Landmarks of a label that a study stands for it with: a share of those of the study that has most, within bounds. A
#: few cells are called what their study does not have, by mistake.
_SHARE = 0.2
_FEWEST = 5
_MANY = 50
#: Fewest genes that labels are compared in, and fewest labels, of all, that are worth the loss of the others.
_GENES = 150
_LABELS = 0.1
#: Counts in all cells of a query below which it may lack a gene for want of them; and counts that no gene is left out
#: with, share of such genes that a query has unless it is of a panel.
_UNSEEN = 10.0
_PLENTY = 30.0
_ALL = 0.8


def comparable_genes(
    landmarks: Landmarks, codes: np.ndarray, studies: np.ndarray, measured: np.ndarray
) -> np.ndarray | None:
    """Choose genes that, for every label, a study measured that has it.

    Where a label comes from studies of a small panel only, and the others measured all genes, an encoder sees its cells
    with the panel and never without: a query with all genes looks unlike them, and gets the label that is nearest among
    those of the other studies. With the genes of the panel, in both, it does not.

    Parameters
    ----------
    landmarks
        Cells with their values.
    codes, studies
        Label, -1 for none, and study of each, (n,).
    measured
        Genes that the query has, bool (n_genes,).

    Returns
    -------
    bool (n_genes,); None where all the query's genes will do for nine of ten labels, or too few would be left of them.
    """
    expression = _sums(landmarks, studies, landmarks.logged(), len(measured))
    has = (expression > 0) & measured
    # What genes are worth to the study that measured most of them: a panel's own share is all there is of it.
    weight = np.where(measured, expression[has.sum(axis=1).argmax()], 0.0)
    covered = (has @ weight) / max(float(weight.sum()), 1e-12)
    chosen, labels, n_out = measured.copy(), np.unique(codes[codes >= 0]), 0
    for label in labels:
        sizes = np.bincount(studies[codes == label], minlength=len(has))
        most = int(sizes.max())
        suppliers = np.flatnonzero(sizes >= min(most, max(_FEWEST, min(_MANY, _SHARE * most))))
        best = suppliers[np.argmax(covered[suppliers])]
        if covered[best] < _COVERED:
            chosen &= has[best]
            n_out += 1
    return chosen if chosen.sum() >= _GENES and n_out >= max(1, _LABELS * len(labels)) else None


def unseen_genes(
    landmarks: Landmarks, codes: np.ndarray, studies: np.ndarray, measured: np.ndarray, total: np.ndarray
) -> np.ndarray:
    """Find genes that a query may lack because hardly any of its cells had a count.

    The query is taken for a mixture of the labels (non-negative least squares of its counts on the mean of each label
    in each study, over the genes that it has), and what it would have of the other genes is read off that mixture: a
    gene that its cells express is missing because it was not measured, or was left out. A query that lacks genes of
    many counts, too, is of a panel, and nothing is said of its other genes.

    Parameters
    ----------
    landmarks, codes, studies
        As in :func:`comparable_genes`.
    measured
        Genes that the query has, bool (n_genes,).
    total
        Their counts in all cells, (n_genes,).

    Returns
    -------
    bool (n_genes,).
    """
    from scipy.optimize import nnls

    groups, own = np.unique(np.stack([studies, codes]), axis=1, return_inverse=True)
    sums = _sums(landmarks, own.ravel(), landmarks.values, len(measured))
    # A study of a panel would say of all other genes that nobody has them.
    per_study = np.stack([(sums[groups[0] == study] > 0).any(axis=0) for study in np.unique(studies)])
    wide = np.unique(studies)[per_study.sum(axis=1) >= per_study.sum(axis=1).max() / 2]
    sums = sums[np.isin(groups[0], wide)]
    sums /= np.maximum(sums.sum(axis=1, keepdims=True), 1e-12)
    scale = max(float(total[measured].sum()), 1.0)
    shares, _ = nnls(sums[:, measured].T, total[measured] / scale)
    expected = scale * (shares @ sums)
    plenty = expected >= _PLENTY
    if not plenty.any() or measured[plenty].mean() < _ALL:
        return np.zeros(len(measured), dtype=bool)
    return np.asarray(~measured & (expected < _UNSEEN))


def _sums(landmarks: Landmarks, groups: np.ndarray, values: np.ndarray, n_genes: int) -> np.ndarray:
    """Add up the landmarks' values (nnz,) in each group (n,), float64 (n_groups, n_genes)."""
    place = np.repeat(groups.astype(np.int64), np.diff(landmarks.indptr)) * n_genes + landmarks.genes
    n_groups = int(groups.max(initial=0)) + 1
    return np.bincount(place, values, n_groups * n_genes).reshape(n_groups, n_genes)
