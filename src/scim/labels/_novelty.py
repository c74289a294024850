"""Find cells that are unlike all labels of a reference, by their expression.

An embedding that is trained to separate cell types may lose the differences of other cells.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..counts import gene_moments, lognormal
from ._balanced import balanced_sample
from ._calibration import conformal_pvalues, novelty_scores

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from ._landmarks import Landmarks

#: Number of most variable genes in which profiles are compared.
_VARIABLE_GENES = 1_500
#: A study measured a panel if it expresses less than this share of the genes that the widest study expresses.
_PANEL_SHARE = 0.5
#: Largest number of landmarks whose distances are the background.
_BACKGROUND_CELLS = 1_000
#: Landmarks are thinned to powers of 2 counts, with exponents between these; at the largest, they are not thinned.
_SHALLOWEST, _DEEPEST = 3, 14
#: Smallest number of cells of a label with a mean profile.
_MIN_CELLS_PER_LABEL = 5


@dataclass(eq=False)
class Profiles:
    """Mean expression of each label, in the genes of a query, and how far cells of other studies are from it.

    Attributes
    ----------
    measured
        Genes that values are normalised over, bool (n_genes,).
    genes
        Genes in which profiles are compared, int64 (g,).
    centroids
        Mean profiles of the labels, centred and of length 1, float32 (n_labels, g).
    landmarks
        Landmarks whose distances are the background, none of a study that measured a panel.
    folds
        For each study: positions of its landmarks with labels of other studies, and the mean profiles of the others.
    seed
        Seed of thinned landmarks.
    """

    measured: np.ndarray
    genes: np.ndarray
    centroids: np.ndarray
    landmarks: Landmarks
    folds: list[tuple[np.ndarray, np.ndarray]]
    seed: int
    _backgrounds: dict[float, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(
        cls, landmarks: Landmarks, codes: np.ndarray, studies: np.ndarray, measured: np.ndarray, *, seed: int
    ) -> Profiles | None:
        """Choose genes, and average landmarks by label (n,) and without each study (n,).

        Returns None if no two studies share labels.
        """
        matrix = landmarks.matrix(len(measured))
        wide = np.flatnonzero(_wide(matrix, studies, measured))
        codes, studies, matrix = codes[wide], studies[wide], matrix[wide]
        logged = _lognorm(matrix, measured)
        genes = np.sort(np.argsort(-gene_moments(logged)[1], kind="stable")[:_VARIABLE_GENES])
        profiles = logged[:, genes].toarray()
        # The background needs fewer cells than the means.
        some = balanced_sample(codes, studies, seed=seed, most=_BACKGROUND_CELLS)
        folds = []
        for study in np.unique(studies):
            centroids, labels = _centroids(profiles[studies != study], codes[studies != study])
            scored = np.flatnonzero((studies[some] == study) & np.isin(codes[some], labels))
            if len(scored):
                folds.append((scored, centroids))
        if not folds:
            return None
        return cls(measured, genes, _centroids(profiles, codes)[0], landmarks.take(wide[some]).counted(), folds, seed)

    def compare(self, values: csr_matrix, depths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute p-values of novelty, and novelty (:func:`novelty_scores`), each (m,).

        Cells with few counts are far from every mean. So each cell is compared with landmarks of about as many counts:
        landmarks with more counts are thinned. Cells without counts have a p-value of 1 and no novelty.

        Parameters
        ----------
        values
            Linear values over the genes of the encoder, (m, n_genes).
        depths
            Counts of each cell in the ``measured`` genes, (m,).
        """
        distances = self._distances(_lognorm(values, self.measured)[:, self.genes], self.centroids)
        exponents = np.clip(np.log2(np.maximum(depths, 1)), _SHALLOWEST, _DEEPEST)
        pvalues, scores = np.ones(len(distances)), np.zeros(len(distances))
        for depth in range(_SHALLOWEST, _DEEPEST):
            mine = (depths > 0) & (np.minimum(np.floor(exponents), _DEEPEST - 1) == depth)
            if mine.any():
                # Distances change much with the depth: both neighbouring powers of 2 count, the nearer one more.
                weight = exponents[mine] - depth
                pairs = [self._compared(distances[mine], power) for power in (depth, depth + 1)]
                pvalues[mine], scores[mine] = (
                    (1 - weight) * low + weight * high for low, high in zip(*pairs, strict=True)
                )
        return pvalues, scores

    def _compared(self, distances: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Compute p-values and novelty of distances (m,), compared with landmarks of 2**depth counts."""
        background = self.background(depth)
        return conformal_pvalues(background, distances), novelty_scores(background, distances)

    def background(self, depth: int) -> np.ndarray:
        """Sorted distances of landmarks to the nearest mean of the other studies, thinned to 2**depth counts."""
        if depth not in self._backgrounds:
            cells = self.landmarks
            if depth < _DEEPEST:
                cells = cells.thinned(seed=self.seed, depth=2.0**depth, measured=self.measured)
            logged = _lognorm(cells.matrix(len(self.measured)), self.measured)[:, self.genes]
            found = [self._distances(logged[own], centroids) for own, centroids in self.folds]
            self._backgrounds[depth] = np.sort(np.concatenate(found))
        return self._backgrounds[depth]

    @staticmethod
    def _distances(logged: csr_matrix, centroids: np.ndarray) -> np.ndarray:
        """Compute 1 - the largest correlation of each cell with a mean profile, float32 (m,)."""
        # The mean of a row is subtracted from products with centred, unit means without effect: only lengths are left.
        n_genes = logged.shape[1]
        mean = np.asarray(logged.sum(axis=1)).ravel() / n_genes
        squares = np.asarray(logged.multiply(logged).sum(axis=1)).ravel()
        length = np.sqrt(np.maximum(squares - n_genes * mean**2, 0))
        largest = np.asarray(logged @ centroids.T).max(axis=1, initial=-np.inf)
        return np.where(length > 1e-9, 1 - largest / np.maximum(length, 1e-9), 1.0).astype(np.float32)


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


def _lognorm(values: csr_matrix, measured: np.ndarray) -> csr_matrix:
    """Return log1p of 1e4 counts per cell over the measured genes."""
    logged = values.copy()
    logged.data = lognormal(logged.data * measured[logged.indices], logged.indptr)
    return logged


def _unit(profiles: np.ndarray) -> np.ndarray:
    """Centre rows and scale them to length 1; constant rows become 0."""
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
