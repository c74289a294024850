"""Columns of an AnnData that may hold the names of its genes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .._validate import check_key
from ._features import gene_rows, plain_names
from ._organism import strip_genome

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


class NamesOfGenes(NamedTuple):
    """Names of genes, "" for a feature that is none, where they come from, and what was done to them, in words."""

    source: str
    names: list[str]
    notes: tuple[str, ...]


def name_candidates(var: pd.DataFrame, gene_column: str | None = None, *, where: str = "var") -> list[NamesOfGenes]:
    """List places that may hold gene names, with the names: the index, and columns of mostly distinct text.

    Rows that are antibodies, peaks or other features have the name "". Names are read without what surrounds them.

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
    is_gene, others = gene_rows(var)
    if gene_column is not None:
        check_key(var, gene_column, argument="gene_column", where=where)
        return [_names(gene_column, var[gene_column].astype(str).tolist(), is_gene, others)]
    columns = [
        name
        for name in var.columns
        if (is_string_dtype(var[name]) or is_object_dtype(var[name]) or _is_text(var[name]))
        # Chromosomes, biotypes and genomes are not gene names.
        and 2 * var[name].nunique() > len(var)
    ]
    return [
        _names("var_names", var.index.astype(str).tolist(), is_gene, others),
        *(_names(str(name), var[name].astype(str).tolist(), is_gene, others) for name in columns),
    ]


def _names(source: str, names: list[str], is_gene: np.ndarray | None, others: str) -> NamesOfGenes:
    notes = []
    if is_gene is not None:
        names = [name if keep else "" for name, keep in zip(names, is_gene, strict=True)]
        notes.append(f"Columns of X that are no genes are left out ({others}).")
    names, example = plain_names(names)
    if example is None and (first := next((name for name in names[:1_000] if strip_genome(name) != name), None)):
        example = first, strip_genome(first)
    if example is not None:
        notes.append(
            f"{source}: names of genes are read without what surrounds them, {example[0]!r} as {example[1]!r}."
        )
    return NamesOfGenes(source, names, tuple(notes))


def refuse_other_features(found: NamesOfGenes) -> None:
    """Raise a :class:`ValueError` if no row is a gene."""
    if found.names and not any(found.names):
        raise ValueError(
            f"No column of X is a gene. {found.notes[0]} Give the data or the modality with the expression of genes, "
            "or correct this column of var."
        )


def _is_text(column: pd.Series) -> bool:
    import pandas as pd

    return isinstance(column.dtype, pd.CategoricalDtype) and column.dtype.categories.dtype.kind not in "iufb"


def refuse_numbers(names: Sequence[str], var: pd.DataFrame, *, source: str = "var_names") -> None:
    """Raise a :class:`ValueError` that lists the columns of ``var`` if the gene names are row numbers."""
    given = [name for name in names if name]
    if given and all(name.isdecimal() for name in given[:100]):
        raise ValueError(
            f"{source} are numbers ({', '.join(given[:3])}, ...), not genes. Set adata.var_names to gene symbols or "
            f"Ensembl ids, or name their column with gene_column=. Columns of var: {list(map(str, var.columns))}."
        )
