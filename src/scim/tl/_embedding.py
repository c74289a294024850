"""The embedding of the user's cells: which one, what it was made from, and whether the values here still give it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .. import _keys
from .._warn import warn
from ..counts import Values, find_values
from ..encoder import Encoder
from ..genes import Organism, OrganismChoice
from ..reference import Reference

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

#: Number of cells that are embedded again to test whether the embedding was made from the values at hand.
_RETRIED_CELLS = 50
#: Largest difference between coordinates of two embeddings of the same values.
_EMBEDDING_ROUNDING = 1e-3
#: Smallest cosine of two embeddings of the same values, in any precision.
_SAME_COSINE = 0.99
#: Standard errors by which cells are more similar to their own vector than to those of others, if only genes differ.
_ALIKE_ERRORS = 3.0

#: How vectors agree with values: ``"same"``, up to rounding; ``"alike"``: made with other precision; ``"related"``: of
#: the same cells, with other genes; ``"other"``: of other values; ``"unknown"``: there are no values.
Agreement = Literal["same", "alike", "related", "other", "unknown"]


@dataclass(frozen=True)
class EmbeddedFrom:
    """Values that cells were embedded from, as recorded in ``uns``.

    Attributes
    ----------
    layer
        Layer of the values, ``"X"`` or ``"raw"``.
    gene_column
        Column of ``var`` with the genes. None: ``var_names``, or the column was removed.
    n_matched, n_encoder
        Number of genes that were found, and number of genes of the encoder.
    organism
        Organism of the genes.
    """

    layer: str
    gene_column: str | None
    n_matched: int
    n_encoder: int
    organism: Organism = "human"

    @classmethod
    def of(cls, record: Mapping[str, Any], adata: AnnData) -> EmbeddedFrom | None:
        """Read the record of an embedding. None if there is no record."""
        values, genes = record.get("input"), record.get("genes")
        if not values or not genes or "layer" not in values:
            return None
        column = str(genes["source"]) if genes["source"] in adata.var else None
        organism: Organism = "mouse" if genes.get("organism") == "mouse" else "human"
        return cls(str(values["layer"]), column, int(genes["n_matched"]), int(genes["n_encoder"]), organism)

    def places(self) -> list[tuple[str, str | None]]:
        """List layers and gene columns where the values may be now: X may have been scaled, or genes dropped."""
        others = [layer for layer in ("counts", "raw", "X") if layer != self.layer]
        return [(layer, self.gene_column) for layer in (self.layer, *others)]


def record_of(adata: AnnData, use_rep: str) -> Mapping[str, Any]:
    """Return the record that :func:`scim.tl.embed` wrote for ``obsm[use_rep]``; empty if there is no record."""
    found: Any = adata.uns
    for part in (use_rep.removeprefix("X_"), "embed"):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def recorded_genes(adata: AnnData, use_rep: str, organism: OrganismChoice) -> dict[str, Any]:
    """Return the gene column and organism that ``obsm[use_rep]`` was embedded from; ``organism`` if it is unknown."""
    source = EmbeddedFrom.of(record_of(adata, use_rep), adata)
    if source is None:
        return {"gene_column": None, "organism": organism}
    return {"gene_column": source.gene_column, "organism": source.organism}


def choose_embedding(
    adata: AnnData, reference: Reference, use_rep: str | None, key: str, *, usual_first: bool = False
) -> tuple[str, bool]:
    """Choose the embedding to use, and whether it is to be made.

    The embedding under ``key`` goes before the usual one. If neither was made by the encoder of the reference, one is
    made: under ``key``, so that the usual one stays. What scim did not write is never replaced.

    Parameters
    ----------
    adata
        Cells.
    reference
        Reference whose encoder makes the embedding.
    use_rep
        Name of the embedding in ``obsm``. None chooses one.
    key
        ``key_added`` of the verb.
    usual_first
        Make the usual embedding if it is not there.
    """
    usual, own = _keys.obsm_embedding(), _keys.obsm_embedding(key)
    if use_rep is not None:
        return use_rep, use_rep in (usual, own) and use_rep not in adata.obsm
    for name in (own, usual):
        if name in adata.obsm and _is_of(adata, reference, name):
            return name, False
    if usual_first and usual not in adata.obsm:
        return usual, True
    return own, own not in adata.obsm or "encoder_id" in record_of(adata, own)


def _is_of(adata: AnnData, reference: Reference, name: str) -> bool:
    """Whether an embedding may be of the encoder of the reference: by its record, or by its width without a record."""
    encoder_id = record_of(adata, name).get("encoder_id")
    if encoder_id is not None:
        return str(encoder_id) == reference.encoder_id
    return tuple(np.shape(adata.obsm[name]))[1:] == (reference.n_latent,)


def check_embedding(
    adata: AnnData,
    reference: Reference,
    use_rep: str,
    layer: str | None,
    organism: OrganismChoice,
    source: EmbeddedFrom | None,
) -> np.ndarray:
    """Return the vectors of an embedding, float32 (n_cells, n_latent), if it fits the reference."""
    vectors = np.asarray(adata.obsm[use_rep], dtype=np.float32)
    encoder_id = record_of(adata, use_rep).get("encoder_id")
    remedy = "Leave use_rep= out: the cells are then embedded with the encoder of the reference."
    if encoder_id is not None and str(encoder_id) != reference.encoder_id:
        raise ValueError(
            f"adata.obsm[{use_rep!r}] was made by encoder {encoder_id}, the reference by {reference.encoder_id}. Their "
            f"vectors cannot be compared. {remedy}"
        )
    if vectors.ndim != 2 or vectors.shape[1] != reference.n_latent:
        raise ValueError(
            f"adata.obsm[{use_rep!r}] has the shape {vectors.shape}, but the encoder of the reference makes vectors of "
            f"{reference.n_latent} dimensions. {_remedy(use_rep)}"
        )
    if not np.isfinite(vectors).all():
        raise ValueError(f"adata.obsm[{use_rep!r}] holds NaN or infinite values. {_remedy(use_rep)}")
    if encoder_id is None:
        warn(f"adata.obsm[{use_rep!r}] has no record of its encoder. The encoder of the reference is assumed.")
    elif layer is not None and (source is None or source.layer != layer):
        warn(f"layer={layer!r} is not used, because adata.obsm[{use_rep!r}] exists. {_remedy(use_rep)}")
    elif organism != "auto" and source is not None and source.organism != organism:
        warn(
            f"organism={organism!r} is not used, because adata.obsm[{use_rep!r}] was made from genes of "
            f"{source.organism}. {_remedy(use_rep)}"
        )
    return vectors


def _remedy(use_rep: str) -> str:
    return f"To embed the cells again: del adata.obsm[{use_rep!r}]."


@dataclass(frozen=True, eq=False)
class Origin:
    """Values that an embedding was made from, as far as they are there, and how its vectors agree with them.

    Attributes
    ----------
    values
        The values. None: there are none that can be used.
    agreement
        See :data:`Agreement`.
    """

    values: Values | None
    agreement: Agreement

    @property
    def is_outdated(self) -> bool:
        """Whether the values here give other vectors."""
        return self.agreement == "other"


def origin_of(adata: AnnData, encoder: Encoder, vectors: np.ndarray, source: EmbeddedFrom | None) -> Origin:
    """Find the values that an embedding was made from, and test with a few cells whether they give its vectors.

    Places are tried in the order of the record; of those that do not give the vectors, the one with most genes counts.
    """
    rows = np.unique(np.linspace(0, adata.n_obs - 1, _RETRIED_CELLS).astype(int))
    best: Origin = Origin(None, "unknown")
    places: list[tuple[str | None, str | None]] = [(None, None)]
    organism: OrganismChoice = "auto"
    if source is not None:
        places, organism = [*source.places()], source.organism
    for layer, column in places:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the embedding has already warned of few genes
                values = find_values(adata, encoder.genes, layer=layer, gene_column=column, organism=organism)
            again = encoder(values.linear(rows), kind="counts")
        except (ValueError, KeyError):  # the values were removed or changed
            continue
        found = Origin(values, _agreement(again, vectors[rows]))
        has_genes = source is None or values.genes.n_matched == source.n_matched
        if found.agreement == "related" and source is not None and has_genes:
            found = Origin(values, "other")  # the same genes give the same vectors
        if found.agreement in ("same", "alike") and has_genes:
            return found
        if best.values is None or values.genes.n_matched > best.values.genes.n_matched:
            best = found
    return best


def _agreement(again: np.ndarray, stored: np.ndarray) -> Agreement:
    """Compare vectors of cells that are made again with those that are stored, each (n, d)."""
    if np.abs(again - stored).max(initial=0) < _EMBEDDING_ROUNDING:
        return "same"
    lengths = np.maximum(np.linalg.norm(stored, axis=1), 1e-12)
    cosines = again @ (stored / lengths[:, None]).T
    own, there = np.diag(cosines), again.any(axis=1) & stored.any(axis=1)
    if (again.any(axis=1) == stored.any(axis=1)).all() and (own[there] > _SAME_COSINE).all():
        return "alike"
    cosines, own = cosines[np.ix_(there, there)], own[there]
    if len(own) < 3:
        return "related" if own.mean() > 0.5 else "other"
    others = (cosines.sum(axis=1) - own) / (len(own) - 1)
    gain = own - others
    is_related = gain.mean() > _ALIKE_ERRORS * gain.std(ddof=1) / np.sqrt(len(own))
    return "related" if is_related else "other"


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
