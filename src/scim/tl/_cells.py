"""Cells of the user: vectors, record of the embedding, and expression."""

from __future__ import annotations

import os
import warnings
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
from ..encoder import Encoder, embed_with
from ..genes import OrganismChoice
from ..reference import Reference
from ._record import EmbeddedFrom, record_of

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from scipy.sparse import csr_matrix

#: Number of cells from which the sum of each gene's counts is estimated.
_SUMMED_CELLS = 2_000
#: Number of cells whose expression is read at a time.
_BLOCK_CELLS = 10_000
#: Number of cells that are embedded again to test whether the embedding was made from the values at hand.
_RETRIED_CELLS = 50
#: Largest difference between coordinates of two embeddings of the same values.
_EMBEDDING_ROUNDING = 1e-3


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
        Values that the cells were embedded from. None: unknown.
    """

    adata: AnnData
    reference: Reference
    use_rep: str
    vectors: np.ndarray
    info: dict[str, Any] | None
    source: EmbeddedFrom | None

    @classmethod
    def read(
        cls,
        adata: AnnData,
        reference: Reference,
        *,
        use_rep: str,
        key: str,
        layer: str | None,
        organism: OrganismChoice = "auto",
    ) -> NewCells:
        """Read the embedding ``obsm[use_rep]``, or embed the cells if it is not there.

        If scim made the embedding with the encoder of another reference, the cells are embedded again, with the name
        that belongs to ``key``.

        Raises
        ------
        KeyError
            The embedding is not there, and ``use_rep`` is not a name that scim writes.
        ValueError
            Another encoder made the embedding, and the values are gone, or ``use_rep`` is not a name that scim writes;
            the embedding has another width; ``organism`` is not known.
        """
        check_option(organism, get_args(OrganismChoice), argument="organism")
        own = (_keys.obsm_embedding(), _keys.obsm_embedding(key))
        if use_rep in own and _is_of_another(adata, use_rep, reference):
            use_rep = own[1]
            if use_rep not in adata.obsm or _is_of_another(adata, use_rep, reference):
                return cls._embedded(adata, reference, use_rep, layer, organism)
        if use_rep in adata.obsm:
            record = record_of(adata, use_rep)
            source = EmbeddedFrom.of(record, adata)
            vectors = _check_embedding(adata, reference, use_rep, record.get("encoder_id"), layer, organism, source)
            return cls(adata, reference, use_rep, vectors, None, source)
        if use_rep not in own:
            raise KeyError(f"use_rep={use_rep!r} is not in adata.obsm. {did_you_mean(use_rep, adata.obsm.keys())}")
        return cls._embedded(adata, reference, use_rep, layer, organism)

    @classmethod
    def _embedded(
        cls, adata: AnnData, reference: Reference, use_rep: str, layer: str | None, organism: OrganismChoice
    ) -> NewCells:
        """Embed the cells."""
        try:
            vectors, info = reference.encoder.embed(adata, layer=layer, organism=organism, return_info=True)
        except ValueError as error:
            if use_rep in adata.obsm:
                # Say which encoder made the embedding that is there, and why the cells cannot be embedded again.
                made_by = record_of(adata, use_rep).get("encoder_id")
                raise ValueError(
                    f"adata.obsm[{use_rep!r}] was made by encoder {made_by}, the reference by "
                    f"{reference.encoder_id}, and the cells cannot be embedded again: {error}"
                ) from error
            raise
        if len(vectors) and not vectors.any():
            warn(f"None of the {len(vectors):,} cells has counts in the genes of the encoder.")
        return cls(adata, reference, use_rep, vectors, info, EmbeddedFrom.of(info, adata))

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
            return self.expression.measured if self.expression and self._gives_the_vectors() else None
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

    def _gives_the_vectors(self) -> bool:
        """Test with a sample of the cells whether the values at hand give the vectors."""
        rows = np.unique(np.linspace(0, self.adata.n_obs - 1, _RETRIED_CELLS).astype(int))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the embedding has already warned of few genes
            try:
                again = self.reference.encoder.embed(self.adata[rows])
            except ValueError:  # the kind of the values is not clear from so few cells
                return False
        return bool(np.abs(again - self.vectors[rows]).max() < _EMBEDDING_ROUNDING)


def _is_of_another(adata: AnnData, use_rep: str, reference: Reference) -> bool:
    """Whether the record of an embedding names another encoder than that of a reference."""
    made_by = record_of(adata, use_rep).get("encoder_id") if use_rep in adata.obsm else None
    return made_by is not None and str(made_by) != reference.encoder_id


def _check_embedding(
    adata: AnnData,
    reference: Reference,
    use_rep: str,
    encoder_id: Any,
    layer: str | None,
    organism: OrganismChoice,
    source: EmbeddedFrom | None,
) -> np.ndarray:
    """Return the vectors of an embedding, float32 (n_cells, n_latent), if it fits the reference."""
    vectors = np.asarray(adata.obsm[use_rep], dtype=np.float32)
    remedy = f"Embed the cells with the reference: del adata.obsm[{use_rep!r}], then scim.tl.embed(adata, reference)."
    if encoder_id is not None and str(encoder_id) != reference.encoder_id:
        raise ValueError(
            f"adata.obsm[{use_rep!r}] was made by encoder {encoder_id}, the reference by {reference.encoder_id}. Their "
            f"vectors cannot be compared. {remedy}"
        )
    if vectors.ndim != 2 or vectors.shape[1] != reference.n_latent:
        raise ValueError(
            f"adata.obsm[{use_rep!r}] has the shape {vectors.shape}, but the encoder of the reference makes vectors of "
            f"{reference.n_latent} dimensions. {remedy}"
        )
    if encoder_id is None:
        warn(f"adata.obsm[{use_rep!r}] has no record of its encoder. The encoder of the reference is assumed.")
    elif layer is not None and (source is None or source.layer != layer):
        warn(f"layer={layer!r} is not used, because adata.obsm[{use_rep!r}] exists. {remedy}")
    elif organism != "auto" and source is not None and source.organism != organism:
        warn(
            f"organism={organism!r} is not used, because adata.obsm[{use_rep!r}] was made from genes of "
            f"{source.organism}. {remedy}"
        )
    return vectors


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
        adata, reference = cells.adata, cells.reference
        if reference.landmarks is None or not adata.n_obs:
            return None
        rows = np.unique(np.linspace(0, adata.n_obs - 1, _SUMMED_CELLS).astype(int))
        found = _find_values(cells, rows)
        if found is None:
            return None
        values, sample = found
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


def _find_values(cells: NewCells, rows: np.ndarray) -> tuple[Values, csr_matrix] | None:
    """Find the values with most genes of the embedding, and read the values of the cells ``rows``."""
    best: tuple[Values, csr_matrix] | None = None
    places: list[tuple[str | None, str | None]] = [(None, None)]
    organism: OrganismChoice = "auto"
    if cells.source is not None:
        places, organism = [*cells.source.places()], cells.source.organism
    for layer, column in places:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the embedding has already warned of few genes
                genes = cells.reference.encoder.genes
                values = find_values(cells.adata, genes, layer=layer, gene_column=column, organism=organism)
            found = values, values.linear(rows)
        except (ValueError, KeyError):  # the values were removed or changed
            continue
        if best is None or values.genes.n_matched > best[0].genes.n_matched:
            best = found
        if cells.source is not None and values.genes.n_matched == cells.source.n_matched:
            break
    return best


def resolve_encoder(reference: Reference | str | Path | None, encoder: Encoder | str | Path | None) -> Encoder:
    """Return the given encoder, or the encoder of the reference; raise if both are given."""
    if encoder is None:
        return Reference.open(reference).encoder
    if reference is not None:
        raise ValueError("Give a reference or an encoder, not both: a reference has its own encoder.")
    if not isinstance(encoder, Encoder | str | os.PathLike):
        remedy = " Pass it as reference=." if isinstance(encoder, Reference) else ""
        raise TypeError(f"encoder must be a scim.Encoder or the path of one, got {type(encoder).__name__}.{remedy}")
    return encoder if isinstance(encoder, Encoder) else Encoder.load(encoder)
