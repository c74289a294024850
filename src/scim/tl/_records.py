"""What :func:`scim.tl.embed` noted beside an embedding: by which encoder, and from what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData


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
