"""Which values of an AnnData are embedded: those with counts, or logarithms of them, of the most genes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import did_you_mean
from ..genes import GeneMap, GeneSpace
from ._blocks import iter_blocks
from ._kinds import _REMEDY, InputKind, input_kind

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix


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
        As in :func:`scim.counts._values.find_counts`. None takes ``raw`` in the place of X, too, where that has more of
        the genes.
    gene_column
        Column of ``var`` with gene names; None finds them.

    Returns
    -------
    The place, as ``layer`` has it; the matrix; what it holds; and where its genes are in the encoder.

    Raises
    ------
    ValueError, KeyError
        Those of :func:`scim.counts._values.find_counts` and :meth:`scim.genes.GeneSpace.match_adata`; too few genes.
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


#: Times as many genes as X has say that X was cut to variable genes, and ``raw`` was not.
WIDER = 1.1


def place_name(layer: str) -> str:
    """Words for a place of values.

    Examples
    --------
    >>> place_name("X"), place_name("counts")
    ('X', "layers['counts']")
    """
    return layer if layer in ("X", "raw") else f"layers[{layer!r}]"


def find_counts(adata: AnnData, *, layer: str | None = None) -> tuple[str, Any, InputKind, bool]:
    """Find the matrix of ``adata`` to work on.

    Parameters
    ----------
    adata
        Data of any shape.
    layer
        A layer, ``"X"`` or ``"raw"``: that one only. None looks for counts in X and ``layers["counts"]``, then for
        log1p values in X, then in ``raw``.

    Returns
    -------
    The place, as ``layer`` has it; the matrix; what it holds; and whether its columns are those of ``adata.raw``.

    Raises
    ------
    KeyError
        There is no such layer.
    ValueError
        No place holds counts or log1p values; the message says what each holds.
    """
    places = _places(adata)
    if layer is not None:
        if layer not in places:
            layers = [name for name in adata.layers if name is not None]
            raise KeyError(f"layer={layer!r} is not there. {did_you_mean(layer, dict.fromkeys([*places, *layers]))}")
        return layer, places[layer], input_kind(places[layer], where=place_name(layer)), layer == "raw"
    found: tuple[str, Any, InputKind, bool] | None = None
    problems = []
    for key in ("X", "counts", "raw"):
        if key not in places:
            continue
        try:
            kind = input_kind(places[key], where=place_name(key))
        except ValueError as error:
            problems.append(str(error).removesuffix(_REMEDY).strip())
            continue
        if kind.kind == "counts" and key != "raw":
            return key, places[key], kind, False
        found = found or (key, places[key], kind, key == "raw")
    if found is None:
        raise ValueError(" ".join([*(problems or ["adata has no X."]), _REMEDY]))
    return found


def _places(adata: AnnData) -> dict[str, Any]:
    # anndata >= 0.13 has a None key in `layers`.
    places = {str(name): adata.layers[name] for name in adata.layers if name is not None}
    if adata.X is not None:
        places["X"] = adata.X
    if adata.raw is not None:
        places["raw"] = adata.raw.X
    return places


def values_of(
    genes: GeneSpace, adata: AnnData, *, layer: str | None = None, gene_column: str | None = None
) -> tuple[Callable[[np.ndarray], csr_matrix], np.ndarray]:
    """Find the values of cells over some genes: counts, or what log1p was taken of.

    Parameters
    ----------
    genes
        Those of the encoder.
    adata, layer, gene_column
        As in :meth:`scim.Encoder.embed`, whose errors are raised.

    Returns
    -------
    A function that reads some cells, whose positions ascend: float32 CSR matrix (n, n_genes); and the genes that were
    found, bool (n_genes,).
    """
    from scipy import sparse

    _, X, kind, gene_map = find_values(adata, genes, layer=layer, gene_column=gene_column)
    logged = kind.kind == "log1p"

    def read(rows: np.ndarray) -> csr_matrix:
        blocks = [gene_map.align(block, logged=logged) for _, block in iter_blocks(X, rows=rows)]
        nothing = sparse.csr_matrix((0, len(genes)), dtype=np.float32)
        matrix = sparse.vstack(blocks, format="csr") if blocks else nothing
        if logged:
            matrix.data = np.expm1(matrix.data)
        return matrix

    return read, np.asarray(gene_map.measured)
