"""Genes in which all labels of a reference can be compared: one that only a panel's cells have is out of reach else."""

from __future__ import annotations

import numpy as np

from ._landmarks import Landmarks

#: Share of the expression that a study has to have measured to stand for a label.
_COVERED = 0.7
#: Landmarks of a label that a study stands for it with: a share of those of the study that has most, within bounds. A
#: few cells are called what their study does not have, by mistake.
_SHARE, _FEWEST, _MANY = 0.2, 5, 50
#: Fewest genes that labels are compared in, and fewest labels, of all, that are worth the loss of the others.
_GENES, _LABELS = 500, 0.1


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
    n_studies, n_genes = int(studies.max(initial=0)) + 1, len(measured)
    place = np.repeat(studies.astype(np.int64), np.diff(landmarks.indptr)) * n_genes + landmarks.genes
    expression = np.bincount(place, landmarks.logged(), n_studies * n_genes).reshape(n_studies, n_genes)
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
