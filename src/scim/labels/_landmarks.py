"""Landmarks: labelled cells whose counts a reference keeps, to embed them anew with the genes that a query measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..counts import TARGET_SUM, as_counts
from ..encoder import embed_with
from ._balanced import balanced_sample

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from ..encoder import Encoder

#: Landmarks of a label and study, and of a segment, at most.
PER_GROUP = 300
MOST = 5_000
#: Share of the landmarks' expression that may lie in genes that a query did not measure, before they are embedded anew.
ENOUGH = 0.02
LandmarkKind = Literal["cells", "simulated", "none"]
#: Cells that a simulated one is drawn from; share of the counts that a thinned one keeps.
_POOLED = 5
_KEPT = 0.15
#: The least and the largest dispersion of a gene: next to none, and what few cells of a label may seem to have.
_DISPERSIONS = 1e-6, 10.0


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Some labelled cells of a reference with their values.

    Attributes
    ----------
    rows
        Positions of the cells, int64 (n,), ascending.
    indptr, genes, values
        Counts, or what log1p was taken of, in the order of the encoder's genes: int64 (n + 1,), int32 and float32
        (nnz,).
    """

    rows: np.ndarray
    indptr: np.ndarray
    genes: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, matrix: csr_matrix, rows: np.ndarray) -> Landmarks:
        """Make landmarks of linear values, (n, n_genes)."""
        indptr, genes = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        return cls(rows.astype(np.int64), indptr, genes, matrix.data.astype(np.float32, copy=False))

    @classmethod
    def join(cls, parts: Sequence[Landmarks]) -> Landmarks:
        """Put landmarks one behind the other."""
        ends = np.cumsum([0, *(part.indptr[-1] for part in parts)])
        indptr = [part.indptr[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
        return cls(
            np.concatenate([part.rows for part in parts]),
            np.concatenate([*indptr, ends[-1:]]).astype(np.int64),
            np.concatenate([part.genes for part in parts]),
            np.concatenate([part.values for part in parts]),
        )

    def take(self, which: np.ndarray) -> Landmarks:
        """Keep some of them, by position, ascending."""
        lengths = np.diff(self.indptr)
        kept = np.zeros(len(self), dtype=bool)
        kept[which] = True
        entries = np.repeat(kept, lengths)
        indptr = np.concatenate([[0], np.cumsum(lengths[kept])])
        return Landmarks(self.rows[kept], indptr, self.genes[entries], self.values[entries])

    def simulated(self, groups: np.ndarray, n_genes: int, *, seed: int) -> Landmarks:
        """Draw counts in the place of the cells' own, so that nobody's are kept.

        The counts of a cell become draws around the mean of five cells of its group, with as many counts in all as it
        had. They are negative binomial: cells of a group differ by more than chance, and of that, a mean of five has a
        fifth left. Poisson draws would lie nearer to the mean of their label than cells do, and make these look novel.

        Parameters
        ----------
        groups
            Group of each cell, its label and study, (n,).
        n_genes
            Genes of the encoder.
        seed
            Seed of the draws.
        """
        from scipy import sparse

        rng = np.random.default_rng(seed)
        values = replace(self, values=self.counts().astype(np.float32)).matrix(n_genes)
        partners = np.empty((len(self), _POOLED), dtype=np.int64)
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            partners[members] = rng.choice(members, (len(members), _POOLED))
        own = np.repeat(np.arange(len(self)), _POOLED)
        pool = sparse.csr_matrix((np.ones(len(own), dtype=np.float32), (own, partners.ravel())), shape=(len(self),) * 2)
        mean = (pool @ values).tocsr()
        shape = 1 / ((1 - 1 / _POOLED) * _dispersion(values, groups))[mean.indices]
        mean.data *= rng.gamma(shape) / shape
        depth = np.asarray(values.sum(axis=1)).ravel() / np.maximum(np.asarray(mean.sum(axis=1)).ravel(), 1e-12)
        mean.data = rng.poisson(mean.data * np.repeat(depth, np.diff(mean.indptr))).astype(np.float32)
        mean.eliminate_zeros()
        mean.sort_indices()
        return Landmarks.of(mean, self.rows)

    def thinned(self, *, seed: int) -> Landmarks:
        """Keep each count with a probability of 0.15, as if the cells had been sequenced less deeply.

        A cell that an encoder was trained on lies nearer to its label than one that it was not trained on, and would
        make a head look better than it is. Thinned, it has lost most of what it was known by.

        Parameters
        ----------
        seed
            Seed of the draws.
        """
        drawn = np.random.default_rng(seed).binomial(self.counts(), _KEPT).astype(np.float32)
        return Landmarks(self.rows, self.indptr, self.genes, drawn)

    def counts(self) -> np.ndarray:
        """Values as counts, int64 (nnz,), see :func:`scim.counts._scale.as_counts`."""
        return as_counts(self.values, self.indptr)

    def matrix(self, n_genes: int) -> csr_matrix:
        """Values as a float32 CSR matrix (n, n_genes)."""
        from scipy import sparse

        return sparse.csr_matrix((self.values, self.genes, self.indptr), shape=(len(self), n_genes))

    def missing(self, measured: np.ndarray) -> float:
        """Say what share of the expression, as log1p of 1e4, lies in genes that are not ``measured`` (n_genes,)."""
        logged = self.logged()
        return float(logged[~measured[self.genes]].sum() / max(float(logged.sum()), 1e-12))

    def logged(self) -> np.ndarray:
        """Values as log1p of 1e4 a cell, float32 (nnz,)."""
        return np.log1p(self.values * self._scale(self.values))

    def embed(self, encoder: Encoder, measured: np.ndarray) -> np.ndarray:
        """Embed the landmarks as if they had been measured like a query, normalised over the genes that it has.

        Parameters
        ----------
        encoder
            The reference's.
        measured
            Genes of the encoder that the query has, bool (n_genes,).

        Returns
        -------
        Unit vectors, float32 (n, d).
        """
        return embed_with(encoder, self.matrix(len(encoder.genes)), measured)

    def _scale(self, values: np.ndarray) -> np.ndarray:
        """Give what brings each value's cell to 1e4, (nnz,)."""
        cells = np.repeat(np.arange(len(self)), np.diff(self.indptr))
        sums = np.bincount(cells, weights=values, minlength=len(self))
        return (TARGET_SUM / np.maximum(sums, 1e-12)).astype(np.float32)[cells]


def _dispersion(counts: csr_matrix, groups: np.ndarray) -> np.ndarray:
    """How much more cells of a group (n,) differ in each gene than by chance, float64 (n_genes,).

    The phi of a variance mu + phi mu^2, by the method of moments over all groups; mu is the gene's share of the counts
    of the group, times those of the cell.
    """
    excess, scale = np.zeros((2, counts.shape[1]))
    for group in np.unique(groups):
        mine = counts[groups == group].astype(np.float64)
        depth = np.asarray(mine.sum(axis=1)).ravel()
        share = mine.T @ np.ones_like(depth) / max(depth.sum(), 1e-12)
        squares = mine.multiply(mine).T @ np.ones_like(depth) - 2 * share * (mine.T @ depth)
        excess += squares + share**2 * (depth**2).sum() - share * depth.sum()
        scale += share**2 * (depth**2).sum()
    return np.clip(excess / np.maximum(scale, 1e-12), *_DISPERSIONS)


def thinned(landmarks: Landmarks, codes: np.ndarray, studies: np.ndarray) -> Landmarks:
    """Keep as many as a segment does, as many of each label (n,) and study (n,)."""
    return landmarks.take(balanced_sample(codes, studies, seed=0, per_group=PER_GROUP, most=MOST))
