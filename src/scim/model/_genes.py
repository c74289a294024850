"""Which genes a model takes, and which study measured them."""

from __future__ import annotations

from math import ceil
from typing import Any

import anndata
import numpy as np
import pandas as pd

from .. import _keys
from .._warn import warn
from ..counts import iter_blocks, n_rows
from ..genes import GeneMap, GeneSpace

#: Cells among which those that express a gene are counted.
_MAX_COUNTED = 50_000


#: From this many genes on, a study measured more than a panel; with fewer in common, all genes are taken.
_WHOLE = 5_000


def _expressed(X: Any, genes: GeneSpace, names: list[str], min_cells: int) -> GeneSpace:
    """Genes that at least ``min_cells`` cells express."""
    gene_map = genes.match(names)
    n_cells = n_rows(X)
    rows = None if n_cells <= _MAX_COUNTED else np.unique(np.linspace(0, n_cells - 1, _MAX_COUNTED).astype(int))
    expressing = np.zeros(len(genes), dtype=np.int64)
    for _, block in iter_blocks(X, rows=rows):
        aligned = gene_map.align(block)
        expressing += np.bincount(aligned.indices[aligned.data > 0], minlength=len(genes))
    kept = expressing >= min(min_cells, n_cells)
    if kept.sum() < 2:
        raise ValueError(
            f"{kept.sum()} of {len(genes)} genes are expressed by {min_cells} cells or more: there is nothing to learn "
            "from. Check the values, or lower min_cells."
        )
    return genes if kept.all() else GeneSpace(list(genes.names[kept]), id_kind=genes.id_kind)


def _shared(
    adata: anndata.AnnData, genes: GeneSpace, names: list[str], studies: list[str], min_studies: int | None
) -> GeneSpace:
    """Genes that at least ``min_studies`` studies measured, where the data say so.

    By default three quarters of those that measured more than a panel; all genes where that would leave too few.
    """
    measured = _measured(adata, genes, genes.match(names), studies, quiet=True)
    if measured is None:
        return genes
    if min_studies is None:
        whole = measured[measured.sum(axis=1) >= _WHOLE]
        kept = whole.sum(axis=0) >= ceil(0.75 * len(whole))
        if kept.all() or kept.sum() < _WHOLE:
            return genes
    else:
        kept = measured.sum(axis=0) >= min(min_studies, len(studies))
        if kept.sum() < 2:
            raise ValueError(f"{min_studies} studies measured {kept.sum()} genes in common. Lower min_studies.")
    return GeneSpace(list(genes.names[kept]), id_kind=genes.id_kind)


def _measured(
    adata: anndata.AnnData, genes: GeneSpace, gene_map: GeneMap, studies: list[str], *, quiet: bool = False
) -> np.ndarray | None:
    """Genes that each study measured, bool (n_studies, n_genes); None where all did all, or nothing is known of it."""
    if _keys.MEASURED not in adata.varm:
        return None
    table = pd.DataFrame(adata.varm[_keys.MEASURED])
    table.columns = [str(column) for column in table.columns]
    if absent := [study for study in studies if study not in table.columns]:
        if not quiet:
            warn(
                f"adata.varm[{_keys.MEASURED!r}] does not say which genes {', '.join(map(repr, absent[:5]))} measured, "
                "so missing genes are taken for zeros. Use the study_key of scim.pp.merge_studies as batch_key."
            )
        return None
    by_column = table[studies].to_numpy(dtype=bool).T
    measured = np.zeros((len(studies), len(genes)), dtype=bool)
    known = gene_map.target >= 0
    np.logical_or.at(measured.T, gene_map.target[known], by_column.T[known])
    return None if measured.all() else measured
