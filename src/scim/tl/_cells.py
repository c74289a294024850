"""The user's cells: their vectors, the record of the embedding, and the values behind them."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _keys
from .._progress import progress_bar
from .._validate import did_you_mean
from .._warn import warn
from ..counts import as_counts, values_of
from ..encoder import Encoder, embed_with
from ..reference import Reference

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class Embedded:
    """Vectors to work with, float32 (n_cells, d), and what was found out if they were made just now."""

    vectors: np.ndarray
    info: dict[str, Any] | None

    def results(self, use_rep: str, key: str) -> dict[str, dict[str, Any]]:
        """Return what to write with the verb's own results: nothing, if the embedding was there."""
        if self.info is None:
            return {}
        return {"obsm": {use_rep: self.vectors}, "uns": {key: {"embed": self.info}}}


def find_embedding(adata: AnnData, reference: Reference, *, use_rep: str, key: str, layer: str | None) -> Embedded:
    """Embedding in ``obsm[use_rep]``, or one made now.

    Raises
    ------
    KeyError
        There is none, and ``use_rep`` is not the name that scim gives one.
    ValueError
        It was made by another encoder, or is of another width.
    """
    own = use_rep in (_keys.obsm_embedding(), _keys.obsm_embedding(key))
    if use_rep not in adata.obsm:
        if not own:
            raise KeyError(f"use_rep={use_rep!r} is not in adata.obsm. {did_you_mean(use_rep, adata.obsm.keys())}")
        vectors, info = reference.encoder.embed(adata, layer=layer, return_info=True)
        if len(vectors) and not vectors.any():
            warn(f"None of the {len(vectors):,} cells has a count of the encoder's genes.")
        return Embedded(vectors, info)
    vectors = np.asarray(adata.obsm[use_rep], dtype=np.float32)
    made_by = recorded_encoder(adata, use_rep)
    remedy = (
        f"Embed the cells with the reference's: scim.tl.embed(adata, reference), after del adata.obsm[{use_rep!r}]."
    )
    if made_by is not None and made_by != reference.encoder_id:
        raise ValueError(
            f"adata.obsm[{use_rep!r}] was made by encoder {made_by}, the reference by {reference.encoder_id}: their "
            f"spaces have nothing to do with one another. {remedy}"
        )
    if vectors.ndim != 2 or vectors.shape[1] != reference.n_latent:
        raise ValueError(
            f"adata.obsm[{use_rep!r}] has the shape {vectors.shape}, the reference's encoder makes vectors of "
            f"{reference.n_latent}. {remedy}"
        )
    if made_by is None:
        warn(f"adata.obsm[{use_rep!r}] has no record of its encoder; it is taken to be the reference's.")
    elif layer is not None and ((made := Input.of(record_of(adata, use_rep), adata)) is None or made.layer != layer):
        warn(f"layer={layer!r} is not used for the embedding, for adata.obsm[{use_rep!r}] is there already. {remedy}")
    return Embedded(vectors, None)


def resolve_encoder(reference: Reference | str | Path | None, encoder: Encoder | str | Path | None) -> Encoder:
    """Take the encoder that is given, or that of the reference.

    Raises
    ------
    ValueError
        Both are given.
    TypeError
        ``encoder`` is something else.
    """
    if encoder is None:
        return Reference.open(reference).encoder
    if reference is not None:
        raise ValueError("Give a reference or an encoder, not both: a reference has its own encoder.")
    if not isinstance(encoder, Encoder | str | os.PathLike):
        remedy = " Pass it as reference=." if isinstance(encoder, Reference) else ""
        raise TypeError(f"encoder must be a scim.Encoder or the path of one, got {type(encoder).__name__}.{remedy}")
    return encoder if isinstance(encoder, Encoder) else Encoder.load(encoder)


#: Cells that the depth of a query is told from, and cells whose expression is read at a time.
_SAMPLE = 2_000


_CELLS = 10_000


#: Cells that are embedded again to see what made an embedding, and how far numbers of the same are apart at most.
_TRIED = 50


_ROUNDING = 1e-3


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
        Median counts of a cell, as far as its values tell, see :func:`scim.counts._scale.as_counts`.
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
                    read, measured = values_of(reference.encoder.genes, adata, layer=layer, gene_column=column)
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


@dataclass(frozen=True)
class Input:
    """What cells were embedded from, as far as a record tells.

    Attributes
    ----------
    layer
        Where their values were: a layer, ``"X"`` or ``"raw"``.
    gene_column
        Column of ``var`` with their genes; None for its index, or where the column is gone.
    n_matched, n_encoder
        Genes that were found, of those of the encoder.
    """

    layer: str
    gene_column: str | None
    n_matched: int
    n_encoder: int

    @classmethod
    def of(cls, record: Mapping[str, Any], adata: AnnData) -> Input | None:
        """Read the record of an embedding; None where there is none."""
        values, genes = record.get("input"), record.get("genes")
        if not values or not genes:
            return None
        # Records of old have the layer in words only.
        layer = values.get("layer") or re.sub(r"""^layers\[(['"])(.*)\1\]$""", r"\2", str(values["source"]))
        column = str(genes["source"]) if genes["source"] in adata.var else None
        return cls(str(layer), column, int(genes["n_matched"]), int(genes["n_encoder"]))


def recorded_encoder(adata: AnnData, use_rep: str) -> str | None:
    """Id of the encoder that made ``obsm[use_rep]``, if scim wrote it."""
    made_by = record_of(adata, use_rep).get("encoder_id")
    return None if made_by is None else str(made_by)


def recorded_genes(adata: AnnData, use_rep: str) -> str | None:
    """Column of ``var`` that the genes of ``obsm[use_rep]`` were found in; None for ``var_names``, or if unknown."""
    made = Input.of(record_of(adata, use_rep), adata)
    return None if made is None else made.gene_column


def record_of(adata: AnnData, use_rep: str) -> Mapping[str, Any]:
    """Return what :func:`scim.tl.embed` noted of ``obsm[use_rep]``; empty where there is nothing."""
    found: Any = adata.uns
    for part in (use_rep.removeprefix("X_"), "embed"):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}
