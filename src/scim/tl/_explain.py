"""scim.tl.explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _keys
from .._validate import as_names, check_key, check_positive_int, did_you_mean, get_adata
from ..counts import Values, find_values
from ..encoder import Encoder, lognormal_profiles
from ..genes import GeneMap, OrganismChoice
from ._embedding import resolve_encoder
from ._results import check_writable, copy_of, write_results

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from ..reference import Reference

#: Value of ``against`` for all other cells.
REST = "rest"
#: Added to mean expression before a ratio is taken, as in scanpy.
_PSEUDOCOUNT = 1e-9


def explain(
    adata: AnnData | Any,
    reference: Reference | str | Path | None = None,
    *,
    encoder: Encoder | str | Path | None = None,
    groupby: str,
    groups: str | int | Sequence[str | int] | None = None,
    against: str = REST,
    n_cells: int = 50,
    n_genes: int = 100,
    layer: str | None = None,
    gene_column: str | None = None,
    organism: OrganismChoice = "auto",
    mod: str | None = None,
    key_added: str = _keys.EXPLAIN,
    seed: int = 0,
    copy: bool = False,
) -> AnnData | Any | None:
    """Rank the genes that separate groups of cells in the space of an encoder.

    Cells of a group are paired at random with other cells. Integrated gradients of the squared distance of a pair give
    the contribution of each gene with a higher value in the first cell (attributions of SCimilarity, Heimberg et al.
    2025). They explain the encoder, not biology: a marker that the encoder does not use has no score.

    Parameters
    ----------
    adata
        AnnData, or MuData with ``mod``.
    reference, encoder
        Reference, or its path or name (the default is the bundled reference ``"human"``), or an encoder or its path.
    groupby
        Column of ``obs``.
    groups
        Groups to explain. None explains all.
    against
        Group to compare with; ``"rest"`` means all other cells.
    n_cells
        Number of pairs of cells for each group. A pair takes about a second for 28,000 genes.
    n_genes
        Number of genes to keep.
    layer, gene_column, organism, mod
        Layer of the values, column and organism of the genes, and modality, see :func:`scim.tl.embed`.
    key_added
        Name of the result in ``uns``.
    seed
        Seed of the pairs.
    copy
        Return a copy instead of writing to ``adata``.

    Returns
    -------
    None, or the copy. Writes ``uns["scim_explain"]`` in the layout of ``scanpy.tl.rank_genes_groups``, so that scanpy
    can plot it (``sc.pl.rank_genes_groups(adata, key="scim_explain")``): ``names`` (of ``var``), ``scores`` (mean
    attribution), ``scores_std``, and ``logfoldchanges`` of the pairs. ``pvals`` are NaN, because attributions are not a
    test. If several genes of mouse have the same human orthologue, the first of them stands for all.
    :func:`scim.get.genes` returns the result as a table.

    Raises
    ------
    KeyError
        A column or group is not there.
    ValueError
        Both ``reference`` and ``encoder`` are given, or there is no other group.
    ImportError
        captum is not installed.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc10k_protein()
    >>> scim.tl.explain(adata, "blood", groupby="gate", groups="B", n_cells=5)
    >>> scim.get.genes(adata)["gene"][0] in {"CD79A", "MS4A1", "CD74", "IGHM"}
    True
    """
    n_cells, n_genes = check_positive_int(n_cells, argument="n_cells"), check_positive_int(n_genes, argument="n_genes")
    chosen = resolve_encoder(reference, encoder)
    data = get_adata(adata, mod=mod)
    check_writable(data, key_added, copy=copy)
    pairs = _pairs(data.obs, groupby, groups, against, n_cells, np.random.default_rng(seed))
    values = find_values(data, chosen.genes, layer=layer, gene_column=gene_column, organism=organism)
    columns, use_raw = _first_columns(values.genes), values.place == "raw"
    ranked = {}
    for group, (cells, others) in pairs.items():
        anchors, negatives = _profiles(values, cells), _profiles(values, others)
        ranked[group] = _rank(chosen.attribute(anchors, negatives), anchors, negatives, columns, n_genes)
    params = {
        "groupby": groupby,
        "reference": against,
        "method": "integrated_gradients",
        "use_raw": use_raw,
        "corr_method": "none",
        "encoder_id": chosen.id,
        "n_cells": n_cells,
        "seed": seed,
    }
    names = (data.raw if use_raw else data).var_names.to_numpy(dtype=object)[columns]
    out = copy_of(adata) if copy else adata
    content = {"params": params, **_arrays(ranked, names)}
    write_results(get_adata(out, mod=mod), {"uns": {key_added: content}}, replace=[key_added])
    return out if copy else None


def _pairs(
    obs: pd.DataFrame,
    groupby: str,
    groups: str | int | Sequence[str | int] | None,
    against: str,
    n_cells: int,
    rng: np.random.Generator,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Draw pairs of a cell of each group and another cell, as positions (n_pairs,); cells of small groups repeat."""
    check_key(obs, groupby, argument="groupby", where="adata.obs")
    column = obs[groupby].astype(object)
    labels = column.where(column.isna(), column.astype(str)).to_numpy(dtype=object)
    there = sorted({label for label in labels if isinstance(label, str)})
    wanted = there if groups is None else as_names(groups)
    for name, argument in [*((g, "groups") for g in wanted), (against, "against")]:
        if name not in there and not (argument == "against" and name == REST):
            raise KeyError(f"{argument}={name!r} is not a group of obs[{groupby!r}]. {did_you_mean(name, there)}")
    pairs = {}
    for group in wanted:
        if group == against:
            if groups is None:
                continue
            raise ValueError(f"groups contains {group!r}, which is also against=. Choose another group.")
        mine = np.flatnonzero(labels == group)
        others = np.flatnonzero((labels != group) & ~column.isna() if against == REST else labels == against)
        if not len(others):
            raise ValueError(f"obs[{groupby!r}] has no group besides {group!r}. Choose a column of several groups.")
        n = min(n_cells, max(len(mine), len(others)))
        pairs[group] = _draw(rng, mine, n), _draw(rng, others, n)
    return pairs


def _draw(rng: np.random.Generator, cells: np.ndarray, n: int) -> np.ndarray:
    """Draw ``n`` cells in random order; cells repeat if there are fewer than ``n``."""
    rounds = [rng.permutation(cells) for _ in range(-(-n // len(cells)))]
    return np.concatenate(rounds)[:n]


def _first_columns(genes: GeneMap) -> np.ndarray:
    """Find the first column of the data with each gene of the encoder, int64 (n_genes,); -1 for none."""
    columns = np.full(len(genes.space), -1, dtype=np.int64)
    found = np.flatnonzero(genes.target >= 0)[::-1]
    columns[genes.target[found]] = found
    return columns


def _profiles(values: Values, cells: np.ndarray) -> np.ndarray:
    """Read log-normalised profiles of cells, in their order, float32 (n, n_genes)."""
    distinct, place = np.unique(cells, return_inverse=True)
    return lognormal_profiles(values, distinct)[place]


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Genes of the encoder by decreasing score: position, mean and standard deviation of scores, log fold change."""

    gene: np.ndarray
    score: np.ndarray
    std: np.ndarray
    fold: np.ndarray


def _rank(
    attributions: np.ndarray, anchors: np.ndarray, negatives: np.ndarray, columns: np.ndarray, n_genes: int
) -> _Ranked:
    """Rank the genes that the data have by their mean attribution."""
    mean = attributions.mean(axis=0)
    measured = np.flatnonzero(columns >= 0)
    gene = measured[np.argsort(-mean[measured], kind="stable")[:n_genes]]
    # As in scanpy: means of log1p values, transformed to the linear scale.
    ours, theirs = (np.expm1(profiles.mean(axis=0)) + _PSEUDOCOUNT for profiles in (anchors, negatives))
    fold = np.log2(ours / theirs)
    return _Ranked(gene, mean[gene], attributions.std(axis=0)[gene], fold[gene])


def _arrays(ranked: dict[str, _Ranked], names: np.ndarray) -> dict[str, np.recarray]:
    """Make the arrays of ``scanpy.tl.rank_genes_groups``, with a field for each group; ``names`` (n_genes,)."""
    columns = {
        "names": [names[genes.gene] for genes in ranked.values()],
        "scores": [genes.score for genes in ranked.values()],
        "scores_std": [genes.std for genes in ranked.values()],
        "logfoldchanges": [genes.fold for genes in ranked.values()],
        # Attributions are not a test, but functions of scanpy read both.
        **{name: [np.full(len(genes.gene), np.nan) for genes in ranked.values()] for name in ("pvals", "pvals_adj")},
    }
    return {
        name: np.rec.fromarrays(arrays, dtype=[(group, "O" if name == "names" else "f4") for group in ranked])
        for name, arrays in columns.items()
    }
