"""Find the reference cells most like given cells, groups or vectors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _keys
from .._validate import check_positive_int
from ..reference import Reference
from ._common import (
    Results,
    describe_filter,
    describe_reference,
    embedding_record,
    get_embedding,
    get_writable,
    plain,
)
from ._hits import coherence_table, hits_table, summary_table
from ._queries import Queries, pick_cells, pool_groups

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

#: Most hits that are kept; ten columns of them take about half a gigabyte.
MAX_HITS = 5_000_000


def query(
    adata: Any,
    reference: Reference | str | Path | None = None,
    *,
    groupby: str | None = None,
    cells: Any = None,
    vectors: np.ndarray | None = None,
    k: int = 1000,
    max_distance: float | None = None,
    where: Any = None,
    exclude: Any = None,
    max_per_group: Mapping[str, int] | None = None,
    use_rep: str = _keys.obsm_embedding(),
    key_added: str = _keys.QUERY,
    mod: str | None = None,
    layer: str | None = None,
    copy: bool = False,
) -> Any:
    """Find the reference cells most like given ones.

    A query is a cell, a group of cells, or a vector. A group is searched with its centroid: the counts of its cells are
    summed, scaled to 1e4, logged and embedded as if they were one cell (SCimilarity, Heimberg et al. 2025). Where the
    data are log1p values they are taken back to the linear scale before they are summed, so that every cell counts the
    same, however deeply it was sequenced.

    Nothing is written if anything fails.

    Parameters
    ----------
    adata
        AnnData or MuData; in memory, backed or Dask. A view becomes an AnnData of its own.
    reference
        Reference, or the path of one.
    groupby
        Column of ``obs``: each group is a query. Cells without a group are left out.
    cells
        Names, positions or a mask of the cells: each is a query, or, with ``groupby``, only they are pooled. All by
        default.
    vectors
        Embedded queries (n, d) or (d,) instead of cells; they are called "0", "1", ...
    k
        Most hits of each query.
    max_distance
        Largest cosine distance of a hit, 0 to 2.
    where, exclude
        Filters on the metadata of the reference, see :meth:`scim.Reference.search`.
    max_per_group
        Column of the reference -> most hits of one of its groups, such as ``{"donor": 50}``.
    use_rep
        Embedding in ``obsm``; see :func:`scim.tl.annotate`.
    key_added
        Name of what is written.
    mod
        Modality of a MuData.
    layer
        Where the values are, for pooling and for an embedding that is missing; see :func:`scim.tl.embed`.
    copy
        Return a copy with the results (in memory, of a backed file too) and leave ``adata`` as it is.

    Returns
    -------
    None, or with ``copy`` an object of the type of ``adata``, with ``uns["scim_query"]``, a dict of

    - ``hits``: DataFrame with a row a hit: ``query``, ``rank``, ``row`` of the reference, ``cell_id``, ``distance``
      (cosine), ``pvalue`` (of the distance, small means far, see :func:`scim.tl.annotate`), and the metadata; read it
      with :func:`scim.get.hits`;
    - ``summary``: DataFrame with a row for each query and each value of label, study, sample, tissue and disease (where
      the reference has them) among its hits: ``n_cells``, ``fraction`` of the hits, ``enrichment`` (by how much that is
      more than its share of the cells searched), ``pvalue`` (hypergeometric) and ``fdr`` (Benjamini-Hochberg, within
      the query). Cells of one donor are not independent: read p-values as a way to order, not as proof;
    - ``coherence`` (groups only): DataFrame with a row a query: the group's cells are clustered in the embedding
      (k-means, up to 10 clusters), and ``coherence`` is the mean share of the clusters' 100 nearest reference cells
      that are hits of the centroid too. Near 1, the centroid speaks for all cells; near 0, the group is a mixture;
    - ``params``: parameters, names of the queries, reference, encoder, versions.

    Raises
    ------
    ValueError
        Too many hits would be kept; no query has counts; the embedding is of another encoder; filters leave no cell.
    KeyError
        A column, cell, ``use_rep`` or modality is not there; what is there is listed.

    Examples
    --------
    >>> import numpy as np
    >>> import scim
    >>> from scim.genes import GeneSpace
    >>> adata = scim.datasets.pbmc68k()
    >>> genes = GeneSpace.from_adata(adata)
    >>> matrix = np.random.default_rng(0).normal(size=(16, len(genes)))
    >>> encoder = scim.Encoder(
    ...     genes, {"output.weight": matrix, "output.bias": np.zeros(16)}
    ... )  # in place of a trained one
    >>> reference = scim.Reference.build(
    ...     "blood.scim", adata[100:], encoder, labels_key="cell_type", study_key="channel"
    ... )
    >>> new = adata[:100].copy()
    >>> scim.tl.query(new, reference, groupby="bulk_labels", k=20)
    >>> scim.get.hits(new, query="CD19+ B").shape[0]
    20
    """
    data = get_writable(adata, mod=mod, copy=copy, uns_key=key_added)
    _check_key_added(data, key_added)
    k = check_positive_int(k, argument="k")
    if vectors is not None and (groupby is not None or cells is not None):
        raise ValueError("vectors are queries of their own: leave out groupby and cells, or vectors.")
    reference = Reference.open(reference)
    allowed = reference.allowed(where=where, exclude=exclude)
    n_searched = int(allowed.sum())
    if k > n_searched:
        warnings.warn(
            f"k={k}, but the search covers {n_searched:,} reference cells: all of them are hits.",
            UserWarning,
            stacklevel=2,
        )
    queries, results = _queries(
        data, reference, groupby, cells, vectors, use_rep=use_rep, layer=layer, most=MAX_HITS // min(k, n_searched)
    )
    hits = reference.search(
        queries.vectors,
        min(k, n_searched),
        where=where,
        exclude=exclude,
        max_distance=max_distance,
        max_per_group=max_per_group,
    )
    content: dict[str, Any] = {
        "hits": hits_table(reference, queries.names, hits),
        "summary": summary_table(reference, queries.names, hits, allowed),
    }
    if groupby is not None:
        content["coherence"] = coherence_table(reference, queries, hits, where=where, exclude=exclude)
    if not (hits.indices >= 0).any():
        warnings.warn("No reference cell is a hit. Is max_distance too small?", UserWarning, stacklevel=2)
    record = {
        **describe_reference(reference),
        "kind": "vectors" if vectors is not None else "cells" if groupby is None else "groups",
        "queries": queries.names,
        "groupby": groupby,
        "k": k,
        "max_distance": max_distance,
        "where": describe_filter(where),
        "exclude": describe_filter(exclude),
        "max_per_group": describe_filter(max_per_group),
        "n_searched": n_searched,
        "use_rep": use_rep,
    }
    results.replace[key_added] = {"params": plain(record), **content}
    return results.write(adata, mod=mod, copy=copy)


def _check_key_added(data: AnnData, key_added: str) -> None:
    there = data.uns.get(key_added, {})
    if there and "hits" not in there:
        raise ValueError(
            f"uns[{key_added!r}] holds {', '.join(map(repr, there))}, which a query would erase. Choose another key_added=."
        )


def _queries(
    data: AnnData,
    reference: Reference,
    groupby: str | None,
    cells: Any,
    vectors: Any,
    *,
    use_rep: str,
    layer: str | None,
    most: int,
) -> tuple[Queries, Results]:
    """Make the queries, and what is to be written of an embedding that they needed."""
    encoder = reference.encoder
    if vectors is not None:
        given = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
        if given.ndim != 2 or given.shape[1] != encoder.n_latent or not np.isfinite(given).all():
            raise ValueError(
                f"vectors must be finite numbers (n, {encoder.n_latent}), as the reference's encoder makes them, got "
                f"{np.shape(vectors)}. scim.tl.embed makes them of cells."
            )
        _check_number(len(given), most)
        return _directed(Queries([str(i) for i in range(len(given))], given, [])), Results()
    rows = pick_cells(data, cells)
    if groupby is None:
        _check_number(len(rows), most)
        embedding = get_embedding(data, encoder, use_rep=use_rep, layer=layer)
        names = [str(name) for name in data.obs_names[rows]]
        return _directed(Queries(names, embedding.vectors[rows], [])), embedding.results
    names, members, pooled = pool_groups(
        data, encoder.genes, groupby, rows, layer=layer, record=embedding_record(data, use_rep), most=most
    )
    embedding = get_embedding(data, encoder, use_rep=use_rep, layer=layer)
    found = [embedding.vectors[mine] for mine in members]
    return _directed(Queries(names, encoder(pooled, kind="counts"), found)), embedding.results


def _check_number(n: int, most: int) -> None:
    if n == 0:
        raise ValueError("There is no query: no cell was chosen.")
    if n > most:
        raise ValueError(
            f"{n:,} queries would leave more than {MAX_HITS:,} hits. Search with groups (groupby=), choose cells "
            f"(cells=, up to {most:,} at this k), or ask for fewer hits (k=)."
        )


def _directed(queries: Queries) -> Queries:
    """Refuse queries of which none has counts, and warn of those that have none."""
    empty = [name for name, vector in zip(queries.names, queries.vectors, strict=True) if not vector.any()]
    if len(empty) == len(queries.names):
        raise ValueError("No query has counts in the encoder's genes, so there is nothing to look for.")
    if empty:
        warnings.warn(
            f"{len(empty)} queries have no counts in the encoder's genes and get no hits: {', '.join(empty[:5])}"
            + (", ..." if len(empty) > 5 else "."),
            UserWarning,
            stacklevel=4,
        )
    return queries
