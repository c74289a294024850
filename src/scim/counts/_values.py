"""Which values of an AnnData are embedded: those with counts, or logarithms of them, of the most genes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..genes._space import GeneMap, GeneSpace
from ._kinds import WIDER, InputKind, find_counts, input_kind

if TYPE_CHECKING:
    from anndata import AnnData


def find_values(
    data: AnnData, genes: GeneSpace, *, layer: str | None, gene_column: str | None
) -> tuple[str, Any, InputKind, GeneMap]:
    """Find the values and the genes of the data, and refuse what cannot be embedded.

    Parameters
    ----------
    data
        Cells.
    genes
        Those of the encoder.
    layer
        As :func:`scim.counts._kinds.find_counts` has it. None takes ``raw`` in the place of X, too, where that has more of
        the genes.
    gene_column
        Column of ``var`` with gene names; None finds them.

    Returns
    -------
    The place, as ``layer`` has it; the matrix; what it holds; and where its genes are in the encoder.

    Raises
    ------
    ValueError, KeyError
        Those of :func:`scim.counts._kinds.find_counts` and :meth:`scim.genes.GeneSpace.match_adata`; too few genes.
    """
    place, X, kind, use_raw = find_counts(data, layer=layer)
    gene_map = _match(data, genes, gene_column, use_raw=use_raw)
    if layer is None and not use_raw and data.raw is not None and data.raw.n_vars > data.n_vars:
        wider = _in_raw(data, genes, gene_column)
        if wider is not None and wider[3].n_matched > WIDER * gene_map.n_matched:
            place, X, kind, gene_map = wider
    gene_map.check()
    return place, X, kind, gene_map


def _in_raw(data: AnnData, genes: GeneSpace, gene_column: str | None) -> tuple[str, Any, InputKind, GeneMap] | None:
    try:
        kind = input_kind(data.raw.X, where="raw")
        return "raw", data.raw.X, kind, _match(data, genes, gene_column, use_raw=True)
    except (ValueError, KeyError):  # values, or names, of another kind
        return None


def _match(data: AnnData, genes: GeneSpace, gene_column: str | None, *, use_raw: bool) -> GeneMap:
    # Names that X has in a column may be the index of raw.
    if use_raw and gene_column in data.var and gene_column not in data.raw.var:
        gene_column = None
    return genes.match_adata(data, gene_column=gene_column, use_raw=use_raw)
