"""Results of the verbs as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from . import _keys
from ._validate import as_names, check_fraction, check_key, did_you_mean, get_adata

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["clusters", "coherence", "genes", "hits", "scores", "summary"]


def clusters(
    adata: AnnData | Any,
    key: str = _keys.DEFAULT,
    *,
    group: str | int | Sequence[str | int] | None = None,
    mod: str | None = None,
) -> pd.DataFrame:
    """Get the labels of groups from :func:`scim.tl.annotate` with ``by``, one row per group.

    Parameters
    ----------
    adata, key, mod
        As in :func:`scim.get.hits`, for ``key_added`` of the annotation.
    group
        Groups to get; by default all.

    Returns
    -------
    DataFrame with the columns

    ``group``, ``cells``
        Name of the group, and its number of cells.
    ``label``, ``term_id``
        Name and id of its term; ``"unassigned"`` and ``""`` if it has none.
    ``confidence``
        Mean probability of the term, or its share of the votes, over the cells that are similar to reference cells. At
        best, this is the share of these cells that are of the type. 0 without a term.
    ``agreement``
        Share of the cells whose most probable label is the term of the group or a descendant.
    ``unassigned``, ``novel``
        Share of the cells without a label, and share of the cells that are unlike all reference cells (NaN if the vote
        does not test this).
    ``well_represented``
        Share of the cells with a term that is more probable than not and a novelty up to 0.5 (NaN for votes without
        novelty).
    ``set``
        Fewest labels with ``1 - alpha`` of the cells' votes, joined by ``";"``, the most frequent first.
    ``runner_up``, ``runner_up_confidence``
        Most probable label that is neither an ancestor nor a descendant of the term, and its mean probability.

    Raises
    ------
    KeyError
        ``key`` has no labels of groups, or a group is not among them.

    Examples
    --------
    >>> import pandas as pd
    >>> import scim
    >>> adata = scim.datasets.pbmc68k()
    >>> table = pd.DataFrame({"group": ["0", "1"], "label": ["T cell", "B cell"], "runner_up": ["B cell", "T cell"]})
    >>> adata.uns["scim"] = {"clusters": table}  # as scim.tl.annotate leaves it
    >>> scim.get.clusters(adata, group="1")["label"].tolist()
    ['B cell']
    """
    result = _result(adata, key, mod, _keys.CLUSTERS, what="labels of groups", verb="scim.tl.annotate with by=")
    table = pd.DataFrame(result[_keys.CLUSTERS]).copy()
    if group is None:
        return table
    wanted = as_names(group)
    there = table["group"].astype(str)
    for name in wanted:
        check_key(dict.fromkeys(there), name, argument="group", where=f"adata.uns[{key!r}][{_keys.CLUSTERS!r}]")
    return table[there.isin(wanted).to_numpy()].reset_index(drop=True)


def genes(
    adata: AnnData | Any,
    key: str = _keys.EXPLAIN,
    *,
    group: str | int | Sequence[str | int] | None = None,
    mod: str | None = None,
) -> pd.DataFrame:
    """Get the genes of :func:`scim.tl.explain`, one row per group and gene.

    Parameters
    ----------
    adata, key, mod
        As in :func:`scim.get.hits`, for ``key_added`` of the explanation.
    group
        Groups to get; by default all.

    Returns
    -------
    DataFrame with the columns group, gene, score (mean attribution), score_std and logfoldchange. Highest scores first.

    Raises
    ------
    KeyError
        ``key`` has no explanation, or a group is not in it.

    Examples
    --------
    >>> import numpy as np
    >>> import scim
    >>> adata = scim.datasets.pbmc68k()
    >>> fields = {
    ...     "names": ("MS4A1", "O"),
    ...     "scores": (0.5, "f4"),
    ...     "scores_std": (0.1, "f4"),
    ...     "logfoldchanges": (2, "f4"),
    ... }
    >>> adata.uns["scim_explain"] = {
    ...     name: np.array([(value,)], dtype=[("B cell", kind)]) for name, (value, kind) in fields.items()
    ... }  # as scim.tl.explain leaves it
    >>> scim.get.genes(adata, group="B cell")["gene"].tolist()
    ['MS4A1']
    """
    result = _result(adata, key, mod, "scores_std", what="explanation", verb="scim.tl.explain")
    there = result["names"].dtype.names
    wanted = there if group is None else as_names(group)
    for name in wanted:
        check_key(dict.fromkeys(there), name, argument="group", where=f"adata.uns[{key!r}]")
    fields = {"gene": "names", "score": "scores", "score_std": "scores_std", "logfoldchange": "logfoldchanges"}
    tables = [pd.DataFrame({column: result[field][name] for column, field in fields.items()}) for name in wanted]
    table = pd.concat(tables, keys=list(wanted), names=["group", None]).reset_index("group").reset_index(drop=True)
    return table.astype({"group": pd.CategoricalDtype(list(wanted))})


def hits(
    adata: AnnData | Any,
    key: str = _keys.QUERY,
    *,
    query: str | int | Sequence[str | int] | None = None,
    mod: str | None = None,
) -> pd.DataFrame:
    """Get the hits of :func:`scim.tl.query`, one row per hit.

    Parameters
    ----------
    adata, mod
        AnnData; or MuData, and the name of its modality.
    key
        ``key_added`` of the query.
    query
        Cells or groups whose hits to get; by default all.

    Returns
    -------
    DataFrame with the columns query, rank (0 is the nearest), row (in the reference), cell_id, distance, pvalue, and
    the metadata of the hit.

    Raises
    ------
    KeyError
        ``key`` has no hits, or a query is not in them.

    Examples
    --------
    >>> import pandas as pd
    >>> import scim
    >>> adata = scim.datasets.pbmc68k()
    >>> found = pd.DataFrame({"query": ["B cell", "T cell"], "distance": [0.1, 0.2]})
    >>> adata.uns["scim_query"] = {"hits": found}  # as scim.tl.query leaves it
    >>> scim.get.hits(adata, query="T cell")["distance"].tolist()
    [0.2]
    """
    return _of_queries(_result(adata, key, mod, "hits", what="hits", verb="scim.tl.query"), "hits", query)


def summary(
    adata: AnnData | Any,
    key: str = _keys.QUERY,
    *,
    query: str | int | Sequence[str | int] | None = None,
    column: str | Sequence[str] | None = None,
    fdr: float | None = None,
    mod: str | None = None,
) -> pd.DataFrame:
    """Get the metadata that hits of :func:`scim.tl.query` have in common, one row per query and value.

    Parameters
    ----------
    adata, key, query, mod
        As in :func:`scim.get.hits`.
    column
        Columns of metadata to get: label, study, sample, tissue or disease, if the reference has them; by default all.
    fdr
        Keep values that are enriched among the hits at this false discovery rate. None keeps all.

    Returns
    -------
    DataFrame with the columns query, column, value, n_cells, n_samples, fraction, enrichment, pvalue and fdr; see
    :func:`scim.tl.query`. Within a query and column, the most frequent value comes first.

    Raises
    ------
    KeyError
        ``key`` has no summary, or a query or column is not in it.
    ValueError
        ``fdr`` is not between 0 and 1.

    Examples
    --------
    >>> import pandas as pd
    >>> import scim
    >>> adata = scim.datasets.pbmc68k()
    >>> found = pd.DataFrame(
    ...     {"query": ["0", "0"], "column": "label", "value": ["T cell", "B cell"], "fdr": [0.01, 1.0]}
    ... )
    >>> adata.uns["scim_query"] = {"summary": found}  # as scim.tl.query leaves it
    >>> scim.get.summary(adata, column="label", fdr=0.05)["value"].tolist()
    ['T cell']
    """
    if fdr is not None:
        check_fraction(fdr, argument="fdr")
    result = _result(adata, key, mod, "summary", what="summary of hits", verb="scim.tl.query")
    table = _of_queries(result, "summary", query)
    chosen = np.ones(len(table), dtype=bool)
    if column is not None:
        wanted, there = as_names(column), dict.fromkeys(map(str, result["summary"]["column"]))
        for name in wanted if there else ():  # without hits the table is empty
            check_key(there, name, argument="column", where=f"adata.uns[{key!r}]['summary']")
        chosen &= table["column"].astype(str).isin(wanted).to_numpy()
    if fdr is not None:
        chosen &= table["fdr"].to_numpy(dtype=float) <= fdr
    return table[chosen].reset_index(drop=True)


def coherence(
    adata: AnnData | Any,
    key: str = _keys.QUERY,
    *,
    query: str | int | Sequence[str | int] | None = None,
    mod: str | None = None,
) -> pd.DataFrame:
    """Get how well the centroid of each group represents its cells, from :func:`scim.tl.query` with ``groupby``.

    Parameters
    ----------
    adata, key, mod
        As in :func:`scim.get.hits`.
    query
        Groups to get; by default all.

    Returns
    -------
    DataFrame with the columns query, n_cells, n_clusters and coherence. With a coherence near 1, the centroid
    represents all cells; near 0, the group is a mixture.

    Raises
    ------
    KeyError
        ``key`` has no query with groups, or a group is not in it.

    Examples
    --------
    >>> import pandas as pd
    >>> import scim
    >>> adata = scim.datasets.pbmc68k()
    >>> found = pd.DataFrame({"query": ["0", "1"], "coherence": [0.9, 0.1]})
    >>> adata.uns["scim_query"] = {"coherence": found}  # as scim.tl.query leaves it
    >>> scim.get.coherence(adata, query=0)["coherence"].tolist()
    [0.9]
    """
    verb = "scim.tl.query with groupby="
    return _of_queries(_result(adata, key, mod, "coherence", what="coherence", verb=verb), "coherence", query)


def scores(
    adata: AnnData | Any, key: str = _keys.DEFAULT, *, terms: str | Sequence[str] | None = None, mod: str | None = None
) -> pd.DataFrame:
    """Get the scores of :func:`scim.tl.annotate`: the share of votes per cell and term.

    Parameters
    ----------
    adata, key, mod
        As in :func:`scim.get.hits`, for ``key_added`` of the annotation.
    terms
        Names of terms to get; by default all.

    Returns
    -------
    DataFrame (n_cells, n_terms) of shares from 0 to 1. Columns of ancestors hold the sum over their descendants.

    Raises
    ------
    KeyError
        ``key`` has no scores, or a term is not in them.

    Examples
    --------
    >>> import pandas as pd
    >>> import scim
    >>> adata = scim.datasets.pbmc68k()[:2].copy()
    >>> votes = pd.DataFrame({"T cell": [0.9, 0.2], "B cell": [0.1, 0.8]}, index=adata.obs_names)
    >>> adata.obsm["scim_scores"] = votes  # as scim.tl.annotate leaves it
    >>> scim.get.scores(adata, terms=["B cell"])["B cell"].tolist()
    [0.1, 0.8]
    """
    data = get_adata(adata, mod=mod, allow_empty=True)
    name = _keys.obsm_scores(key)
    if name not in data.obsm:
        raise KeyError(
            f"adata.obsm has no {name!r}. Run scim.tl.annotate first. {did_you_mean(name, data.obsm.keys())}"
        )
    table = pd.DataFrame(data.obsm[name], index=data.obs_names)
    wanted = None if terms is None else as_names(terms)
    for term in wanted or ():
        check_key(table, term, argument="terms", where=f"adata.obsm[{name!r}]")
    return table.copy() if wanted is None else table[wanted]


def _of_queries(result: Mapping[str, Any], part: str, query: str | int | Sequence[str | int] | None) -> pd.DataFrame:
    """Get the rows of queries from one table of a result of :func:`scim.tl.query`."""
    table = pd.DataFrame(result[part]).copy()
    if query is None:
        return table
    wanted = as_names(query)
    asked = dict.fromkeys(map(str, [*result.get("queries", ()), *table["query"].unique()]))
    for name in wanted:
        if name not in asked:
            raise KeyError(f"query={name!r} is not a query of this result. {did_you_mean(name, asked)}")
    return table[table["query"].astype(str).isin(wanted).to_numpy()].reset_index(drop=True)


def _result(adata: AnnData | Any, key: str, mod: str | None, part: str, *, what: str, verb: str) -> Mapping[str, Any]:
    """Get the result of a verb in ``uns``: a mapping that has a ``part``."""
    data = get_adata(adata, mod=mod, allow_empty=True)
    check_key(data.uns, key, argument="key", where="adata.uns")
    result = data.uns[key]
    if not isinstance(result, Mapping) or part not in result:
        raise KeyError(f"adata.uns[{key!r}] has no {what}. Run {verb} first.")
    return result
