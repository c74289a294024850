"""Columns of an AnnData that may hold the names of its genes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._validate import check_key

if TYPE_CHECKING:
    import pandas as pd


def name_candidates(
    var: pd.DataFrame, gene_column: str | None = None, *, where: str = "var"
) -> list[tuple[str, list[str]]]:
    """List places that may hold gene names, with the names: the index, and columns of mostly distinct text.

    Parameters
    ----------
    var
        A row per gene.
    gene_column
        Column to take; None lists all.
    where
        Name of ``var`` in messages.
    """
    from pandas.api.types import is_object_dtype, is_string_dtype

    var = getattr(var, "to_memory", lambda: var)()  # lazy, from anndata.experimental.read_lazy
    if gene_column is not None:
        check_key(var, gene_column, argument="gene_column", where=where)
        return [(gene_column, var[gene_column].astype(str).tolist())]
    columns = [
        name
        for name in var.columns
        if (is_string_dtype(var[name]) or is_object_dtype(var[name]) or _is_text(var[name]))
        # Chromosomes, biotypes and genomes are not gene names.
        and 2 * var[name].nunique() > len(var)
    ]
    return [
        ("var_names", var.index.astype(str).tolist()),
        *((str(name), var[name].astype(str).tolist()) for name in columns),
    ]


def _is_text(column: pd.Series) -> bool:
    import pandas as pd

    return isinstance(column.dtype, pd.CategoricalDtype) and column.dtype.categories.dtype.kind not in "iufb"


def refuse_numbers(names: Sequence[str], var: pd.DataFrame, *, source: str = "var_names") -> None:
    """Raise a :class:`ValueError` that lists the columns of ``var`` if the gene names are row numbers."""
    if names and all(name.isdecimal() for name in names[:100]):
        raise ValueError(
            f"{source} are numbers ({', '.join(names[:3])}, ...), not genes. Set adata.var_names to gene symbols or "
            f"Ensembl ids, or name their column with gene_column=. Columns of var: {list(map(str, var.columns))}."
        )
