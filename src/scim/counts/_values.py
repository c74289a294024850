"""Find the values of an AnnData that scim works on, what they are, and which gene each column is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import did_you_mean
from .._warn import warn
from ..genes import GeneMap, GeneSpace, OrganismChoice, gene_rows
from ._blocks import BLOCK_ROWS, by_rows, iter_blocks
from ._kinds import NOTHING, REMEDY, InputKind, input_kind

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

#: ``raw`` is preferred to X if it has more than this many times the genes of X: X was cut to variable genes.
WIDER = 1.1
#: Number of cells from which the share of expression in mapped genes is estimated.
_SAMPLED_CELLS = 500
#: Warn if less than this share of the expression is in genes with a human orthologue. Data of all genes of mouse have
#: 90 % or more.
_LOW_SHARE_MAPPED = 0.75


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix of an AnnData with counts or log1p values.

    Attributes
    ----------
    place
        Where it is: the name of a layer, ``"X"`` or ``"raw"``.
    X
        The matrix, (n_cells, n_columns).
    kind
        What its values are.
    use_raw
        Whether its columns are those of ``adata.raw``.
    by_columns
        Whether it is stored by columns. ``X`` is the matrix by rows, converted once.
    """

    place: str
    X: Any
    kind: InputKind
    use_raw: bool
    by_columns: bool = False


@dataclass(frozen=True, eq=False)
class Values:
    """A matrix with counts or log1p values, and the gene of each column.

    Attributes
    ----------
    place
        Where the matrix is: the name of a layer, ``"X"`` or ``"raw"``.
    X
        The matrix, (n_cells, n_columns).
    kind
        What its values are.
    genes
        Position of each column's gene in a gene space.
    obs
        Table of the cells, to name studies in messages.
    by_columns
        Whether the matrix is stored by columns. ``X`` is the matrix by rows.
    """

    place: str
    X: Any
    kind: InputKind
    genes: GeneMap
    obs: pd.DataFrame | None = None
    by_columns: bool = False

    @cached_property
    def share_mapped(self) -> float:
        """Share of the expression that is in genes with a human orthologue, 0 to 1; 1 if no gene had to be mapped.

        log1p values are undone. In large data, it is the share of 500 cells.
        """
        from scipy import sparse

        if self.genes.mapped is None:
            return 1.0
        rows = np.unique(np.linspace(0, self.X.shape[0] - 1, _SAMPLED_CELLS).astype(int))
        total = np.zeros(len(self.genes.mapped))
        for _, block in self.blocks(rows):
            cells = sparse.csr_matrix(block).astype(np.float64)
            cells.data[~(np.isfinite(cells.data) & (cells.data > 0))] = 0
            if self.kind.kind == "log1p":
                np.expm1(cells.data, out=cells.data)
            total += np.asarray(cells.sum(axis=0)).ravel()
        return float(total[self.genes.mapped].sum() / max(total.sum(), np.finfo(float).tiny))

    def blocks(
        self, rows: slice | np.ndarray | None = None, *, chunk_size: int = BLOCK_ROWS
    ) -> Iterator[tuple[slice, Any]]:
        """Yield blocks of the matrix, see :func:`scim.counts._blocks.iter_blocks`; logarithms are natural ones."""
        for span, block in iter_blocks(self.X, rows=rows, chunk_size=chunk_size):
            yield span, block if self.kind.base is None else block * np.float32(self.kind.unit)

    def aligned_blocks(
        self, rows: slice | np.ndarray | None = None, *, linear: bool = False
    ) -> Iterator[tuple[slice, csr_matrix]]:
        """Yield blocks over the genes of the space, float32 CSR; log1p values are undone if ``linear``."""
        logged = self.kind.kind == "log1p"
        for span, block in self.blocks(rows):
            aligned = self.genes.align(block, logged=logged)
            if linear and logged:
                np.expm1(aligned.data, out=aligned.data)
            yield span, aligned

    def aligned(self, rows: slice | np.ndarray | None = None) -> csr_matrix:
        """Return values as they are over the genes of the space: float32 CSR (n, n_genes)."""
        return self._stacked(self.aligned_blocks(rows))

    def linear(self, rows: slice | np.ndarray | None = None) -> csr_matrix:
        """Return counts, or what log1p was taken of, over the genes of the space: float32 CSR (n, n_genes)."""
        return self._stacked(self.aligned_blocks(rows, linear=True))

    def _stacked(self, blocks: Iterator[tuple[slice, csr_matrix]]) -> csr_matrix:
        from scipy import sparse

        parts = [part for _, part in blocks]
        return sparse.vstack(parts or [sparse.csr_matrix((0, len(self.genes.space)), dtype=np.float32)], format="csr")


def find_values(
    data: AnnData,
    genes: GeneSpace,
    *,
    layer: str | None,
    gene_column: str | None,
    organism: OrganismChoice = "auto",
) -> Values:
    """Find the values of the data and their genes. Raise if an encoder of these genes cannot embed them.

    Parameters
    ----------
    data
        Cells.
    genes
        Genes of the encoder.
    layer
        As in :func:`scim.counts._values.find_counts`. None takes ``raw`` instead of X if it has more of the genes.
    gene_column
        Column of ``var`` with gene names; None finds them.
    organism
        Organism of the genes, as in :meth:`scim.genes.GeneSpace.match`.

    Raises
    ------
    ValueError, KeyError
        As in :func:`scim.counts._values.find_counts` and :meth:`scim.genes.GeneSpace.match_adata`; or the data have too
        few of the genes.
    """
    found = find_counts(data, layer=layer)
    values = _with_genes(data, found, genes, gene_column, organism)
    if layer is None and not found.use_raw and data.raw is not None and data.raw.n_vars > data.n_vars:
        try:
            raw = _matrix(data, "raw", data.raw.X)
            wider = _with_genes(data, raw, genes, gene_column, organism)
        except (ValueError, KeyError):  # raw has values or gene names of another kind
            wider = values
        if wider.genes.n_matched > WIDER * values.genes.n_matched and wider.kind.detail != NOTHING:
            values = wider
    values.genes.check()
    check_mapped(values)
    return values


def check_mapped(values: Values, *, where: str = "") -> None:
    """Warn if little of the expression is in genes with a human orthologue. ``where`` begins the message."""
    if values.share_mapped < _LOW_SHARE_MAPPED:
        warn(
            f"{where}Only {values.share_mapped:.0%} of the expression is in genes of mouse with a human orthologue, "
            f"less than the {_LOW_SHARE_MAPPED:.0%} that reliable results need. Give symbols or Ensembl ids of mouse, "
            "of all genes that were measured."
        )


def _with_genes(
    data: AnnData, found: Matrix, genes: GeneSpace, gene_column: str | None, organism: OrganismChoice
) -> Values:
    # Gene names in a column of var may be the index of raw.var.
    if found.use_raw and gene_column in data.var and gene_column not in data.raw.var:
        gene_column = None
    gene_map = genes.match_adata(data, gene_column=gene_column, use_raw=found.use_raw, organism=organism)
    return Values(found.place, found.X, found.kind, gene_map, data.obs, found.by_columns)


def organism_facts(values: Values) -> dict[str, Any]:
    """Describe the organism of the genes, and how much was mapped to human genes, as plain values."""
    genes = values.genes
    if genes.mapped is None:
        return {"organism": genes.organism}
    return {
        "organism": genes.organism,
        "n_columns": len(genes.mapped),
        "n_mapped": int(genes.mapped.sum()),
        "share_mapped": float(genes.mapped.mean()),
        "share_expression_mapped": values.share_mapped,
    }


def place_name(layer: str) -> str:
    """Name the place of a matrix in words.

    Examples
    --------
    >>> place_name("X"), place_name("counts")
    ('X', "layers['counts']")
    """
    return layer if layer in ("X", "raw") else f"layers[{layer!r}]"


def find_counts(adata: AnnData, *, layer: str | None = None) -> Matrix:
    """Find the matrix of ``adata`` that holds counts or log1p values.

    Parameters
    ----------
    adata
        Data of any shape.
    layer
        The layer to take, or ``"X"`` or ``"raw"``. None takes counts in X or ``layers["counts"]``, or else log1p values
        in X, or else ``raw``, or else the only other layer with counts. A place without a value above zero is taken if
        no other place has any.

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
        return _matrix(adata, layer, places[layer])
    found: Matrix | None = None
    empty: Matrix | None = None
    problems = []
    for key in ("X", "counts", "raw"):
        if key not in places:
            continue
        try:
            here = _matrix(adata, key, places[key])
        except ValueError as error:
            problems.append(str(error).removesuffix(REMEDY).strip())
            continue
        if here.kind.detail == NOTHING:
            empty = empty or here
        elif here.kind.kind == "counts" and key != "raw":
            return here
        else:
            found = found or here
    if found is None:
        found = _in_another_layer(adata, places, problems) or empty
    if found is None:
        raise ValueError(" ".join([*(problems or ["adata has no X."]), REMEDY]))
    return found


def _matrix(adata: AnnData, place: str, X: Any) -> Matrix:
    """Recognise the values of a place. Raises ValueError if they are neither counts nor log1p values."""
    use_raw = place == "raw"
    columns, _ = gene_rows(adata.raw.var if use_raw else adata.var)
    record = adata.uns.get("log1p")
    base = record.get("base") if isinstance(record, Mapping) else None
    by_columns = getattr(X, "format", None) == "csc"
    X = by_rows(X)
    kind = input_kind(X, where=place_name(place), base=base, columns=columns, obs=adata.obs)
    return Matrix(place, X, kind, use_raw, by_columns)


def _in_another_layer(adata: AnnData, places: Mapping[str, Any], problems: list[str]) -> Matrix | None:
    """Find the only other layer with counts, and say that it is taken. ``problems`` gets the names of several."""
    found = []
    for name in places:
        if name not in ("X", "counts", "raw"):
            with suppress(ValueError, TypeError):
                here = _matrix(adata, name, places[name])
                if here.kind.kind == "counts" and here.kind.detail != NOTHING:
                    found.append(here)
    if len(found) > 1:
        names = ", ".join(place_name(here.place) for here in found)
        problems.append(f"{names} hold counts: name one of them.")
    if len(found) != 1:
        return None
    warn(
        f"The counts in {place_name(found[0].place)} are taken, because no usual place (X, layers['counts'], raw) has "
        f"any. Name another place with layer= if this is not meant."
    )
    return found[0]


def _places(adata: AnnData) -> dict[str, Any]:
    # anndata >= 0.13 has a None key in `layers`.
    places = {str(name): adata.layers[name] for name in adata.layers if name is not None}
    if adata.X is not None:
        places["X"] = adata.X
    if adata.raw is not None:
        places["raw"] = adata.raw.X
    return places
