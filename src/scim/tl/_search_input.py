"""What is searched for: cells, or the pooled counts of groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .._validate import did_you_mean
from ..counts import BLOCK_ROWS, find_values, iter_blocks
from ._groups import read_groups

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    from ..genes import GeneSpace


@dataclass(frozen=True, eq=False)
class Queries:
    """What is searched for.

    Attributes
    ----------
    names
        Name of each query.
    vectors
        float32 (n_queries, d); 0 for one without counts.
    members
        Vectors of each group's cells; empty where queries are no groups.
    """

    names: list[str]
    vectors: np.ndarray
    members: list[np.ndarray]


def pick_cells(data: AnnData, cells: Any) -> np.ndarray:
    """Positions of the cells that ``cells`` means: names, positions, a slice of these, or a mask.

    Raises
    ------
    KeyError
        A name is not in ``obs_names``.
    ValueError
        A mask has the wrong length, a position is outside the data, or no cell is chosen.
    TypeError
        It is none of the three.
    """
    n = data.n_obs
    if cells is None:
        return np.arange(n)
    if isinstance(cells, slice):
        cells = np.arange(n)[cells]
    if isinstance(cells, pd.Series) and cells.dtype == bool:
        if not (cells.index.is_unique and data.obs_names.is_unique and cells.index.isin(data.obs_names).all()):
            raise ValueError("cells is a mask whose index is not that of adata.obs. Pass its values: cells.to_numpy().")
        cells = cells.reindex(data.obs_names, fill_value=False).to_numpy()
    wanted = np.atleast_1d(np.asarray(cells))
    if wanted.size == 0:
        raise ValueError("cells is empty: no cell was chosen. Leave it out to take all.")
    if wanted.ndim != 1:
        raise ValueError(f"cells must be one row of names, positions or True and False, got the shape {wanted.shape}.")
    if wanted.dtype == bool:
        if len(wanted) != n:
            raise ValueError(f"cells is a mask of {len(wanted):,} values, but there are {n:,} cells.")
        if not wanted.any():
            raise ValueError("cells is a mask without a True: no cell was chosen.")
        return np.flatnonzero(wanted)
    if wanted.dtype.kind in "iu":
        if wanted.min() < 0 or wanted.max() >= n:
            raise ValueError(f"cells holds positions from {wanted.min()} to {wanted.max()}; they go from 0 to {n - 1}.")
        return wanted.astype(np.int64)
    if wanted.dtype.kind not in "OUT":
        raise TypeError(f"cells must be names, positions or True and False, got {wanted.dtype}.")
    if not data.obs_names.is_unique:
        raise ValueError("cells names cells, but obs_names are not unique. Run adata.obs_names_make_unique() first.")
    found = data.obs_names.get_indexer(pd.Index(wanted.astype(str)))
    if (found < 0).any():
        name = str(wanted[found < 0][0])
        raise KeyError(
            f"cells: {name!r} is not in adata.obs_names. {did_you_mean(name, data.obs_names[:2000], limit=5)}"
        )
    return found.astype(np.int64)


def pool_groups(
    data: AnnData,
    genes: GeneSpace,
    groupby: str,
    rows: np.ndarray,
    *,
    layer: str | None,
    gene_column: str | None,
    most: int,
) -> tuple[list[str], list[np.ndarray], csr_matrix]:
    """Sum the counts of each group over the genes of an encoder.

    Parameters
    ----------
    data
        The cells.
    genes
        Genes of the encoder.
    groupby
        Column of ``obs``.
    rows
        Positions of the cells that are pooled.
    layer
        Where the values are.
    gene_column
        Column of ``var`` with the genes; None finds them.
    most
        Largest number of groups.

    Returns
    -------
    Names of the groups, positions of their cells, and float32 (n_groups, n_genes). log1p values are summed on the
    linear scale.

    Raises
    ------
    KeyError, ValueError
        See :func:`~scim.tl._groups.read_groups`; or there are too many groups.
    """
    groups = read_groups(data.obs.iloc[rows], groupby, argument="groupby")
    names, codes = groups.names, groups.codes
    if len(names) > most:
        raise ValueError(
            f"groupby={groupby!r} has {len(names):,} groups, {most:,} can be searched at this k. Is it a column of "
            "numbers? Choose one of groups, or ask for fewer hits (k=)."
        )
    rows, codes = rows[codes >= 0], codes[codes >= 0]
    pooled = _sum_rows(data, genes, rows, codes, len(names), layer=layer, gene_column=gene_column)
    return names, [rows[codes == i] for i in range(len(names))], pooled


def _sum_rows(
    data: AnnData,
    genes: GeneSpace,
    rows: np.ndarray,
    codes: np.ndarray,
    n_groups: int,
    *,
    layer: str | None,
    gene_column: str | None,
) -> csr_matrix:
    from scipy import sparse

    _, X, kind, gene_map = find_values(data, genes, layer=layer, gene_column=gene_column)
    # Sorted, so that a file is read from front to back.
    order = np.argsort(rows, kind="stable")
    rows, codes = rows[order], codes[order]
    total = sparse.csr_matrix((n_groups, len(genes)), dtype=np.float64)
    for span, block in iter_blocks(X, chunk_size=BLOCK_ROWS, rows=rows):
        aligned = gene_map.align(block, logged=kind.kind == "log1p")
        if kind.kind == "log1p":
            np.expm1(aligned.data, out=aligned.data)
        mine = codes[span]
        adder = sparse.csr_matrix(
            (np.ones(len(mine)), (mine, np.arange(len(mine)))), shape=(n_groups, len(mine)), dtype=np.float64
        )
        total = total + adder @ aligned
    return total.astype(np.float32)
