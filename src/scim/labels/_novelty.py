"""Compare the expression of cells with the mean of each label: which labels they resemble, and whether any.

An embedding that is trained to separate cell types may lose the differences of other cells, and knows little of a cell
type that few studies have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..counts import gene_moments, lognormal
from ._background import conformal_pvalues, novelty_scores
from ._balanced import balanced_sample

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
    """Mean expression of each label, in the genes of a query: how similar cells are, and how far from all labels.

    The mean of a label is the mean over its studies, so that each study counts the same.

    Attributes
    ----------
    measured
        Genes that values are normalised over, bool (n_genes,).
    genes
        Genes in which profiles are compared, int64 (g,).
    means, labels, studies
        Mean of each label in each study, float32 (p, g), and its label and study codes, (p,).
    centroids, codes
        Means of the labels, centred and of length 1, float32 (k, g), and their label codes, (k,) ascending.
    landmarks, landmark_studies
        Landmarks whose distances are the background, none of a study that measured a panel, and their studies, (n,).
    seed
        Seed of thinned landmarks.
    """

    measured: np.ndarray
    genes: np.ndarray
    means: np.ndarray
    labels: np.ndarray
    studies: np.ndarray
    centroids: np.ndarray
    codes: np.ndarray
    landmarks: Landmarks
    landmark_studies: np.ndarray
    seed: int
    _backgrounds: dict[float, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(
        cls, landmarks: Landmarks, codes: np.ndarray, studies: np.ndarray, measured: np.ndarray, *, seed: int
    ) -> Profiles | None:
        """Choose genes, and average landmarks by label (n,) and study (n,).

        Returns None if no two studies share labels.
        """
        matrix = landmarks.matrix(len(measured))
        wide = np.flatnonzero(_wide(matrix, studies, measured))
        codes, studies, matrix = codes[wide], studies[wide], matrix[wide]
        logged = _lognorm(matrix, measured)
        genes = np.sort(np.argsort(-gene_moments(logged)[1], kind="stable")[:_VARIABLE_GENES])
        means, of_label, of_study = _means(logged[:, genes], codes, studies)
        # The background needs fewer cells than the means.
        some = balanced_sample(codes, studies, seed=seed, most=_BACKGROUND_CELLS)
        # A landmark is compared with labels that another study has.
        n_studies = np.bincount(of_label, minlength=int(codes.max(initial=0)) + 1)
        some = some[n_studies[codes[some]] > 1]
        if not len(some):
            return None
        found = _centroids(means, of_label)
        kept = landmarks.take(wide[some]).counted()
        return cls(measured, genes, means, of_label, of_study, *found, kept, studies[some], seed)

    def compare(self, values: csr_matrix, depths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Compute p-values of novelty, and novelty (:func:`novelty_scores`), each (m,), and similarity (m, k).

        Cells with few counts are far from every mean. So each cell is compared with landmarks of about as many counts:
        landmarks with more counts are thinned. Cells without counts have a p-value of 1 and no novelty.

        Parameters
        ----------
        values
            Linear values over the genes of the encoder, (m, n_genes).
        depths
            Counts of each cell in the ``measured`` genes, (m,).

        Returns
        -------
        P-values, novelty, and the correlation of each cell with the mean of each label of ``codes``, float32.
        """
        similarity = _correlations(_lognorm(values, self.measured)[:, self.genes], self.centroids)
        distances = 1 - similarity.max(axis=1)
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
        return pvalues, scores, similarity

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
            found = self.left_out(cells, self.landmark_studies)
            self._backgrounds[depth] = np.sort(1 - np.nanmax(found, axis=1))
        return self._backgrounds[depth]

    def left_out(self, cells: Landmarks, studies: np.ndarray) -> np.ndarray:
        """Correlate landmarks with the means of labels in studies other than their own (n,), float32 (n, k).

        nan for a label that no other study has.
        """
        logged = _lognorm(cells.matrix(len(self.measured)), self.measured)[:, self.genes]
        place = np.searchsorted(self.codes, self.labels)
        n_studies = np.bincount(place, minlength=len(self.codes))
        out = np.empty((len(cells), len(self.codes)), dtype=np.float32)
        for study in np.unique(studies):
            mine, own = np.flatnonzero(studies == study), self.studies == study
            centroids = self.centroids.copy()
            # Only means of labels that the study has are different without it.
            changed, left = place[own], n_studies[place[own]] - 1
            shared = np.isin(self.labels, self.labels[own]) & ~own
            kept = changed[left > 0]
            centroids[kept] = _centroids(self.means[shared], self.labels[shared])[0] if len(kept) else 0
            out[mine] = _correlations(logged[mine], centroids)
            out[np.ix_(mine, changed[left == 0])] = np.nan
        return out

    def by_label(self, similarity: np.ndarray, n_labels: int) -> np.ndarray:
        """Spread similarity (m, k) over all labels, float32 (m, n_labels); nan for a label without a mean."""
        out = np.full((len(similarity), n_labels), np.nan, dtype=np.float32)
        out[:, self.codes] = similarity
        return out


def _correlations(logged: csr_matrix, centroids: np.ndarray) -> np.ndarray:
    """Correlate each cell with each mean, float32 (m, k); 0 for a cell without values."""
    # The mean of a row is subtracted from products with centred, unit means without effect: only lengths are left.
    n_genes = logged.shape[1]
    mean = np.asarray(logged.sum(axis=1)).ravel() / n_genes
    squares = np.asarray(logged.multiply(logged).sum(axis=1)).ravel()
    length = np.sqrt(np.maximum(squares - n_genes * mean**2, 0))
    products = np.asarray(logged @ centroids.T)
    return np.where(length[:, None] > 1e-9, products / np.maximum(length, 1e-9)[:, None], 0).astype(np.float32)


def _wide(matrix: csr_matrix, studies: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Find cells of studies that did not measure a panel, judged by the genes that they express, bool (n,)."""
    names = np.unique(studies)
    expressed = [int((np.asarray((matrix[studies == s][:, measured] > 0).sum(axis=0)) > 0).sum()) for s in names]
    return np.isin(studies, names[np.array(expressed) >= _PANEL_SHARE * max(expressed, default=0)])


def _means(logged: csr_matrix, codes: np.ndarray, studies: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average the cells of each label and study, float32 (p, g); return label and study codes, too, (p,).

    Labels of fewer than five cells have no mean.
    """
    from scipy import sparse

    enough = np.bincount(codes[codes >= 0], minlength=1) >= _MIN_CELLS_PER_LABEL
    used = np.flatnonzero((codes >= 0) & np.append(enough, False)[codes])
    groups, own, sizes = np.unique(
        np.stack([codes[used], studies[used]]), axis=1, return_inverse=True, return_counts=True
    )
    weights = 1 / sizes[own.ravel()]
    sums = sparse.csr_matrix((weights, (own.ravel(), used)), shape=(len(sizes), logged.shape[0]))
    return np.asarray((sums @ logged).toarray(), dtype=np.float32), groups[0], groups[1]


def _centroids(means: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average the means (p, g) of each label (p,) over its studies; return unit vectors (k, g), and labels (k,)."""
    from scipy import sparse

    codes, own, n_studies = np.unique(labels, return_inverse=True, return_counts=True)
    weights = (1 / n_studies)[own.ravel()].astype(np.float32)
    average = sparse.csr_matrix((weights, (own.ravel(), np.arange(len(labels)))), shape=(len(codes), len(labels)))
    return _unit(np.asarray(average @ means)), codes


def _lognorm(values: csr_matrix, measured: np.ndarray) -> csr_matrix:
    """Return log1p of 1e4 counts per cell over the measured genes."""
    logged = values.copy()
    logged.data = lognormal(logged.data * measured[logged.indices], logged.indptr)
    return logged


def _unit(profiles: np.ndarray) -> np.ndarray:
    """Centre rows and scale them to length 1; constant rows become 0."""
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
