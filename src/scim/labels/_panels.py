"""Find labels that only studies of a gene panel have, and the genes in which all labels can be compared.

With other genes, no cell gets such a label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._landmarks import Landmarks

#: A study represents a label with all genes if it measured at least this share of the expression.
_COVERED_SHARE = 0.7
#: A study represents a label if it has at least this share of the landmarks of the label in the largest study (a few
#: cells may be mislabelled) ...
_LANDMARK_SHARE = 0.2
#: ... but at least this number of landmarks, or all of the largest study ...
_MIN_LANDMARKS = 5
#: ... and this number is always enough.
_ENOUGH_LANDMARKS = 50
#: Smallest number of genes in which labels are compared.
_MIN_GENES = 150
#: Smallest share of labels that only panels have, for which the other genes are given up.
_MIN_PANEL_LABELS = 0.1
#: A query may lack a gene by chance if fewer counts are expected in all its cells.
_RARE_COUNTS = 10.0
#: A query does not lack a gene by chance if at least this number of counts is expected ...
_FREQUENT_COUNTS = 30.0
#: ... and a query that has less than this share of such genes measured a panel.
_MEASURED_SHARE = 0.8
#: More means of labels in studies are averaged by label before a query is fitted, because the fit would be slow.
_MANY_GROUPS = 200


@dataclass(frozen=True, eq=False)
class PanelLabels:
    """Labels that only studies of a gene panel have.

    Attributes
    ----------
    codes
        Codes of these labels, int64 (p,).
    genes
        Genes that a study of every label measured, bool (n_genes,).
    """

    codes: np.ndarray
    genes: np.ndarray


def panel_labels(
    landmarks: Landmarks, codes: np.ndarray, studies: np.ndarray, measured: np.ndarray
) -> PanelLabels | None:
    """Find labels that only studies of a gene panel have, and genes such that every label has a study with them.

    If a label comes only from studies of a small gene panel, the encoder saw its cells only with the genes of the
    panel. A query with all genes is unlike these cells, and gets the nearest label of the other studies. If query and
    landmarks are embedded with the genes of the panel, it gets the right label.

    Parameters
    ----------
    landmarks
        Landmarks of the reference.
    codes, studies
        Label code, -1 for no label, and study of each landmark, (n,).
    measured
        Genes that the query has, bool (n_genes,).

    Returns
    -------
    The labels and genes. None if nine of ten labels can be compared in all genes of the query, or too few genes would
    be left.
    """
    expression = _sums(landmarks, studies, landmarks.logged(), len(measured))
    has = (expression > 0) & measured
    # Genes are weighted by their expression in the study that measured most genes.
    weight = np.where(measured, expression[has.sum(axis=1).argmax()], 0.0)
    covered = (has @ weight) / max(float(weight.sum()), 1e-12)
    chosen, labels, of_panels = measured.copy(), np.unique(codes[codes >= 0]), []
    for label in labels:
        sizes = np.bincount(studies[codes == label], minlength=len(has))
        most = int(sizes.max())
        suppliers = np.flatnonzero(
            sizes >= min(most, max(_MIN_LANDMARKS, min(_ENOUGH_LANDMARKS, _LANDMARK_SHARE * most)))
        )
        best = suppliers[np.argmax(covered[suppliers])]
        if covered[best] < _COVERED_SHARE:
            chosen &= has[best]
            of_panels.append(label)
    if chosen.sum() < _MIN_GENES or len(of_panels) < max(1, _MIN_PANEL_LABELS * len(labels)):
        return None
    return PanelLabels(np.array(of_panels, dtype=np.int64), chosen)


def unseen_genes(
    landmarks: Landmarks, codes: np.ndarray, studies: np.ndarray, measured: np.ndarray, total: np.ndarray
) -> np.ndarray:
    """Find genes that a query may lack only because few of its cells have a count.

    The counts of the query are fitted by a mixture of the labels: non-negative least squares on the mean of each label
    in each study, over the genes that the query has. The mixture predicts the counts of the other genes. A gene with
    many predicted counts was not measured, or was left out. If many such genes are missing, the query measured a panel,
    and no gene is returned.

    Parameters
    ----------
    landmarks, codes, studies
        As in :func:`panel_labels`.
    measured
        Genes that the query has, bool (n_genes,).
    total
        Sum of the counts of each gene over all cells, (n_genes,).

    Returns
    -------
    bool (n_genes,).
    """
    from scipy.optimize import nnls

    groups, own = np.unique(np.stack([studies, codes]), axis=1, return_inverse=True)
    sums = _sums(landmarks, own.ravel(), landmarks.values, len(measured))
    # Studies of a panel are left out: in them, all other genes have no counts.
    per_study = np.stack([(sums[groups[0] == study] > 0).any(axis=0) for study in np.unique(studies)])
    wide = np.unique(studies)[per_study.sum(axis=1) >= per_study.sum(axis=1).max() / 2]
    sums = sums[np.isin(groups[0], wide)]
    sums /= np.maximum(sums.sum(axis=1, keepdims=True), 1e-12)
    if len(sums) > _MANY_GROUPS:
        of_wide = groups[1][np.isin(groups[0], wide)]
        sums = np.stack([sums[of_wide == code].mean(axis=0) for code in np.unique(of_wide)])
    scale = max(float(total[measured].sum()), 1.0)
    shares, _ = nnls(sums[:, measured].T, total[measured] / scale)
    expected = scale * (shares @ sums)
    frequent = expected >= _FREQUENT_COUNTS
    if not frequent.any() or measured[frequent].mean() < _MEASURED_SHARE:
        return np.zeros(len(measured), dtype=bool)
    return np.asarray(~measured & (expected < _RARE_COUNTS))


def _sums(landmarks: Landmarks, groups: np.ndarray, values: np.ndarray, n_genes: int) -> np.ndarray:
    """Sum the values (nnz,) of landmarks by group (n,), float64 (n_groups, n_genes)."""
    place = np.repeat(groups.astype(np.int64), np.diff(landmarks.indptr)) * n_genes + landmarks.genes
    n_groups = int(groups.max(initial=0)) + 1
    return np.bincount(place, values, n_groups * n_genes).reshape(n_groups, n_genes)
