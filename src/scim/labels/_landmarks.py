"""Landmarks: labelled cells whose counts a reference keeps, to embed them again with the genes of a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..counts import as_counts, lognormal
from ..encoder import embed_with
from ._balanced import balanced_sample

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from ..encoder import Encoder

#: Largest number of landmarks of a label and study in a segment.
LANDMARKS_PER_GROUP = 300
#: Largest number of landmarks of a segment.
LANDMARKS_PER_SEGMENT = 5_000
#: Landmarks are embedded again if at least this share of their expression lies in genes that a query did not measure.
MISSING_SHARE = 0.02
#: Number of cells whose mean a simulated cell is drawn from.
_POOLED_CELLS = 5
#: Share of the counts that a thinned cell keeps.
_THINNED_SHARE = 0.15
#: Smallest dispersion of a gene: nearly Poisson.
_MIN_DISPERSION = 1e-6
#: Largest dispersion of a gene: few cells of a label may suggest more.
_MAX_DISPERSION = 10.0

#: Whose counts a reference keeps.
LandmarkKind = Literal["cells", "simulated", "none"]


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Labelled cells of a reference with their values.

    Attributes
    ----------
    rows
        Positions of the cells, int64 (n,), ascending.
    indptr, genes, values
        Counts, or linear values of log1p data, as CSR arrays over the genes of the encoder: int64 (n + 1,), int32 and
        float32 (nnz,).
    are_counts
        Whether the values are known to be counts.
    """

    rows: np.ndarray
    indptr: np.ndarray
    genes: np.ndarray
    values: np.ndarray
    are_counts: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, matrix: csr_matrix, rows: np.ndarray) -> Landmarks:
        """Make landmarks of linear values, (n, n_genes)."""
        indptr, genes = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        return cls(rows.astype(np.int64), indptr, genes, matrix.data.astype(np.float32, copy=False))

    @classmethod
    def join(cls, parts: Sequence[Landmarks]) -> Landmarks:
        """Concatenate landmarks."""
        ends = np.cumsum([0, *(part.indptr[-1] for part in parts)])
        indptr = [part.indptr[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
        return cls(
            np.concatenate([part.rows for part in parts]),
            np.concatenate([*indptr, ends[-1:]]).astype(np.int64),
            np.concatenate([part.genes for part in parts]),
            np.concatenate([part.values for part in parts]),
        )

    def take(self, which: np.ndarray) -> Landmarks:
        """Keep the landmarks at some positions, ascending."""
        lengths = np.diff(self.indptr)
        kept = np.zeros(len(self), dtype=bool)
        kept[which] = True
        entries = np.repeat(kept, lengths)
        indptr = np.concatenate([[0], np.cumsum(lengths[kept])])
        return Landmarks(self.rows[kept], indptr, self.genes[entries], self.values[entries], self.are_counts)

    def simulated(self, groups: np.ndarray, n_genes: int, *, seed: int) -> Landmarks:
        """Replace the counts by simulated ones, so that no real cell's counts are stored.

        The new counts of a cell are drawn around the mean of five random cells of its group. Their expected sum is the
        sum of the cell's own counts. The draws are negative binomial, because cells of a group differ more than by
        chance, and the mean of five cells keeps only a fifth of this variance. Poisson draws would be too near to the
        mean of their label, so that real cells would look novel.

        Parameters
        ----------
        groups
            Group of each cell, by label and study, (n,).
        n_genes
            Number of genes of the encoder.
        seed
            Seed of the draws.
        """
        from scipy import sparse

        rng = np.random.default_rng(seed)
        values = replace(self, values=self.counts().astype(np.float32)).matrix(n_genes)
        partners = np.empty((len(self), _POOLED_CELLS), dtype=np.int64)
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            partners[members] = rng.choice(members, (len(members), _POOLED_CELLS))
        own = np.repeat(np.arange(len(self)), _POOLED_CELLS)
        pool = sparse.csr_matrix((np.ones(len(own), dtype=np.float32), (own, partners.ravel())), shape=(len(self),) * 2)
        mean = (pool @ values).tocsr()
        shape = 1 / ((1 - 1 / _POOLED_CELLS) * _dispersion(values, groups))[mean.indices]
        mean.data *= rng.gamma(shape) / shape
        depth = np.asarray(values.sum(axis=1)).ravel() / np.maximum(np.asarray(mean.sum(axis=1)).ravel(), 1e-12)
        mean.data = rng.poisson(mean.data * np.repeat(depth, np.diff(mean.indptr))).astype(np.float32)
        mean.eliminate_zeros()
        mean.sort_indices()
        return Landmarks.of(mean, self.rows)

    def thinned(self, *, seed: int, depth: float | None = None, measured: np.ndarray | None = None) -> Landmarks:
        """Keep some of the counts, as if the cells had been sequenced less deeply.

        An encoder places the cells that it was trained on nearer to their label than new cells, so that a head looks
        better than it is. Thinned cells are hard to recognise.

        Parameters
        ----------
        seed
            Seed of the draws.
        depth
            Cells with more counts are thinned to about so many, and other cells keep their values. None: each count is
            kept with a probability of 0.15.
        measured
            Genes whose counts are the depth, bool (n_genes,). None: all.
        """
        rng, counts = np.random.default_rng(seed), self.counts()
        if depth is None:
            return replace(self, values=rng.binomial(counts, _THINNED_SHARE).astype(np.float32))
        sums = self._sums(counts if measured is None else counts * measured[self.genes])
        share = np.repeat(np.minimum(depth / np.maximum(sums, 1e-12), 1.0), np.diff(self.indptr))
        drawn = np.where(share < 1, rng.binomial(counts, share), self.values)
        return replace(self, values=drawn.astype(np.float32))

    def depths(self, measured: np.ndarray) -> np.ndarray:
        """Sum the counts of each cell over the ``measured`` genes, bool (n_genes,): float64 (n,)."""
        return self._sums(self.counts() * measured[self.genes])

    def _sums(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(np.repeat(np.arange(len(self)), np.diff(self.indptr)), values, len(self))

    def counts(self) -> np.ndarray:
        """Return the values as counts, int64 (nnz,), see :func:`scim.counts._scale.as_counts`."""
        return self.values.astype(np.int64) if self.are_counts else as_counts(self.values, self.indptr)

    def counted(self) -> Landmarks:
        """Replace the values by counts."""
        return replace(self, values=self.counts().astype(np.float32), are_counts=True)

    def matrix(self, n_genes: int) -> csr_matrix:
        """Return the values as a CSR matrix, float32 (n, n_genes)."""
        from scipy import sparse

        return sparse.csr_matrix((self.values, self.genes, self.indptr), shape=(len(self), n_genes))

    def expression(self, n_genes: int) -> np.ndarray:
        """Compute the share of each gene in the log-normalised expression of all cells, float64 (n_genes,)."""
        sums = np.bincount(self.genes, self.logged(), n_genes)
        return sums / max(float(sums.sum()), 1e-12)

    def logged(self) -> np.ndarray:
        """Return the values as log1p of 1e4 counts per cell, float32 (nnz,)."""
        return lognormal(self.values, self.indptr)

    def embed(self, encoder: Encoder, measured: np.ndarray) -> np.ndarray:
        """Embed the landmarks with the ``measured`` genes, bool (n_genes,); unit vectors, float32 (n, d).

        Counts are normalised over these genes, as counts of a query that measured them are.
        """
        return embed_with(encoder, self.matrix(len(encoder.genes)), measured)


@dataclass(frozen=True, eq=False)
class LabelledLandmarks:
    """Landmarks with their labels and studies.

    Attributes
    ----------
    cells
        The landmarks.
    codes
        Label of each landmark, (n,), -1 for no label and for a doubtful one.
    studies
        Study of each landmark, (n,).
    """

    cells: Landmarks
    codes: np.ndarray
    studies: np.ndarray

    def take(self, which: np.ndarray) -> LabelledLandmarks:
        """Keep the landmarks at some positions, ascending."""
        return LabelledLandmarks(self.cells.take(which), self.codes[which], self.studies[which])


def _dispersion(counts: csr_matrix, groups: np.ndarray) -> np.ndarray:
    """Estimate the dispersion of each gene within groups (n,), float64 (n_genes,).

    The dispersion is phi in the variance mu + phi mu^2, by the method of moments over all groups. mu is the share of
    the gene in the counts of the group, times the counts of the cell.
    """
    excess, scale = np.zeros((2, counts.shape[1]))
    for group in np.unique(groups):
        mine = counts[groups == group].astype(np.float64)
        depth = np.asarray(mine.sum(axis=1)).ravel()
        share = mine.T @ np.ones_like(depth) / max(depth.sum(), 1e-12)
        squares = mine.multiply(mine).T @ np.ones_like(depth) - 2 * share * (mine.T @ depth)
        excess += squares + share**2 * (depth**2).sum() - share * depth.sum()
        scale += share**2 * (depth**2).sum()
    return np.clip(excess / np.maximum(scale, 1e-12), _MIN_DISPERSION, _MAX_DISPERSION)


def thinned(landmarks: Landmarks, codes: np.ndarray, studies: np.ndarray) -> Landmarks:
    """Keep as many landmarks as a segment may have, in equal numbers from each label (n,) and study (n,)."""
    return landmarks.take(
        balanced_sample(codes, studies, seed=0, per_group=LANDMARKS_PER_GROUP, most=LANDMARKS_PER_SEGMENT)
    )
