"""Queries of a search: cells, or the pooled counts of groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .._validate import did_you_mean
from ..counts import Values, find_values
from ._groups import read_groups

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    from ..genes import GeneSpace, OrganismChoice


@dataclass(frozen=True, eq=False)
class Queries:
    """Queries of a search.

    Attributes
    ----------
    names
        Name of each query.
    vectors
        Vector of each query, float32 (n_queries, d); 0 for a query without counts.
    members
        Vectors of the cells of each group; empty if the queries are not groups.
    """

    names: list[str]
    vectors: np.ndarray
    members: list[np.ndarray]


def pick_cells(data: AnnData, cells: Any) -> np.ndarray:
    """Return the positions of ``cells``: names, positions, a slice of positions, or a mask.

    Raises
    ------
    KeyError
        A name is not in ``obs_names``.
    ValueError
        A mask has the wrong length, a position is outside the data, or no cell is chosen.
    TypeError
        ``cells`` is neither names, nor positions, nor a mask.
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
        raise ValueError("cells is empty: no cell was chosen. Leave it out to use all cells.")
    if wanted.ndim != 1:
        raise ValueError(f"cells must be one row of names, positions or True and False, got the shape {wanted.shape}.")
    if wanted.dtype == bool:
        if len(wanted) != n:
            raise ValueError(f"cells is a mask of {len(wanted):,} values, but there are {n:,} cells.")
        if not wanted.any():
            raise ValueError("cells is a mask without a True: no cell was chosen. Leave it out to use all cells.")
        return np.flatnonzero(wanted)
    if wanted.dtype.kind in "iu":
        if wanted.min() < 0 or wanted.max() >= n:
            raise ValueError(f"cells holds positions from {wanted.min()} to {wanted.max()}, but must be 0 to {n - 1}.")
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
    organism: OrganismChoice,
    most: int,
) -> tuple[list[str], list[np.ndarray], csr_matrix]:
    """Sum the linear values of each group over the genes of an encoder.

    Only the cells ``rows`` are pooled. Raises ValueError if there are more than ``most`` groups; see also
    :func:`~scim.tl._groups.read_groups`.

    Returns
    -------
    Names of the groups, positions of their cells, and sums, float32 (n_groups, n_genes).
    """
    groups = read_groups(data.obs.iloc[rows], groupby, argument="groupby")
    names, codes = groups.names, groups.codes
    if len(names) > most:
        raise ValueError(
            f"groupby={groupby!r} has {len(names):,} groups, but {most:,} can be searched at this k. Choose a column "
            "of groups, or ask for fewer hits (k=)."
        )
    rows, codes = rows[codes >= 0], codes[codes >= 0]
    values = find_values(data, genes, layer=layer, gene_column=gene_column, organism=organism)
    return names, [rows[codes == i] for i in range(len(names))], _sum_rows(values, rows, codes, len(names))


def _sum_rows(values: Values, rows: np.ndarray, codes: np.ndarray, n_groups: int) -> csr_matrix:
    """Sum the linear values of cells ``rows`` by group, float32 (n_groups, n_genes)."""
    from scipy import sparse

    # Sorted rows are read from a file in its order.
    order = np.argsort(rows, kind="stable")
    rows, codes = rows[order], codes[order]
    total = sparse.csr_matrix((n_groups, len(values.genes.space)), dtype=np.float64)
    for span, block in values.aligned_blocks(rows, linear=True):
        mine = codes[span]
        adder = sparse.csr_matrix(
            (np.ones(len(mine)), (mine, np.arange(len(mine)))), shape=(n_groups, len(mine)), dtype=np.float64
        )
        total = total + adder @ block
    return total.astype(np.float32)
