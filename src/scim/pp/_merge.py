"""Merge studies with different genes, gene names and scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .. import _keys
from .._validate import check_key, check_option, get_adata
from .._warn import warn
from ..counts import (
    WIDER,
    Matrix,
    Values,
    check_mapped,
    check_values,
    find_counts,
    lognormal_in_place,
    organism_facts,
    place_name,
    refuse_mixed,
)
from ..genes import (
    GeneMap,
    GeneSpace,
    Organism,
    OrganismChoice,
    canonical,
    foreign_species,
    name_candidates,
    organism_of,
    refuse_numbers,
    strip_genome,
    to_human,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix


def merge_studies(
    adatas: Mapping[str, AnnData],
    study_key: str = "study",
    *,
    labels_key: str | None = None,
    layer: str | None = None,
    gene_column: str | None = None,
    organism: OrganismChoice = "auto",
    join: str = "outer",
) -> AnnData:
    """Merge studies: one name per gene, and one scale for all values.

    Genes are matched by approved symbol, so that Ensembl ids, previous symbols and symbols in other letter case are the
    same gene. Genes of mouse become their human orthologues: values of genes with the same orthologue are summed, and
    genes without one are left out. If all studies hold counts, so does the result; otherwise it holds log1p of 1e4
    counts per cell.

    Parameters
    ----------
    adatas
        The studies by name.
    study_key
        Column of ``obs`` for the names; an existing column is kept as ``f"{study_key}_original"``.
    labels_key
        Column of ``obs`` that every study must have.
    layer
        Where the values are: a layer, ``"X"`` or ``"raw"``; by default the first place that holds counts or log1p
        values, with a warning if ``raw`` has more genes.
    gene_column
        Column of ``var`` with gene names; by default ``var_names``, or the column of text with most known genes.
    organism
        ``"human"`` or ``"mouse"``; ``"auto"`` recognises it for each study by the names of its genes.
    join
        ``"outer"`` keeps the genes of any study, with 0 if a study did not measure them; ``"inner"`` keeps genes that
        all studies measured.

    Returns
    -------
    A new AnnData with a float32 CSR matrix as X. ``varm["scim_measured"]`` (genes x studies, bool) says which study
    measured which gene, and ``uns["scim_pp"]["merge"]`` describes the values of each study, with its organism. Of
    a mouse study, it has ``n_mapped`` and ``share_expression_mapped``, as :func:`scim.tl.embed` has.

    Raises
    ------
    TypeError, ValueError
        There is no study, or a study is empty, holds neither counts nor log1p values, has neither human nor mouse
        genes, or has both.
    KeyError
        A study has no such column or layer.

    Examples
    --------
    >>> import anndata as ad, numpy as np, pandas as pd, scim
    >>> a = ad.AnnData(np.array([[1.0, 2.0]]), var=pd.DataFrame(index=["CD3E", "MARCH1"]))
    >>> b = ad.AnnData(np.array([[3.0, 4.0]]), var=pd.DataFrame(index=["MARCHF1", "NKG7"]))
    >>> merged = scim.pp.merge_studies({"a": a, "b": b})
    >>> merged.to_df()
         CD3E  MARCHF1  NKG7
    a:0   1.0      2.0   0.0
    b:0   0.0      3.0   4.0
    """
    import anndata
    from scipy import sparse

    check_option(join, ("outer", "inner"), argument="join")
    studies = _check_studies(adatas, labels_key=labels_key)
    found = {name: _find(adata, name, layer) for name, adata in studies.items()}
    _warn_of_cut(studies, found, layer)
    named = {name: _genes(adata, name, found[name].use_raw, gene_column, organism) for name, adata in studies.items()}
    space = _join({name: genes.names for name, genes in named.items()}, join)
    values = {name: Values(m.place, m.X, m.kind, named[name].on(space), studies[name].obs) for name, m in found.items()}
    for name, own in values.items():
        check_mapped(own, where=f"Study {name!r}: ")
    as_counts = all(matrix.kind.kind == "counts" for matrix in found.values())
    blocks = [_joined(values[name], named[name].is_gene, study=name, as_counts=as_counts) for name in studies]
    merged = anndata.AnnData(
        X=sparse.vstack(blocks, format="csr"),
        obs=_obs(studies, study_key),
        var=pd.DataFrame(index=pd.Index(space.names, dtype=object)),
    )
    merged.varm[_keys.MEASURED] = pd.DataFrame(
        {name: own.genes.measured for name, own in values.items()}, index=merged.var_names
    )
    merged.uns[_keys.PREPROCESSING] = {
        "merge": {
            "study_key": study_key,
            "X": "counts" if as_counts else "log1p of 1e4 per cell",
            "studies": {
                name: {
                    "source": place_name(own.place),
                    "n_genes": own.genes.n_matched,
                    **own.kind.to_dict(),
                    **organism_facts(own),
                }
                for name, own in values.items()
            },
        }
    }
    return merged


def _check_studies(adatas: Mapping[str, AnnData], *, labels_key: str | None) -> dict[str, AnnData]:
    if not isinstance(adatas, Mapping):
        raise TypeError(f'adatas must map names to AnnData, such as {{"pbmc3k": adata}}, got {type(adatas).__name__}.')
    if not adatas:
        raise ValueError("adatas is empty: give at least one study.")
    studies = {}
    for name, data in adatas.items():
        if "/" in str(name):
            raise ValueError(f"The study name {name!r} has a slash, which means a folder in h5ad. Rename the study.")
        try:
            adata = get_adata(data)
        except (TypeError, ValueError) as error:
            raise type(error)(f"Study {name!r}: {error}") from error
        if labels_key is not None:
            check_key(adata.obs, labels_key, argument="labels_key", where=f"obs of study {name!r}")
        if str(name) in studies:
            raise ValueError(f"Two studies are called {str(name)!r}. Rename one.")
        studies[str(name)] = adata
    return studies


def _find(adata: AnnData, name: str, layer: str | None) -> Matrix:
    try:
        return find_counts(adata, layer=layer)
    except ValueError as error:
        raise ValueError(f"Study {name!r}: {error}") from error


def _warn_of_cut(studies: Mapping[str, AnnData], found: Mapping[str, Matrix], layer: str | None) -> None:
    """Warn if X was cut to variable genes, and ``raw`` has more."""
    for name, adata in studies.items():
        if (
            layer is None
            and not found[name].use_raw
            and adata.raw is not None
            and adata.raw.n_vars > WIDER * adata.n_vars
        ):
            warn(
                f"Study {name!r}: {place_name(found[name].place)} has {adata.n_vars:,} genes, raw has "
                f'{adata.raw.n_vars:,}. Give adata.raw.to_adata() to merge those of raw, or layer="X" to keep those of '
                "X without this warning."
            )


@dataclass(frozen=True)
class _Genes:
    """Genes of a study in the order of the columns.

    Attributes
    ----------
    names
        Approved symbol of each gene, or its name as given; an empty text for a mouse gene without a human orthologue,
        and for what is no gene.
    organism
        Organism of the study.
    is_gene
        Columns that are genes, bool (n_columns,).
    """

    names: list[str]
    organism: Organism
    is_gene: np.ndarray

    def on(self, space: GeneSpace) -> GeneMap:
        """Map the genes onto the joint genes."""
        found = space.match(self.names, organism="human")
        if self.organism == "human":
            return found
        return replace(found, organism="mouse", mapped=np.array([name != "" for name in self.names], dtype=bool))


def _genes(adata: AnnData, study: str, use_raw: bool, gene_column: str | None, organism: OrganismChoice) -> _Genes:
    """Find the genes of a study: approved symbols if there are, otherwise as given."""
    var = adata.raw.var if use_raw else adata.var
    (source, given, notes), *columns = name_candidates(var, gene_column, where=f"var of study {study!r}")
    try:
        approved, kind = _approved(given, organism, source)
        if _share_known(approved) < 0.1 and columns:
            others = [(*_approved(names, organism, name), names) for name, names, _ in columns]
            best = max(others, key=lambda other: _share_known(other[0]))
            if _share_known(best[0]) > 0.5:
                approved, kind, given = best
        refuse_numbers(given, var, source=source)
    except ValueError as error:
        raise ValueError(f"Study {study!r}: {error}") from error
    if foreign := foreign_species(given, mouse=kind == "mouse"):
        raise ValueError(
            f"Study {study!r}: the genes are not {kind}: {foreign}. If they are human or mouse, say so with organism=. "
            "Otherwise, map them to human orthologues first."
        )
    for note in notes:
        warn(f"Study {study!r}: {note}")
    is_gene = np.array([name != "" for name in given], dtype=bool)
    if kind == "mouse":
        if not _share_known(approved):
            raise ValueError(f"Study {study!r}: no gene in {source} is a gene of mouse with a human orthologue.")
        return _Genes([name for name, _ in approved], kind, is_gene)
    # If one column has the approved symbol itself, a column with an alias of the symbol stays as given.
    own = {name for name, how in approved if how == "exact"}
    names = [raw if how == "alias" and name in own else name for (name, how), raw in zip(approved, given, strict=True)]
    return _Genes(names, kind, is_gene)


def _approved(names: list[str], organism: OrganismChoice, source: str) -> tuple[list[tuple[str, str]], Organism]:
    """Return the approved symbol of each gene and how it was found, and the organism of the genes."""
    kind = organism_of(names, organism, source=source)
    if kind == "mouse":
        return [(symbol, "ortholog" if symbol else "unknown") for symbol in to_human(names)], kind
    return [canonical(strip_genome(name)) for name in names], kind


def _share_known(approved: list[tuple[str, str]]) -> float:
    return sum(how != "unknown" for _, how in approved) / max(sum(name != "" for name, _ in approved), 1)


def _join(named: Mapping[str, list[str]], join: str) -> GeneSpace:
    union = list(dict.fromkeys(gene for names in named.values() for gene in names if gene))
    if join == "inner":
        shared = set.intersection(*(set(names) for names in named.values()))
        union = [gene for gene in union if gene in shared]
        if not union:
            raise ValueError('The studies share no gene. Use join="outer", or check their gene names.')
    return GeneSpace(union)


def _joined(values: Values, is_gene: np.ndarray, *, study: str, as_counts: bool) -> csr_matrix:
    """Values of all cells of a study over the joint genes; ``is_gene`` tells its columns apart."""
    from scipy import sparse

    where = f"Study {study!r}: {place_name(values.place)}"
    # The kind of values was recognised from a sample of the cells: all of them are checked here.
    refuse_mixed(values.X, where=where, base=values.kind.base, columns=is_gene, obs=values.obs)
    blocks = []
    for _, block in values.blocks():
        rows = sparse.csr_matrix(block).astype(np.float32)
        check_values(rows.data, where=where)
        if not is_gene.all():  # antibodies, peaks
            rows.data = np.where(is_gene[rows.indices], rows.data, np.float32(0))
        # Normalise before genes are dropped, so that join="inner" does not change values.
        scaled = rows if as_counts else lognormal_in_place(rows.copy(), values.kind)
        blocks.append(values.genes.align(scaled, logged=not as_counts))
    return sparse.vstack(blocks, format="csr")


def _obs(studies: Mapping[str, AnnData], study_key: str) -> pd.DataFrame:
    """Joint ``obs``, with the study's name in front of cell names that are not unique."""
    tables = []
    for name, adata in studies.items():
        table = adata.obs.copy()
        if study_key in table:
            kept = f"{study_key}_original"
            while kept in table:  # from an earlier merge
                kept += "_1"
            table = table.rename(columns={study_key: kept})
        # Studies have different categories: join them as objects, and make them categorical again below.
        for column in table.columns:
            if isinstance(table[column].dtype, pd.CategoricalDtype):
                table[column] = table[column].astype(object)
        table[study_key] = name
        tables.append(table)
    obs = pd.concat(tables)
    barcodes = obs.index.astype(str)
    unique = barcodes if barcodes.is_unique else obs[study_key].astype(str).to_numpy() + ":" + barcodes.to_numpy()
    obs.index = pd.Index(_number_repeats(np.asarray(unique, dtype=object)), dtype=object)
    for column in obs.columns:
        if obs[column].dtype == object or isinstance(obs[column].dtype, pd.StringDtype):
            values = obs[column]
            obs[column] = pd.Categorical(values.where(values.isna(), values.astype(str)))
    obs[study_key] = pd.Categorical(obs[study_key].astype(str), categories=list(studies))
    return obs


def _number_repeats(names: np.ndarray) -> list[str]:
    """Append ``-1``, ``-2``, ... to repeated names."""
    if len(set(names)) == len(names):
        return names.tolist()
    series = pd.Series(names)
    repeat = series.groupby(series).cumcount()
    return [str(name) if n == 0 else f"{name}-{n}" for name, n in zip(names, repeat, strict=True)]
