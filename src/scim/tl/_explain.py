"""scim.tl.explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _keys
from .._validate import as_names, check_key, check_positive_int, did_you_mean, get_adata
from ..counts import InputKind, find_values, iter_blocks
from ..encoder import Encoder, to_blocked_lognormal
from ..genes import GeneMap, GeneSpace
from ._cells import resolve_encoder
from ._results import check_writable, copy_of, write_results

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from ..reference import Reference

REST = "rest"


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
    mod: str | None = None,
    key_added: str = _keys.EXPLAIN,
    seed: int = 0,
    copy: bool = False,
) -> AnnData | Any | None:
    """Rank the genes that place groups of cells where an encoder puts them.

    Cells of a group are paired at random with cells of another, and integrated gradients of their squared distance say
    how much each gene that is higher in the first adds to it (SCimilarity's attributions, Heimberg et al. 2025). They
    explain the encoder, not biology: a marker that it does not use gets nothing.

    Parameters
    ----------
    adata
        AnnData, or MuData with ``mod``.
    reference, encoder
        A reference, its path or its name (the bundled reference of blood by default), or an encoder or its path.
    groupby
        Column of ``obs``.
    groups
        Groups to explain; all by default.
    against
        Group whose cells they are held against; ``"rest"`` is all other cells.
    n_cells
        Pairs of cells for each group; a second or so each for 28,000 genes.
    n_genes
        Genes to keep.
    layer, gene_column, mod
        Where values and genes are, see :func:`scim.tl.embed`.
    key_added
        Name in ``uns``.
    seed
        Seed of the pairs.
    copy
        Return a copy instead of writing to ``adata``.

    Returns
    -------
    None, or the copy. Writes ``uns["scim_explain"]`` in the layout of ``scanpy.tl.rank_genes_groups``, so that its
    plots draw it (``sc.pl.rank_genes_groups(adata, key="scim_explain")``): ``names`` (of ``var``), ``scores`` (mean
    attribution), ``scores_std``, and ``logfoldchanges`` of the pairs; ``pvals`` are NaN, for this is no test. Read
    it with :func:`scim.get.genes`.

    Raises
    ------
    KeyError
        A column or group is not there.
    ValueError
        Both ``reference`` and ``encoder`` are given, or there is nothing to compare with.
    ImportError
        captum is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> import scim
    >>> from scim.genes._space import GeneSpace
    >>> adata = scim.datasets.pbmc68k()
    >>> genes = GeneSpace.from_adata(adata)
    >>> matrix = np.random.default_rng(0).normal(size=(16, len(genes)))
    >>> encoder = scim.Encoder(genes, {"output.weight": matrix, "output.bias": np.zeros(16)})
    >>> scim.tl.explain(adata, encoder=encoder, groupby="bulk_labels", groups="CD19+ B", n_cells=5)
    >>> scim.get.genes(adata).columns.tolist()
    ['group', 'gene', 'score', 'score_std', 'logfoldchange']
    """
    n_cells, n_genes = check_positive_int(n_cells, argument="n_cells"), check_positive_int(n_genes, argument="n_genes")
    chosen = resolve_encoder(reference, encoder)
    data = get_adata(adata, mod=mod)
    check_writable(data, key_added, copy=copy)
    pairs = _pairs(data.obs, groupby, groups, against, n_cells, np.random.default_rng(seed))
    profiles = _Profiles.of(data, chosen.genes, layer=layer, gene_column=gene_column)
    ranked = {}
    for group, (one, other) in pairs.items():
        anchors, negatives = profiles.rows(one), profiles.rows(other)
        ranked[group] = _rank(chosen.attribute(anchors, negatives), anchors, negatives, profiles.columns, n_genes)
    params = {
        "groupby": groupby,
        "reference": against,
        "method": "integrated_gradients",
        "use_raw": profiles.use_raw,
        "corr_method": "none",
        "encoder_id": chosen.id,
        "n_cells": n_cells,
        "seed": seed,
    }
    names = (data.raw if profiles.use_raw else data).var_names.to_numpy(dtype=object)
    tables = {
        "names": {group: names[profiles.columns[table.gene]] for group, table in ranked.items()},
        "scores": {group: table.score for group, table in ranked.items()},
        "scores_std": {group: table.std for group, table in ranked.items()},
        "logfoldchanges": {group: table.fold for group, table in ranked.items()},
        # An attribution is no test; scanpy's functions look for both.
        **{name: {g: np.full(len(t.gene), np.nan) for g, t in ranked.items()} for name in ("pvals", "pvals_adj")},
    }
    content = {"params": params} | {
        name: np.rec.fromarrays(list(table.values()), dtype=[(g, "O" if name == "names" else "f4") for g in table])
        for name, table in tables.items()
    }
    out = copy_of(adata) if copy else adata
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
    """Positions of paired cells of each group and of those it is held against, (n_cells,); some come twice if few."""
    check_key(obs, groupby, argument="groupby", where="adata.obs")
    column = obs[groupby].astype(object)
    labels = column.where(column.isna(), column.astype(str)).to_numpy(dtype=object)
    there = sorted({label for label in labels if isinstance(label, str)})
    wanted = there if groups is None else as_names(groups)
    for name, argument in [*((g, "groups") for g in wanted), (against, "against")]:
        if name not in there and not (argument == "against" and name == REST):
            raise KeyError(f"{argument}={name!r} is no group of obs[{groupby!r}]. {did_you_mean(name, there)}")
    pairs = {}
    for group in wanted:
        if group == against:
            if groups is None:
                continue
            raise ValueError(f"groups holds {group!r}, which is also against=. Leave it out of one of them.")
        mine = np.flatnonzero(labels == group)
        others = np.flatnonzero((labels != group) & ~column.isna() if against == REST else labels == against)
        if not len(others):
            raise ValueError(f"obs[{groupby!r}] has no group beside {group!r} to hold it against.")
        n = min(n_cells, max(len(mine), len(others)))
        pairs[group] = _draw(rng, mine, n), _draw(rng, others, n)
    return pairs


def _draw(rng: np.random.Generator, cells: np.ndarray, n: int) -> np.ndarray:
    """``n`` cells in random order, each as often as it takes."""
    rounds = [rng.permutation(cells) for _ in range(-(-n // len(cells)))]
    return np.concatenate(rounds)[:n]


@dataclass(frozen=True, eq=False)
class _Profiles:
    """Log-normalised profiles of cells on the genes of an encoder, and the data's first column of each gene (or -1)."""

    X: Any
    kind: InputKind
    gene_map: GeneMap
    use_raw: bool
    columns: np.ndarray

    @classmethod
    def of(cls, data: AnnData, genes: GeneSpace, *, layer: str | None, gene_column: str | None) -> _Profiles:
        place, X, kind, gene_map = find_values(data, genes, layer=layer, gene_column=gene_column)
        columns = np.full(len(genes), -1, dtype=np.int64)
        found = np.flatnonzero(gene_map.target >= 0)[::-1]
        columns[gene_map.target[found]] = found
        return cls(X, kind, gene_map, place == "raw", columns)

    def rows(self, cells: np.ndarray) -> np.ndarray:
        """Profiles of cells, in their order, float32 (n, n_genes)."""
        distinct, place = np.unique(cells, return_inverse=True)
        blocks = [
            to_blocked_lognormal(block, self.gene_map, self.kind) for _, block in iter_blocks(self.X, rows=distinct)
        ]
        return np.concatenate([block.toarray() for block in blocks])[place]


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Genes of a group by falling score: positions among the encoder's, and a number of each kind for each."""

    gene: np.ndarray
    score: np.ndarray
    std: np.ndarray
    fold: np.ndarray


def _rank(
    attributions: np.ndarray, anchors: np.ndarray, negatives: np.ndarray, columns: np.ndarray, n_genes: int
) -> _Ranked:
    mean = attributions.mean(axis=0)
    measured = np.flatnonzero(columns >= 0)
    gene = measured[np.argsort(-mean[measured], kind="stable")[:n_genes]]
    # As scanpy has it: of the means of log1p values, taken back to the linear scale.
    fold = np.log2((np.expm1(anchors.mean(axis=0)) + 1e-9) / (np.expm1(negatives.mean(axis=0)) + 1e-9))
    return _Ranked(gene, mean[gene], attributions.std(axis=0)[gene], fold[gene])
