"""Expression of cells that are embedded already: what novelty is told by, and what fewer genes are embedded from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .._progress import progress_bar
from ..counts._kinds import as_counts
from ..encoder import Encoder
from ..labels._landmarks import embed_with, values_of
from ..reference import Reference
from ._records import Input, record_of
from ._results import Embedded

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

#: Cells that the depth of a query is told from, and cells whose expression is read at a time.
_SAMPLE, _CELLS = 2_000, 10_000
#: Cells that are embedded again to see what made an embedding, and how far numbers of the same are apart at most.
_TRIED, _ROUNDING = 50, 1e-3


def measured_genes(
    adata: AnnData, reference: Reference, embedded: Embedded, expression: Expression | None, *, use_rep: str
) -> np.ndarray | None:
    """Genes of the encoder that cells were embedded with, bool (n_genes,); None where all, unknown, or of no use.

    Genes that are not there for too few of the cells had them count as measured, see :meth:`Expression.of`. Where no
    record tells what the cells were embedded from, as after ``anndata.concat``, it is the values that are here if these
    give the same vectors.
    """
    if reference.landmarks is None:
        return None
    made = Input.of(embedded.info or record_of(adata, use_rep), adata)
    if made is None:
        return expression.measured if expression and _makes(adata, reference.encoder, embedded.vectors) else None
    if made.n_matched == made.n_encoder:
        return None
    # Genes that were dropped since then say nothing of the embedding.
    if expression is not None:
        return expression.measured if expression.n_matched == made.n_matched else None
    if made.layer == "raw" and adata.raw is None:  # which genes it had is not known any more
        return None
    gene_map = reference.encoder.genes.match_adata(adata, gene_column=made.gene_column, use_raw=made.layer == "raw")
    return np.asarray(gene_map.measured) if gene_map.n_matched == made.n_matched else None


def _makes(adata: AnnData, encoder: Encoder, vectors: np.ndarray) -> bool:
    """Whether the values that are here give the cells' vectors (n_cells, d), told by some of the cells."""
    some = np.unique(np.linspace(0, adata.n_obs - 1, _TRIED).astype(int))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few genes was warned when they were embedded
        try:
            again = encoder.embed(adata[some])
        except ValueError:  # too few to tell what the values are
            return False
    return bool(np.abs(again - vectors[some]).max() < _ROUNDING)


@dataclass(frozen=True, eq=False)
class Expression:
    """Values of cells over the genes of an encoder: counts, or what log1p was taken of.

    Attributes
    ----------
    read
        Gives those of some cells, whose positions ascend, float32 CSR (n, n_genes).
    measured
        Genes that there are values of, or whose values would be next to nothing, bool (n_genes,).
    n_matched
        Genes that there are values of.
    n_cells
        Cells in all.
    depth
        Median counts of a cell, as far as its values tell, see :func:`scim.counts._kinds.as_counts`.
    """

    read: Callable[[np.ndarray], csr_matrix]
    measured: np.ndarray
    n_matched: int
    n_cells: int
    depth: float

    @classmethod
    def of(cls, adata: AnnData, reference: Reference, embedded: Embedded, *, use_rep: str) -> Expression | None:
        """Find what the cells were embedded from; None where that, or landmarks to compare it with, are not there.

        Genes without a count, or seen in a few cells only, are often left out of a small query. Such a gene is no
        less measured than the others: by the landmarks that the query looks like, it would have had a few counts.
        """
        if reference.landmarks is None or not adata.n_obs:
            return None
        made = Input.of(embedded.info or record_of(adata, use_rep), adata)
        sampled = np.unique(np.linspace(0, adata.n_obs - 1, _SAMPLE).astype(int))
        best: tuple[Callable[[np.ndarray], csr_matrix], np.ndarray, csr_matrix] | None = None
        for layer, column in _places(made):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # of few genes was warned when they were embedded
                    read, measured = values_of(reference.encoder, adata, layer=layer, gene_column=column)
                found = read, measured, read(sampled)
            except (ValueError, KeyError):  # what the embedding was made of is not here any more
                continue
            if best is None or measured.sum() > best[1].sum():
                best = found
            if made is None or measured.sum() == made.n_matched:
                break
        if best is None:
            return None
        read, measured, sample = best
        sample.data = as_counts(sample.data, sample.indptr)
        total = np.asarray(sample.sum(axis=0)).ravel() * (adata.n_obs / len(sampled))
        n_matched = int(measured.sum())
        measured = measured | reference.unseen_genes(measured, total)
        depth = float(np.median(np.asarray(sample[:, measured].sum(axis=1))))
        return cls(read, measured, n_matched, adata.n_obs, depth)

    def blocks(self, desc: str) -> Iterator[csr_matrix]:
        """Yield the values of all cells, some at a time, beside a progress bar."""
        with progress_bar(self.n_cells, desc=desc) as bar:
            for start in range(0, self.n_cells, _CELLS):
                rows = np.arange(start, min(start + _CELLS, self.n_cells))
                yield self.read(rows)
                bar.update(len(rows))

    def novelty(self, reference: Reference, within: np.ndarray | None = None) -> tuple[np.ndarray, bool] | None:
        """P-values of novelty by expression, (n_cells,); None where the landmarks have no two studies to compare.

        Compared are those of the reference's cells that ``within`` says, bool (n_rows,), where these are of two studies
        that share labels, which is told; else all.
        """
        narrow = None if within is None else reference.profiles(self.measured, depth=self.depth, within=within)
        profiles = reference.profiles(self.measured, depth=self.depth) if narrow is None else narrow
        if profiles is None:
            return None
        found = [profiles.pvalues(block) for block in self.blocks("Comparing expression")]
        return np.concatenate(found), narrow is not None

    def embed(self, encoder: Encoder, genes: np.ndarray) -> np.ndarray:
        """Embed the cells with some of their genes, bool (n_genes,) -> unit vectors, float32 (n_cells, d)."""
        blocks = self.blocks("Embedding with the genes of all labels")
        return np.concatenate([embed_with(encoder, block, genes) for block in blocks])


def _places(made: Input | None) -> list[tuple[str | None, str | None]]:
    """Where values and genes may be: where they were, or kept aside while X was scaled or genes were dropped."""
    if made is None:  # where they would be to embed the cells
        return [(None, None)]
    aside = [layer for layer in ("counts", "raw", "X") if layer != made.layer]
    return [(made.layer, made.gene_column), *((layer, made.gene_column) for layer in aside)]
