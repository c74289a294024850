"""The record of an embedding: which values cells were embedded from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..genes import Organism, OrganismChoice

if TYPE_CHECKING:
    from anndata import AnnData


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
