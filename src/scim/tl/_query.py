"""Find the reference cells most like given cells, groups or vectors."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _keys
from .._validate import check_fraction, check_positive_int, first_names, get_adata
from .._warn import warn
from ..index import MAX_HITS
from ..reference import Reference
from ._cells import find_embedding, recorded_genes
from ._hit_tables import coherence_table, hits_table, one_sided, summary_table
from ._results import check_writable, copy_of, filter_text, merge_results, write_results
from ._search_input import Queries, pick_cells, pool_groups

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from ._cells import Embedded


def query(
    adata: Any,
    reference: Reference | str | Path | None = None,
    *,
    groupby: str | None = None,
    cells: Any = None,
    vectors: np.ndarray | None = None,
    k: int | None = 1000,
    max_distance: float | None = None,
    where: Any = None,
    exclude: Any = None,
    max_per_group: Mapping[str, int] | None = None,
    recall: float | None = None,
    use_rep: str = _keys.obsm_embedding(),
    key_added: str = _keys.QUERY,
    mod: str | None = None,
    layer: str | None = None,
    client: Any = None,
    copy: bool = False,
) -> Any:
    """Find the reference cells most like given ones.

    A query is a cell, a group of cells, or a vector. A group is searched with its centroid: the counts of its cells are
    summed, scaled to 1e4, logged and embedded as if they were one cell (SCimilarity, Heimberg et al. 2025). Where the
    data are log1p values they are taken back to the linear scale before they are summed, so that every cell counts the
    same, however deeply it was sequenced.

    A warning names queries with more than four in five hits, and ten or more, in one study that has less than half of
    the cells searched. Nothing is written if anything fails.

    Parameters
    ----------
    adata
        AnnData or MuData; in memory, backed or Dask. A view becomes an AnnData of its own.
    reference
        Reference, or the path or name of one; the bundled reference of blood by default.
    groupby
        Column of ``obs``: each group is a query. Cells without a group are left out.
    cells
        Names, positions (or a slice of them) or a mask of the cells: each is a query, or, with ``groupby``, only they
        are pooled. All by default.
    vectors
        Embedded queries (n, d) or (d,) instead of cells; they are called "0", "1", ...
    k
        Most hits of each query. None: every cell within ``max_distance``.
    max_distance
        Largest cosine distance of a hit, 0 to 2.
    where, exclude
        Filters on the metadata of the reference, see :meth:`scim.Reference.search`.
    max_per_group
        Column of the reference -> most hits of one of its groups, such as ``{"donor": 50}``.
    recall
        Share of the true neighbours to find, see :meth:`scim.Reference.search`.
    use_rep
        Embedding in ``obsm``; see :func:`scim.tl.annotate`.
    key_added
        Name of what is written.
    mod
        Modality of a MuData.
    layer
        Where the values are, for pooling and for an embedding that is missing; see :func:`scim.tl.embed`.
    client
        A ``distributed.Client``: workers of its cluster search the reference, see :meth:`scim.Reference.search`.
    copy
        Return a copy with the results (in memory, of a backed file too) and leave ``adata`` as it is.

    Returns
    -------
    None, or with ``copy`` an object of the type of ``adata``, with ``uns["scim_query"]``, a dict of

    - ``hits``: DataFrame with a row a hit: ``query``, ``rank``, ``row`` of the reference, ``cell_id``, ``distance``
      (cosine), ``pvalue`` (share of the reference's cells whose nearest cell of another study is as far: small means
      far), and the metadata; read it with :func:`scim.get.hits`. What the encoder never saw comes to lie near what it
      knows, and has no small p-value: whether a query is anything like the reference, ``obs["scim_novelty"]`` of
      :func:`scim.tl.annotate` tells, by expression;
    - ``summary``: DataFrame with a row for each query and each value of label, study, sample, tissue and disease (where
      the reference has them) among its hits: ``n_cells``, ``n_samples``, ``fraction`` of the hits, ``enrichment`` (by
      how much that is more than its share of the cells searched), ``pvalue`` (hypergeometric, of samples and not of
      cells, so that one donor with many cells does not carry it, and few samples prove little; 1 where the value is not
      enriched, missing for samples) and ``fdr`` (Benjamini-Hochberg, within the query);
    - ``coherence`` (groups only): DataFrame with a row a query: the group's cells are clustered in the embedding
      (k-means, up to 10 clusters), and ``coherence`` is the mean share of the clusters' 100 nearest reference cells
      that are hits of the centroid too. Near 1, the centroid speaks for all cells; near 0, the group is a mixture;
    - ``params``, ``queries``, ``reference``, ``versions``: what was asked, and of what.

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
    >>> from scim.genes._space import GeneSpace
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
    data = get_adata(adata, mod=mod)
    _check_key_added(data, key_added)
    check_writable(data, _keys.DEFAULT, copy=copy)
    check_writable(data, key_added, copy=copy)
    if k is not None:
        k = check_positive_int(k, argument="k")
    if recall is not None:
        check_fraction(recall, argument="recall")
    if vectors is not None and (groupby is not None or cells is not None):
        raise ValueError("vectors are queries of their own: leave out groupby and cells, or vectors.")
    opened = Reference.open(reference)
    # Filters are checked before the cells are embedded, which takes longer.
    allowed = opened.allowed(where=where, exclude=exclude)
    n_searched = int(np.count_nonzero(allowed))
    most = MAX_HITS // min(k or 1, n_searched)
    if vectors is not None:
        queries, embedded = _given(vectors, opened, most), None
    else:
        queries, embedded = _from_cells(data, opened, groupby, cells, use_rep=use_rep, layer=layer, most=most)
    _warn_of_empty(queries)
    filters = {"where": where, "exclude": exclude, "max_per_group": max_per_group, "recall": recall, "client": client}
    hits = opened.search(queries.vectors, k, max_distance=max_distance, **filters)
    with ThreadPoolExecutor(1) as other:  # what each takes longest for lets the other go on
        summary = other.submit(summary_table, opened, queries.names, hits, allowed)
        content: dict[str, Any] = {"hits": hits_table(opened, queries.names, hits), "summary": summary.result()}
    if groupby is not None:
        content["coherence"] = coherence_table(opened, queries, hits, **filters)
    if content["hits"].empty:
        warn("No reference cell is a hit. Is max_distance too small?")
    if names := one_sided(content["summary"]):
        warn(
            f"Most hits of {len(names)} of {len(queries.names)} queries come from one study: "
            f"{first_names(map(repr, names))}. They may show what that study has in common rather than a kind "
            "of cell; see max_per_group=."
        )
    params = {
        "kind": "vectors" if vectors is not None else "cells" if groupby is None else "groups",
        "groupby": groupby or "",
        "k": k or n_searched,
        "max_distance": 2.0 if max_distance is None else float(max_distance),
        "where": filter_text(where),
        "exclude": filter_text(exclude),
        "max_per_group": filter_text(dict(max_per_group) if max_per_group else None),
        "recall": "" if recall is None else recall,
        "use_rep": use_rep,
    }
    content |= {"params": params, "queries": queries.names, **_record(opened, n_searched)}
    embedding = {} if embedded is None else embedded.results(use_rep, use_rep.removeprefix("X_"))
    out = copy_of(adata) if copy else adata
    target = get_adata(out, mod=mod)
    write_results(target, merge_results(embedding, {"uns": {key_added: content}}), replace=[key_added])
    return out if copy else None


def _check_key_added(data: AnnData, key_added: str) -> None:
    there = data.uns.get(key_added)
    if there is not None and not (isinstance(there, Mapping) and "hits" in there):
        raise ValueError(
            f"adata.uns[{key_added!r}] is there, and is no result of a query. Choose another key_added=, or delete it."
        )


def _given(vectors: Any, reference: Reference, most: int) -> Queries:
    """Check vectors of the user and name them by their rows."""
    n_latent = reference.n_latent
    try:
        given = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    except (ValueError, TypeError) as error:  # text, or rows of several lengths
        raise TypeError(f"vectors must be numbers (n, {n_latent}), got {vectors!r:.60}.") from error
    if given.ndim != 2 or given.shape[1] != n_latent or not np.isfinite(given).all():
        raise ValueError(
            f"vectors must be finite numbers (n, {n_latent}), as the reference's encoder makes them, got "
            f"{np.shape(vectors)}. scim.tl.embed makes them of cells."
        )
    _check_number(len(given), most)
    return Queries([str(i) for i in range(len(given))], given, [])


def _from_cells(
    data: AnnData, reference: Reference, groupby: str | None, cells: Any, *, use_rep: str, layer: str | None, most: int
) -> tuple[Queries, Embedded]:
    """Make a query of each cell or group, and the embedding that they come from."""
    rows = pick_cells(data, cells)
    if groupby is None:
        _check_number(len(rows), most)
        embedded = find_embedding(data, reference, use_rep=use_rep, key=_keys.DEFAULT, layer=layer)
        return Queries([str(name) for name in data.obs_names[rows]], embedded.vectors[rows], []), embedded
    names, members, pooled = pool_groups(
        data,
        reference.encoder.genes,
        groupby,
        rows,
        layer=layer,
        gene_column=recorded_genes(data, use_rep),
        most=most,
    )
    embedded = find_embedding(data, reference, use_rep=use_rep, key=_keys.DEFAULT, layer=layer)
    found = [embedded.vectors[mine] for mine in members]
    return Queries(names, reference.encoder(pooled, kind="counts"), found), embedded


def _check_number(n: int, most: int) -> None:
    if n == 0:
        raise ValueError("vectors is empty: there is nothing to search with.")
    if n > most:
        raise ValueError(
            f"{n:,} queries would leave more than {MAX_HITS:,} hits. Search with groups (groupby=), choose cells "
            f"(cells=, up to {most:,} at this k), or ask for fewer hits (k=)."
        )


def _warn_of_empty(queries: Queries) -> None:
    """Refuse queries of which none has counts, and warn of those that have none."""
    empty = [name for name, vector in zip(queries.names, queries.vectors, strict=True) if not vector.any()]
    if len(empty) == len(queries.names):
        raise ValueError("No query has counts in the encoder's genes, so there is nothing to look for.")
    if empty:
        warn(
            f"{len(empty)} queries have no counts in the encoder's genes and get no hits: "
            f"{first_names(map(repr, empty))}."
        )


def _record(reference: Reference, n_searched: int) -> dict[str, Any]:
    info = reference.info()
    return {
        "reference": {
            "name": reference.path.name,
            "cells": info["cells"],
            "cells_searched": n_searched,
            "encoder_id": info["encoder"],
            "calibration": info["calibration"],
        },
        "versions": info["made_with"],
    }
