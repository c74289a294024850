"""Genes of a model, and the studies that measured them."""

from __future__ import annotations

from math import ceil
from typing import Any

import anndata
import numpy as np
import pandas as pd

from .. import _keys
from .._warn import warn
from ..counts import iter_blocks
from ..genes import GeneMap, GeneSpace

#: Most cells among which those that express a gene are counted.
_MAX_COUNTED_CELLS = 50_000
#: A study that measured fewer genes used a panel. If studies share fewer genes than this, the model takes all genes.
_MIN_WHOLE_GENES = 5_000


def _expressed(X: Any, genes: GeneSpace, names: list[str], min_cells: int) -> GeneSpace:
    """Genes that ``min_cells`` cells or more express."""
    gene_map = genes.match(names)
    n_cells = int(X.shape[0])
    rows = None
    if n_cells > _MAX_COUNTED_CELLS:
        rows = np.unique(np.linspace(0, n_cells - 1, _MAX_COUNTED_CELLS).astype(int))
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
    """Genes that ``min_studies`` studies or more measured, if the data say which genes a study measured.

    By default, three quarters of the studies that measured more than a panel; all genes if too few would be left.
    """
    measured = _measured(adata, genes, genes.match(names), studies, quiet=True)
    if measured is None:
        return genes
    if min_studies is None:
        whole = measured[measured.sum(axis=1) >= _MIN_WHOLE_GENES]
        kept = whole.sum(axis=0) >= ceil(0.75 * len(whole))
        if kept.all() or kept.sum() < _MIN_WHOLE_GENES:
            return genes
    else:
        kept = measured.sum(axis=0) >= min(min_studies, len(studies))
        if kept.sum() < 2:
            raise ValueError(f"{min_studies} studies measured {kept.sum()} genes in common. Lower min_studies.")
    return GeneSpace(list(genes.names[kept]), id_kind=genes.id_kind)


def _measured(
    adata: anndata.AnnData, genes: GeneSpace, gene_map: GeneMap, studies: list[str], *, quiet: bool = False
) -> np.ndarray | None:
    """Genes that each study measured, bool (n_studies, n_genes); None if each measured all, or if it is not known."""
    if _keys.MEASURED not in adata.varm:
        return None
    table = pd.DataFrame(adata.varm[_keys.MEASURED])
    table.columns = [str(column) for column in table.columns]
    if absent := [study for study in studies if study not in table.columns]:
        if not quiet:
            warn(
                f"adata.varm[{_keys.MEASURED!r}] does not say which genes {', '.join(map(repr, absent[:5]))} measured, "
                "so missing genes are read as zeros. Use the study_key of scim.pp.merge_studies as batch_key."
            )
        return None
    by_column = table[studies].to_numpy(dtype=bool).T
    measured = np.zeros((len(studies), len(genes)), dtype=bool)
    known = gene_map.target >= 0
    np.logical_or.at(measured.T, gene_map.target[known], by_column.T[known])
    return None if measured.all() else measured
