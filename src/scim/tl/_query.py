"""scim.tl.query."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _keys
from .._validate import check_fraction, check_positive_int, first_names, get_adata
from .._warn import warn
from ..index import MAX_HITS, Hits
from ..reference import Reference
from ._cells import NewCells
from ._embedding import choose_embedding, record_of, recorded_genes
from ._hit_tables import coherence_table, dominated_by_one_study, hits_table, summary_table
from ._results import check_writable, copy_of, filter_text, merge_results, reference_record, write_results
from ._search_input import Queries, pick_cells, pool_groups

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from ..genes import OrganismChoice


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
    use_rep: str | None = None,
    key_added: str = _keys.QUERY,
    mod: str | None = None,
    layer: str | None = None,
    organism: OrganismChoice = "auto",
    client: Any = None,
    copy: bool = False,
) -> Any:
    """Find the reference cells that are most similar to cells, groups of cells, or vectors.

    A group is searched with its centroid: the counts of its cells are summed, scaled to 1e4, logged and embedded like
    one cell (SCimilarity, Heimberg et al. 2025). log1p values are transformed back to the linear scale before they are
    summed, so that all cells have the same weight at any sequencing depth.

    A warning names queries with ten or more hits, of which more than 80 % come from one study that has less than half
    of the cells searched. If an error is raised, nothing is written.

    Parameters
    ----------
    adata
        AnnData or MuData, in memory, backed or Dask. A view becomes an AnnData of its own.
    reference
        Reference, or its path or name. The default is the bundled reference of the human body,
        ``"human"``; ``"blood"`` is a smaller one.
    groupby
        Column of ``obs``: each group is a query. Cells without a group are left out.
    cells
        Names, positions (or a slice of positions) or a mask of cells. Each cell is a query; with ``groupby``, only
        these cells are pooled. None uses all cells.
    vectors
        Embedded queries (n, d) or (d,) instead of cells, named "0", "1", ...
    k
        Largest number of hits of a query. None: all cells within ``max_distance``.
    max_distance
        Largest cosine distance of a hit, 0 to 2.
    where, exclude
        Filters on the metadata of the reference, see :meth:`scim.Reference.search`.
    max_per_group
        Column of the reference -> largest number of hits from each group, such as ``{"donor": 50}``.
    recall
        Share of the true nearest neighbours to find, see :meth:`scim.Reference.search`.
    use_rep
        Name of the embedding in ``obsm``. None: ``f"X_{key_added}"`` or ``"X_scim"``, if the encoder of the reference
        made it; otherwise the cells are embedded, as ``"X_scim"``, or as ``f"X_{key_added}"`` if that is of another
        encoder. See :func:`scim.tl.annotate`.
    key_added
        Name of the result in ``uns``.
    mod
        Modality of a MuData.
    layer
        Layer with the values of groups, and of cells that are not embedded; see :func:`scim.tl.embed`.
    organism
        Organism of the cells: ``"human"``, ``"mouse"`` or ``"auto"``; see :func:`scim.tl.embed`.
    client
        A ``distributed.Client``: workers of its cluster search the reference, see :meth:`scim.Reference.search`.
    copy
        Return a copy with the results (in memory, also of a backed file), and do not change ``adata``.

    Returns
    -------
    None, or with ``copy`` an object of the type of ``adata``. Writes ``uns["scim_query"]``, a dict of:

    - ``hits``: DataFrame with one row for each hit, see :func:`scim.get.hits`: ``query``, ``rank``, ``row`` of the
      reference, ``cell_id``, ``distance`` (cosine), ``pvalue`` (share of reference cells that are as far from the
      nearest cell of another study: small means far), and the metadata. Encoders place unknown cells near known ones,
      so that these do not have small p-values. To test whether cells are in the reference, use ``obs["scim_novelty"]``
      of :func:`scim.tl.annotate`, which compares expression.
    - ``summary``: DataFrame with one row for each query and each label, study, sample, tissue or disease among its hits
      (if the reference has these columns): ``n_cells``, ``n_samples``, ``fraction`` of the hits, ``enrichment``
      (fraction / share of the cells searched), ``pvalue`` and ``fdr`` (Benjamini-Hochberg, within the query). The
      p-value is hypergeometric and counts samples, not cells, so that one donor with many cells is not enough. It is 1
      for a value that is not enriched, and missing for samples.
    - ``coherence`` (groups only): DataFrame with one row for each group. The cells of the group are clustered in the
      embedding (k-means, up to 10 clusters). ``coherence`` is the mean share of the 100 nearest reference cells of a
      cluster that are also hits of the centroid. Near 1, the centroid represents all cells. Near 0, the group is a
      mixture.
    - ``params``, ``queries``, ``reference``, ``versions``: parameters, names of the queries, and the reference.

    Raises
    ------
    ValueError
        There would be too many hits; no query has counts; the embedding was made by another encoder; filters leave no
        cell.
    KeyError
        A column, cell, ``use_rep`` or modality is not there. The message lists the existing names.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc10k_protein()
    >>> scim.tl.query(adata, "blood", groupby="gate", k=20, max_per_group={"study": 10})
    >>> scim.get.hits(adata, query="B")["label"].value_counts().index[0]
    'B cell'
    """
    data = get_adata(adata, mod=mod)
    _check_key_added(data, key_added)
    for key in (_keys.DEFAULT, key_added):
        check_writable(data, key, copy=copy)
    k = None if k is None else check_positive_int(k, argument="k")
    if recall is not None:
        check_fraction(recall, argument="recall")
    if vectors is not None and (groupby is not None or cells is not None):
        raise ValueError("vectors are queries of their own: leave out groupby and cells, or vectors.")
    opened = Reference.open(reference).pinned()
    # Filters are checked before the cells are embedded, which takes longer.
    allowed = opened.allowed(where=where, exclude=exclude)
    n_searched = int(np.count_nonzero(allowed))
    most = MAX_HITS // min(k or 1, n_searched)
    new = None
    if vectors is not None:
        queries = _given(vectors, opened, most)
    else:
        given: dict[str, Any] = {"use_rep": use_rep, "key": key_added, "layer": layer, "organism": organism}
        queries, new = _from_cells(data, opened, groupby, cells, most=most, **given)
    _check_counts(queries)
    filters = {"where": where, "exclude": exclude, "max_per_group": max_per_group, "recall": recall, "client": client}
    hits = opened.search(queries.vectors, k, max_distance=max_distance, **filters)
    content = _tables(opened, queries, hits, allowed)
    if groupby is not None:
        content["coherence"] = coherence_table(opened, queries, hits, **filters)
    params = {
        "kind": "vectors" if vectors is not None else "cells" if groupby is None else "groups",
        "groupby": groupby or "",
        "k": k or n_searched,
        "max_distance": 2.0 if max_distance is None else float(max_distance),
        "where": filter_text(where),
        "exclude": filter_text(exclude),
        "max_per_group": filter_text(dict(max_per_group) if max_per_group else None),
        "recall": "" if recall is None else recall,
        "use_rep": use_rep or "" if new is None else new.use_rep,
    }
    content |= {"params": params, "queries": queries.names, **reference_record(opened, cells_searched=n_searched)}
    if new is not None and new.use_rep == _keys.obsm_embedding(key_added):
        content["embed"] = dict(record_of(data, new.use_rep))  # the earlier results are replaced
    results = merge_results({"uns": {key_added: content}}, {} if new is None else new.results())
    out = copy_of(adata) if copy else adata
    write_results(get_adata(out, mod=mod), results, replace=[key_added])
    return out if copy else None


def _tables(reference: Reference, queries: Queries, hits: Hits, allowed: np.ndarray) -> dict[str, Any]:
    """Make the tables of hits and their summary, and warn of hits that show a study rather than a cell type."""
    with ThreadPoolExecutor(1) as pool:  # each runs mostly outside the interpreter lock
        summary = pool.submit(summary_table, reference, queries.names, hits, allowed)
        content = {"hits": hits_table(reference, queries.names, hits), "summary": summary.result()}
    if content["hits"].empty:
        warn("No reference cell is a hit. Is max_distance too small?")
    if names := dominated_by_one_study(content["summary"]):
        warn(
            f"Most hits of {len(names)} of {len(queries.names)} queries come from one study: "
            f"{first_names(map(repr, names))}. They may be similar to that study rather than to a cell type. Limit "
            "hits with max_per_group=."
        )
    return content


def _check_key_added(data: AnnData, key_added: str) -> None:
    there = data.uns.get(key_added)
    if there is not None and not (isinstance(there, Mapping) and "hits" in there):
        raise ValueError(
            f"adata.uns[{key_added!r}] is not a result of scim.tl.query. Choose another key_added=, or delete it."
        )


def _given(vectors: Any, reference: Reference, most: int) -> Queries:
    """Check vectors of the user and name them by their rows."""
    n_latent = reference.n_latent
    try:
        given = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    except (ValueError, TypeError) as error:  # text, or rows of different lengths
        raise TypeError(f"vectors must be numbers (n, {n_latent}), got {vectors!r:.60}.") from error
    if given.ndim != 2 or given.shape[1] != n_latent or not np.isfinite(given).all():
        raise ValueError(
            f"vectors must be finite numbers (n, {n_latent}), from the encoder of the reference, got shape "
            f"{np.shape(vectors)}. Make them with scim.tl.embed."
        )
    _check_number(len(given), most)
    return Queries([str(i) for i in range(len(given))], given, [])


def _from_cells(
    data: AnnData,
    reference: Reference,
    groupby: str | None,
    cells: Any,
    *,
    use_rep: str | None,
    key: str,
    layer: str | None,
    organism: OrganismChoice,
    most: int,
) -> tuple[Queries, NewCells]:
    """Make a query of each cell or group, and return the embedded cells."""
    rows, pools = pick_cells(data, cells), None
    if groupby is None:
        _check_number(len(rows), most)
    else:
        name, _ = choose_embedding(data, reference, use_rep, key, usual_first=True)
        places = {"layer": layer, **recorded_genes(data, name, organism)}
        pools = pool_groups(data, reference.encoder.genes, groupby, rows, most=most, **places)
    new = NewCells.read(data, reference, use_rep=use_rep, key=key, layer=layer, organism=organism, usual_first=True)
    if pools is None:
        return Queries([str(name) for name in data.obs_names[rows]], new.vectors[rows], []), new
    names, members, pooled = pools
    found = [new.vectors[mine] for mine in members]
    return Queries(names, reference.encoder(pooled, kind="counts"), found), new


def _check_number(n: int, most: int) -> None:
    if n == 0:
        raise ValueError("vectors is empty. Give at least one vector.")
    if n > most:
        raise ValueError(
            f"{n:,} queries would have more than {MAX_HITS:,} hits. Search with groups (groupby=), choose cells "
            f"(cells=, up to {most:,} at this k), or ask for fewer hits (k=)."
        )


def _check_counts(queries: Queries) -> None:
    """Raise if no query has counts, and warn of queries without counts."""
    empty = [name for name, vector in zip(queries.names, queries.vectors, strict=True) if not vector.any()]
    if len(empty) == len(queries.names):
        raise ValueError("No query has counts in the genes of the encoder. Choose other cells, or another layer.")
    if empty:
        warn(
            f"{len(empty)} queries have no counts in the genes of the encoder and get no hits: "
            f"{first_names(map(repr, empty))}."
        )
