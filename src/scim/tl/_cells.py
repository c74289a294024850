"""Cells of the user: vectors, record of the embedding, and expression."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from scipy import sparse

from .. import _keys
from .._progress import progress_bar
from .._validate import check_option, did_you_mean
from .._warn import warn
from ..counts import Values, as_counts, find_values
from ..encoder import Encoder, embed_values, embed_with
from ..genes import OrganismChoice
from ..reference import Reference
from ._embedding import EmbeddedFrom, Origin, check_embedding, choose_embedding, origin_of, record_of

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

#: Number of cells from which the sum of each gene's counts is estimated.
_SUMMED_CELLS = 2_000
#: Number of cells whose expression is read at a time.
_BLOCK_CELLS = 10_000


@dataclass(frozen=True, eq=False)
class NewCells:
    """Cells of the user, embedded with the encoder of a reference.

    Attributes
    ----------
    adata
        The cells.
    reference
        Reference whose encoder made the vectors.
    use_rep
        Name of the embedding in ``obsm``.
    vectors
        Vectors of the cells, float32 (n_cells, n_latent).
    info
        Record of the embedding if it was made now. None: the embedding was there.
    source
        Record of the values that the cells were embedded from. None: unknown.
    origin
        Values that the cells were embedded from, and whether they still give the vectors.
    """

    adata: AnnData
    reference: Reference
    use_rep: str
    vectors: np.ndarray
    info: dict[str, Any] | None
    source: EmbeddedFrom | None
    origin: Origin

    @classmethod
    def read(
        cls,
        adata: AnnData,
        reference: Reference,
        *,
        use_rep: str | None,
        key: str,
        layer: str | None,
        organism: OrganismChoice = "auto",
        usual_first: bool = False,
    ) -> NewCells:
        """Read the embedding ``obsm[use_rep]``, or embed the cells: if it is not there, or if the values changed.

        Without ``use_rep``, the embedding is chosen, see :func:`~scim.tl._embedding.choose_embedding`.

        Raises
        ------
        KeyError
            The embedding is not there, and ``use_rep`` is not a name that scim writes.
        ValueError
            The embedding was made by another encoder, or has another width; ``organism`` is not known.
        """
        check_option(organism, get_args(OrganismChoice), argument="organism")
        name, is_made = choose_embedding(adata, reference, use_rep, key, usual_first=usual_first)
        if is_made:
            return cls._embedded(adata, reference, name, layer=layer, organism=organism)
        if name not in adata.obsm:
            raise KeyError(f"use_rep={name!r} is not in adata.obsm. {did_you_mean(name, adata.obsm.keys())}")
        source = EmbeddedFrom.of(record_of(adata, name), adata)
        vectors = check_embedding(adata, reference, name, layer, organism, source)
        origin = origin_of(adata, reference.encoder, vectors, source)
        if not origin.is_outdated:
            return cls(adata, reference, name, vectors, None, source, origin)
        seen = f"adata.obsm[{name!r}] was made from other values than adata holds now"
        if name not in (_keys.obsm_embedding(), _keys.obsm_embedding(key)):
            warn(f"{seen}. Its labels and hits are those of the other values. Leave use_rep= out to embed the cells.")
            return cls(adata, reference, name, vectors, None, source, origin)
        warn(f"{seen}: the cells are embedded again.")
        if layer is None and source is not None and origin.values is not None:
            layer = origin.values.place
        return cls._embedded(adata, reference, name, layer=layer, organism=organism)

    @classmethod
    def _embedded(
        cls, adata: AnnData, reference: Reference, name: str, *, layer: str | None, organism: OrganismChoice
    ) -> NewCells:
        """Embed the cells."""
        encoder = reference.encoder
        values = find_values(adata, encoder.genes, layer=layer, gene_column=None, organism=organism)
        vectors, info = embed_values(encoder, values)
        if len(vectors) and not vectors.any():
            warn(f"None of the {len(vectors):,} cells has counts in the genes of the encoder.")
        source = EmbeddedFrom.of(info, adata)
        return cls(adata, reference, name, vectors, info, source, Origin(values, "same"))

    def results(self) -> dict[str, dict[str, Any]]:
        """Return the embedding to write; nothing if it was there."""
        if self.info is None:
            return {}
        return {"obsm": {self.use_rep: self.vectors}, "uns": {self.use_rep.removeprefix("X_"): {"embed": self.info}}}

    @cached_property
    def expression(self) -> Expression | None:
        """Values that the cells were embedded from. None if they are gone, or if the reference has no landmarks."""
        return Expression.of(self)

    @cached_property
    def measured(self) -> np.ndarray | None:
        """Genes of the encoder that the cells were embedded with, bool (n_genes,). None: all, or unknown.

        Genes that are missing by chance count as measured, see :meth:`Expression.of`. If there is no record of the
        embedding, as after ``anndata.concat``, the values at hand are used if they give the same vectors.
        """
        adata, encoder, source = self.adata, self.reference.encoder, self.source
        if self.reference.landmarks is None:
            return None
        if source is None:
            return self.expression.measured if self.expression and self.origin.agreement == "same" else None
        if source.n_matched == source.n_encoder:
            return None
        # If genes were dropped after the embedding, its genes are unknown.
        if self.expression is not None:
            return self.expression.measured if self.expression.n_matched == source.n_matched else None
        if source.layer == "raw" and adata.raw is None:
            return None
        try:
            where: dict[str, Any] = {"gene_column": source.gene_column, "organism": source.organism}
            gene_map = encoder.genes.match_adata(adata, use_raw=source.layer == "raw", **where)
        except ValueError:  # the genes are gone, and only the embedding is left
            return None
        return np.asarray(gene_map.measured) if gene_map.n_matched == source.n_matched else None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Depth of n cells, and how their expression compares with the labels of a reference.

    Attributes
    ----------
    depths
        Counts of each cell in the genes that it was embedded with, float64 (n,).
    pvalues, novelty
        See :meth:`scim.labels.Profiles.compare`, (n,). None if no two studies of the reference share labels.
    similarity
        Correlation of each cell with the mean of each label, float32 (n, n_labels); nan for a label without a mean.
    filtered
        Whether cells are compared only with a part of the reference.
    """

    depths: np.ndarray
    pvalues: np.ndarray | None
    novelty: np.ndarray | None
    similarity: np.ndarray | None
    filtered: bool


@dataclass(frozen=True, eq=False)
class Expression:
    """Values of cells over the genes of an encoder, on the linear scale.

    Attributes
    ----------
    values
        Values that the cells were embedded from.
    n_cells
        Number of cells.
    measured
        Genes that have values, or are missing by chance, bool (n_genes,).
    """

    values: Values
    n_cells: int
    measured: np.ndarray

    @property
    def n_matched(self) -> int:
        """Number of genes that have values."""
        return self.values.genes.n_matched

    @classmethod
    def of(cls, cells: NewCells) -> Expression | None:
        """Find the values that cells were embedded from. None if they are gone, or without landmarks.

        Data of few cells often lack genes of which few cells have a count. Such a gene counts as measured if the
        landmarks that are most similar to the cells predict only a few counts.
        """
        adata, reference, values = cells.adata, cells.reference, cells.origin.values
        if reference.landmarks is None or not adata.n_obs or values is None:
            return None
        rows = np.unique(np.linspace(0, adata.n_obs - 1, _SUMMED_CELLS).astype(int))
        try:
            sample = values.linear(rows)
        except ValueError:  # values of a few cells cannot be used
            return None
        sample.data = as_counts(sample.data, sample.indptr)
        total = np.asarray(sample.sum(axis=0)).ravel() * (adata.n_obs / len(rows))
        measured = values.genes.measured | reference.label_model.unseen_genes(values.genes.measured, total)
        return cls(values, adata.n_obs, measured)

    def blocks(self, desc: str) -> Iterator[csr_matrix]:
        """Yield the values of all cells, block by block, with a progress bar."""
        with progress_bar(self.n_cells, desc=desc) as bar:
            for start in range(0, self.n_cells, _BLOCK_CELLS):
                rows = np.arange(start, min(start + _BLOCK_CELLS, self.n_cells))
                yield self.values.linear(rows)
                bar.update(len(rows))

    def compare(self, reference: Reference, within: np.ndarray | None = None) -> Comparison:
        """Count each cell, and compare its expression with the labels of a reference.

        Parameters
        ----------
        reference
            Reference to compare with.
        within
            Cells of the reference to compare with, bool (n_rows,). None: all. All cells are also used if ``within``
            does not contain two studies that share labels.
        """
        model = reference.label_model
        narrow = None if within is None else model.profiles(self.measured, within=within)
        profiles = model.profiles(self.measured) if narrow is None else narrow
        depths, found = [], []
        for block in self.blocks("Comparing expression"):
            counts = sparse.csr_matrix((as_counts(block.data, block.indptr), block.indices, block.indptr), block.shape)
            depths.append(counts @ self.measured.astype(np.float64))
            if profiles is not None:
                found.append(profiles.compare(block, depths[-1]))
        if profiles is None:
            return Comparison(np.concatenate(depths), None, None, None, False)
        pvalues, novelty, similarity = (np.concatenate(part) for part in zip(*found, strict=True))
        by_label = profiles.by_label(similarity, len(reference.terms.labels))
        return Comparison(np.concatenate(depths), pvalues, novelty, by_label, narrow is not None)

    def embed(self, encoder: Encoder, genes: np.ndarray) -> np.ndarray:
        """Embed the cells with ``genes``, bool (n_genes,); unit vectors, float32 (n_cells, n_latent)."""
        blocks = self.blocks("Embedding with the genes of a panel")
        return np.concatenate([embed_with(encoder, block, genes) for block in blocks])
