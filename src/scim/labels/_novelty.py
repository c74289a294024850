"""Find cells that are unlike all labels of a reference, by their expression.

An embedding that is trained to separate cell types may lose the differences of other cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..counts import as_counts, gene_moments, lognormal
from ._calibration import conformal_pvalues

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from ._landmarks import Landmarks

#: Number of most variable genes in which profiles are compared.
_VARIABLE_GENES = 1_500
#: A study measured a panel if it expresses less than this share of the genes that the widest study expresses.
_PANEL_SHARE = 0.5
#: Smallest number of cells of a label with a mean profile.
_MIN_CELLS_PER_LABEL = 5


@dataclass(frozen=True, eq=False)
class Profiles:
    """Mean expression of each label, and the distances of cells of other studies to the nearest mean.

    Attributes
    ----------
    measured
        Genes that values are normalised over, bool (n_genes,).
    genes
        Genes in which profiles are compared, int64 (g,).
    centroids
        Mean profiles of the labels, centred and of length 1, float32 (n_labels, g).
    background
        Sorted distances of landmarks to the nearest mean profile of the other studies, float32 (n,).
    """

    measured: np.ndarray
    genes: np.ndarray
    centroids: np.ndarray
    background: np.ndarray

    def distances(self, values: csr_matrix) -> np.ndarray:
        """Compute 1 - the largest correlation of each cell with a mean profile, float32 (m,); 1 without counts.

        ``values`` are linear, over the genes of the encoder, (m, n_genes).
        """
        logged = _lognorm(values, self.measured)[:, self.genes].toarray()
        return (1.0 - (_unit(logged) @ self.centroids.T).max(axis=1, initial=-1.0)).astype(np.float32)

    def pvalues(self, values: csr_matrix) -> np.ndarray:
        """Compute conformal p-values of the distances, (m,): small if unlike all labels; 1 without counts."""
        empty = np.asarray(values[:, self.measured].sum(axis=1)).ravel() == 0
        return np.where(empty, 1.0, conformal_pvalues(self.background, self.distances(values)))


@dataclass(frozen=True, eq=False)
class ProfileFolds:
    """Mean profiles of the labels in the genes of a query, with each study left out. :meth:`at` adds the depth.

    Attributes
    ----------
    measured, genes, centroids
        As in :class:`Profiles`.
    matrix
        Linear values of landmarks, without studies that measured a panel, (n, n_genes).
    folds
        For each study: positions of its landmarks with labels of other studies, and the mean profiles of the others.
    """

    measured: np.ndarray
    genes: np.ndarray
    centroids: np.ndarray
    matrix: csr_matrix
    folds: list[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, landmarks: Landmarks, codes: np.ndarray, studies: np.ndarray, measured: np.ndarray) -> ProfileFolds:
        """Choose genes, and average landmarks by label (n,) and without each study (n,)."""
        matrix = landmarks.matrix(len(measured))
        wide = _wide(matrix, studies, measured)
        codes, studies, matrix = codes[wide], studies[wide], matrix[wide]
        logged = _lognorm(matrix, measured)
        genes = np.sort(np.argsort(-gene_moments(logged)[1], kind="stable")[:_VARIABLE_GENES])
        profiles = logged[:, genes].toarray()
        folds = []
        for study in np.unique(studies):
            own = studies == study
            centroids, labels = _centroids(profiles[~own], codes[~own])
            own = np.flatnonzero(own & np.isin(codes, labels))
            if len(own):
                folds.append((own, centroids))
        return cls(measured, genes, _centroids(profiles, codes)[0], matrix, folds)

    def at(self, depth: float | None, *, seed: int) -> Profiles | None:
        """Measure the distances of landmarks to the mean profiles of other studies.

        Returns None if no two studies share labels. Cells with few counts are far from every mean. So landmarks with
        more counts than ``depth``, the median counts of a cell of the query, are thinned to it with ``seed``. If it is
        None, landmarks are not thinned.
        """
        if not self.folds:
            return None
        seen = self.matrix if depth is None else _thinned(self.matrix, self.measured, depth, seed)
        nothing = np.empty(0, np.float32)
        found = [
            Profiles(self.measured, self.genes, centroids, nothing).distances(seen[own])
            for own, centroids in self.folds
        ]
        return Profiles(self.measured, self.genes, self.centroids, np.sort(np.concatenate(found)))


def _wide(matrix: csr_matrix, studies: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Find cells of studies that did not measure a panel, judged by the genes that they express, bool (n,)."""
    names = np.unique(studies)
    expressed = [int((np.asarray((matrix[studies == s][:, measured] > 0).sum(axis=0)) > 0).sum()) for s in names]
    return np.isin(studies, names[np.array(expressed) >= _PANEL_SHARE * max(expressed, default=0)])


def _centroids(profiles: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average the profiles of each label; return unit vectors (n_labels, g), and the labels."""
    labels = [label for label in np.unique(codes[codes >= 0]) if (codes == label).sum() >= _MIN_CELLS_PER_LABEL]
    means = [profiles[codes == label].mean(axis=0) for label in labels]
    return _unit(np.stack(means)) if means else np.empty((0, profiles.shape[1]), np.float32), np.array(labels)


def _thinned(matrix: csr_matrix, measured: np.ndarray, depth: float, seed: int) -> csr_matrix:
    """Thin the counts of cells with more than ``depth`` counts in the measured genes to ``depth``."""
    counts = matrix.copy()
    counts.data = as_counts(matrix.data, matrix.indptr)
    sums = np.asarray(counts[:, measured].sum(axis=1)).ravel()
    cells = np.repeat(np.arange(len(sums)), np.diff(matrix.indptr))
    share = np.minimum(depth / np.maximum(sums, 1e-12), 1.0)[cells]
    drawn = np.random.default_rng(seed).binomial(counts.data, share)
    counts.data = np.where(share < 1, drawn, matrix.data).astype(np.float32)
    return counts


def _lognorm(values: csr_matrix, measured: np.ndarray) -> csr_matrix:
    """Return log1p of 1e4 counts per cell over the measured genes."""
    logged = values.copy()
    logged.data = lognormal(logged.data * measured[logged.indices], logged.indptr)
    return logged


def _unit(profiles: np.ndarray) -> np.ndarray:
    """Centre rows and scale them to length 1; constant rows become 0."""
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
