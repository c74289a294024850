"""Cells unlike anything in a reference: told by their expression, which an embedding trained to see types may drop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..counts import TARGET_SUM, as_counts

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from ._landmarks import Landmarks

#: Most variable genes that profiles are compared in.
_GENES = 1_500
#: A study that expresses fewer genes than this share of what the widest one does measured a panel.
_PANEL = 0.5
#: Fewest cells of a label that its mean profile is taken of.
_FEWEST = 5


@dataclass(frozen=True, eq=False)
class Profiles:
    """Mean expression of each label, and how far cells of other studies are from the nearest.

    Attributes
    ----------
    measured
        Genes that values are normalised over, bool (n_genes,).
    genes
        Genes that are compared, int64 (g,).
    centroids
        Mean profiles of the labels, centred and of length 1, float32 (L, g).
    background
        Sorted distances of landmarks to the nearest mean profile of other studies, float32 (n,).
    """

    measured: np.ndarray
    genes: np.ndarray
    centroids: np.ndarray
    background: np.ndarray

    def distances(self, values: csr_matrix) -> np.ndarray:
        """1 - the largest correlation of each cell with a mean profile, float32 (m,); 1 for a cell without counts.

        Parameters
        ----------
        values
            Counts, or what log1p was taken of, over the encoder's genes, (m, n_genes).
        """
        logged = _lognorm(values, self.measured)[:, self.genes].toarray()
        return (1.0 - (_unit(logged) @ self.centroids.T).max(axis=1, initial=-1.0)).astype(np.float32)

    def pvalues(self, values: csr_matrix) -> np.ndarray:
        """Conformal p-value of each cell's distance, (m,): small is unlike anything; 1 for a cell without counts."""
        distances = self.distances(values)
        larger = len(self.background) - np.searchsorted(self.background, distances, side="left")
        empty = np.asarray(values[:, self.measured].sum(axis=1)).ravel() == 0
        return np.where(empty, 1.0, (1.0 + larger) / (1.0 + len(self.background)))


@dataclass(frozen=True, eq=False)
class ProfileFolds:
    """Landmarks as a query of some genes would have them; what its depth does to them is learned by :meth:`at`.

    Attributes
    ----------
    measured, genes, centroids
        As in :class:`Profiles`.
    matrix
        Landmarks of studies that did not measure a panel, linear values, (n, n_genes).
    folds
        For each of their studies: its landmarks whose label others have, and the mean profiles of the others.
    """

    measured: np.ndarray
    genes: np.ndarray
    centroids: np.ndarray
    matrix: csr_matrix
    folds: list[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, landmarks: Landmarks, codes: np.ndarray, studies: np.ndarray, measured: np.ndarray) -> ProfileFolds:
        """Choose genes, and take the means of landmarks, whose labels and studies are given, (n,) each."""
        matrix = landmarks.matrix(len(measured))
        wide = _wide(matrix, studies, measured)
        codes, studies, matrix = codes[wide], studies[wide], matrix[wide]
        logged = _lognorm(matrix, measured)
        mean = np.asarray(logged.mean(axis=0)).ravel()
        variance = np.asarray(logged.multiply(logged).mean(axis=0)).ravel() - mean**2
        genes = np.sort(np.argsort(-variance, kind="stable")[:_GENES])
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
        """Learn how far landmarks are from the mean profiles of other studies.

        Parameters
        ----------
        depth
            Median counts of the query's cells; landmarks of more are thinned to it, for shallow cells are farther from
            any mean. None: unknown, landmarks stay as they are.
        seed
            Seed of the thinning.

        Returns
        -------
        The profiles; None where there are not two studies that share labels.
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
    """Cells of studies that did not measure a panel only, as far as their expression tells, bool (n,)."""
    names = np.unique(studies)
    expressed = [int((np.asarray((matrix[studies == s][:, measured] > 0).sum(axis=0)) > 0).sum()) for s in names]
    return np.isin(studies, names[np.array(expressed) >= _PANEL * max(expressed, default=0)])


def _centroids(profiles: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels = [label for label in np.unique(codes[codes >= 0]) if (codes == label).sum() >= _FEWEST]
    means = [profiles[codes == label].mean(axis=0) for label in labels]
    return _unit(np.stack(means)) if means else np.empty((0, profiles.shape[1]), np.float32), np.array(labels)


def _thinned(matrix: csr_matrix, measured: np.ndarray, depth: float, seed: int) -> csr_matrix:
    """Draw counts binomially so that cells have ``depth`` of them in the measured genes, if they had more.

    Values that are no counts are taken for such, see :func:`scim.counts._scale.as_counts`.
    """
    counts = matrix.copy()
    counts.data = as_counts(matrix.data, matrix.indptr)
    sums = np.asarray(counts[:, measured].sum(axis=1)).ravel()
    cells = np.repeat(np.arange(len(sums)), np.diff(matrix.indptr))
    share = np.minimum(depth / np.maximum(sums, 1e-12), 1.0)[cells]
    drawn = np.random.default_rng(seed).binomial(counts.data, share)
    counts.data = np.where(share < 1, drawn, matrix.data).astype(np.float32)
    return counts


def _lognorm(values: csr_matrix, measured: np.ndarray) -> csr_matrix:
    """Take log1p of 1e4 a cell over the measured genes."""
    logged = values.copy()
    logged.data = logged.data * measured[logged.indices]
    cells = np.repeat(np.arange(logged.shape[0]), np.diff(logged.indptr))
    sums = np.bincount(cells, weights=logged.data, minlength=logged.shape[0])
    logged.data = np.log1p(logged.data * (TARGET_SUM / np.maximum(sums, 1e-12))[cells]).astype(np.float32)
    return logged


def _unit(profiles: np.ndarray) -> np.ndarray:
    """Rows centred and brought to length 1; what does not vary becomes 0."""
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)
