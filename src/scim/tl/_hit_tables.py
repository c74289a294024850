"""Tables of a search: the hits, what they have in common, and whether a centroid speaks for its group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .._compiled import njit
from ..reference.store import CELL_ID
from ._results import storable

if TYPE_CHECKING:
    from ..reference import Hits, Reference
    from ._search_input import Queries

#: Metadata that hits are summarised by, where the reference has them.
SUMMARY_COLUMNS = ("label", "study", "sample", "tissue", "disease")
#: Clusters of a group's cells, neighbours of each, and seed of the clustering, as SCimilarity takes them.
_CLUSTERS = 10
_NEIGHBOURS = 100
_SEED = 4
#: Numbers in the largest table of a block of queries.
_BLOCK = 4_000_000
#: Share of the hits from one study, and fewest of these, that are worth a warning where it has less than that share of
#: the cells searched.
_MOST_OF_THEM = 0.8
_FEWEST_HITS = 10
_HALF = 0.5
_OWN_COLUMNS = ("query", "rank", "row", "cell_id", "distance", "pvalue")


def hits_table(reference: Reference, names: Sequence[str], hits: Hits) -> pd.DataFrame:
    """Write hits as a table, a row each.

    Parameters
    ----------
    reference
        Where they were found.
    names
        Name of each query, (m,).
    hits
        Of m queries.

    Returns
    -------
    DataFrame of columns that h5ad and zarr files take: numbers, text, and categories.
    """
    found = hits.indices >= 0
    every = found.ravel() if not found.all() else slice(None)
    query, place = (np.broadcast_to(a, found.shape).ravel()[every] for a in np.ogrid[: len(found), : found.shape[1]])
    rows, distances = hits.indices.ravel()[every], hits.distances.ravel()[every]
    others = [column for column in reference.obs if column != CELL_ID]
    with ThreadPoolExecutor(1) as pool:  # texts are made in one thread, and what needs none in another
        columns = pool.submit(_metadata, reference, rows, others)
        pvalues = pool.submit(reference.distance_pvalue, distances)
        first = {
            "query": _named(names, query),
            "rank": place.astype(np.int32),
            "row": rows,
            "cell_id": reference.metadata(rows, CELL_ID)[CELL_ID].to_numpy(dtype=object),
            "distance": distances,
            "pvalue": np.asarray(pvalues.result(), dtype=np.float64),
        }
        return pd.DataFrame(first | columns.result(), copy=False)


def _metadata(reference: Reference, rows: np.ndarray, columns: list[str]) -> dict[str, Any]:
    """Columns of the metadata, under names that no column of the hits themselves has."""
    found = {}
    for column, values in reference.metadata(rows, columns).items():
        name = storable(str(column))
        found[f"reference_{name}" if name in _OWN_COLUMNS else name] = _storable(values)
    return found


def _named(names: Sequence[str], codes: np.ndarray) -> pd.Categorical[str]:
    """Categories in the order of the queries; names that occur twice (cells of several samples) are one."""
    place = {name: i for i, name in enumerate(dict.fromkeys(names))}
    own = np.array([place[name] for name in names], dtype=np.int64)
    return pd.Categorical.from_codes(own[codes], pd.Index(list(place)))


def _storable(values: pd.Series) -> Any:
    """Numbers as they are; all else as categories of text, in which values may be missing."""
    if values.dtype.kind in "iufb" and not isinstance(values.dtype, pd.CategoricalDtype):
        return values.array if values.isna().any() else values.to_numpy()
    found = values.astype("category").cat
    codes, texts = found.codes.to_numpy(), found.categories.astype(str).to_numpy(dtype=object)
    used = np.flatnonzero(np.bincount(codes[codes >= 0], minlength=len(texts)))
    names, place = np.unique(texts[used], return_inverse=True)
    # A missing value, -1, stands at the end and stays one.
    back = np.full(len(texts) + 1, -1, dtype=np.int64)
    back[used] = place
    return pd.Categorical.from_codes(back[codes], pd.Index(names))


def summary_table(reference: Reference, names: Sequence[str], hits: Hits, allowed: np.ndarray) -> pd.DataFrame:
    """Count the hits of each query by label, study, sample, tissue and disease, and compare with the cells searched.

    Parameters
    ----------
    reference
        Where they were found.
    names
        Name of each query, (m,).
    hits
        Of m queries.
    allowed
        Cells that were searched, bool (n_cells,).

    Returns
    -------
    DataFrame with a row for each query and value that occurs among its hits. ``fraction`` and ``enrichment`` are
    relative to the hits, and the cells searched, for which the column is known. ``pvalue`` counts samples, not cells:
    of all pairs of a sample and a value that were searched, so many were hit, and among these so many have the value
    (hypergeometric); a donor with many cells counts once. It is 1 where a value has no larger share of the hits than
    of the cells searched, and missing for samples, which say nothing of themselves.
    """
    columns = [column for column in SUMMARY_COLUMNS if column in reference.obs]
    samples = _samples(reference)
    values = [_Values.of(reference, column, samples, allowed) for column in columns]
    parts = [part for block in _blocks(len(names), values) for part in _summarise(hits.indices[block], block, values)]
    table = pd.concat(parts, ignore_index=True)
    order = np.lexsort((-table["n_cells"], table["column"].map({c: i for i, c in enumerate(columns)}), table["code"]))
    table = table.iloc[order].reset_index(drop=True)
    table.insert(0, "query", pd.Series(_named(names, table.pop("code").to_numpy(dtype=np.int64))))
    for column in ("column", "value"):
        table[column] = pd.Categorical(table[column])
    return table


@dataclass(frozen=True, eq=False)
class _Values:
    """One column of the metadata.

    Attributes
    ----------
    column, values
        Its name, and its values among the cells searched, (v,).
    searched
        Cells searched of each value, (v,).
    pairs
        Which pair of sample and value each cell belongs to, -1 where the value is missing or it was not searched,
        int32 (n_cells,).
    pair_values
        Value of each pair, (p,).
    """

    column: str
    values: np.ndarray
    searched: np.ndarray
    pairs: np.ndarray
    pair_values: np.ndarray

    @classmethod
    def of(cls, reference: Reference, column: str, samples: np.ndarray, allowed: np.ndarray) -> _Values:
        codes, values = reference.codes(column)
        if not allowed.all():
            codes = np.where(allowed, codes, -1)
        searched = np.bincount(codes + 1, minlength=len(values) + 1)[1:]
        # Values that a filter left nothing of were not searched, and are not tested.
        kept = np.flatnonzero(searched)
        place = np.append(np.cumsum(searched > 0) - 1, -1)
        n_samples = int(samples.max(initial=-1)) + 1
        both = np.where(codes < 0, -1, samples * len(kept) + place[codes])
        different, pairs = _used(both, n_samples * len(kept))
        names = np.array([str(v) for v in values], dtype=object)[kept]
        return cls(column, names, searched[kept], pairs, different % max(len(kept), 1))


def _used(codes: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Those of ``n`` codes that occur, ascending, and the place of each cell's among them, int32; -1 stays."""
    if n > 4 * len(codes) + 1_000_000:  # most do not occur
        different, found = np.unique(codes, return_inverse=True)
        missing = int(different[:1].sum() < 0)
        return different[missing:], (found.ravel() - missing).astype(np.int32)
    there = np.zeros(n + 1, dtype=bool)  # the last is -1
    there[codes] = True
    place = np.append(np.cumsum(there[:n], dtype=np.int32) - 1, -1).astype(np.int32)
    return np.flatnonzero(there[:n]), place[codes]


def _samples(reference: Reference) -> np.ndarray:
    """Sample of each cell, as far as the reference knows: its sample, else its donor, within its study; (n_cells,)."""
    there = [c for c in ("sample", "donor") if c in reference.obs][:1]
    samples, n = np.zeros(reference.n_rows, dtype=np.int64), 1
    for column in ["study", *there]:
        codes, values = reference.codes(column)
        different, places = _used(samples * (len(values) + 1) + codes + 1, n * (len(values) + 1))
        samples, n = places.astype(np.int64), len(different)
    return samples


def _blocks(n: int, values: Sequence[_Values]) -> Iterator[np.ndarray]:
    size = max(1, _BLOCK // max(1, sum(len(v.values) for v in values)))
    for start in range(0, n, size):
        yield np.arange(start, min(start + size, n))


def _summarise(indices: np.ndarray, block: np.ndarray, values: Sequence[_Values]) -> Iterator[pd.DataFrame]:
    """Rows of the summary for a block of queries, a table for each column."""
    from scipy.stats import false_discovery_control, hypergeom

    pass

    counts: list[np.ndarray] = []
    hit_samples: list[np.ndarray] = []
    pvalues: list[np.ndarray] = []
    for one in values:
        count, samples = np.zeros((2, len(indices), len(one.values)), dtype=np.int64)
        count_hits(indices, one.pairs, one.pair_values, count, samples)
        of_value, drawn = np.bincount(one.pair_values, minlength=len(one.values)), samples.sum(axis=1)
        pvalue = np.ones(count.shape)
        q, v = np.nonzero(count)
        # Many queries have the same numbers, and SciPy takes its time for each.
        shape = int(samples.max(initial=0)) + 1, int(of_value.max(initial=0)) + 1, int(drawn.max(initial=0)) + 1
        cases, place = np.unique(
            np.ravel_multi_index((samples[q, v], of_value[v], drawn[q]), shape), return_inverse=True
        )
        hit, of_it, of_all = np.unravel_index(cases, shape)
        tested = hypergeom.sf(hit - 1, len(one.pair_values), of_it, of_all)[place]
        # One cell makes a sample a hit: many may be, of a value that is rarer among the hits than among all.
        expected = count.sum(axis=1)[q] * (one.searched[v] / max(one.searched.sum(), 1))
        pvalue[q, v] = np.where(count[q, v] > expected, tested, 1.0)
        counts.append(count)
        hit_samples.append(samples)
        pvalues.append(pvalue)
    # Values that were searched but never hit were tested as well: their p-value is 1. Samples do not test samples.
    raw = np.hstack(pvalues)
    raw[:, np.concatenate([np.full(len(one.values), one.column == "sample") for one in values])] = np.nan
    tested, fdr = ~np.isnan(raw[:1]).ravel(), np.full(raw.shape, np.nan)
    fdr[:, tested] = false_discovery_control(np.clip(raw[:, tested], 0.0, 1.0), axis=1, method="bh")
    start = 0
    for one, count, samples in zip(values, counts, hit_samples, strict=True):
        q, v = np.nonzero(count)
        fraction = count[q, v] / count.sum(axis=1)[q]
        yield pd.DataFrame(
            {
                "code": block[q],
                "column": np.full(len(q), one.column, dtype=object),
                "value": one.values[v],
                "n_cells": count[q, v].astype(np.int64),
                "n_samples": samples[q, v],
                "fraction": fraction,
                "enrichment": fraction * one.searched.sum() / one.searched[v],
                "pvalue": raw[q, start + v],
                "fdr": fdr[q, start + v],
            }
        )
        start += len(one.values)


def one_sided(summary: pd.DataFrame) -> list[str]:
    """Name the queries with most of ten hits or more in one study, where that has less than half of the cells."""
    studies = summary[summary["column"] == "study"]
    searched = studies["fraction"] / studies["enrichment"]
    chosen = studies[(studies["fraction"] > _MOST_OF_THEM) & (searched < _HALF) & (studies["n_cells"] >= _FEWEST_HITS)]
    return [str(name) for name in chosen["query"].unique()]


def coherence_table(reference: Reference, queries: Queries, hits: Hits, **filters: Any) -> pd.DataFrame:
    """Say of each group how well its centroid speaks for its cells.

    Parameters
    ----------
    reference
        What was searched.
    queries
        Groups with the vectors of their cells.
    hits
        Of the centroids.
    **filters
        Filters and caps of the search, and who searches.

    Returns
    -------
    DataFrame: ``query``, ``n_cells``, ``n_clusters``, and ``coherence``, the mean share of the clusters' nearest cells
    (100, or as many as the centroid has hits) that are among the centroid's hits; 0 for a centroid without hits.
    """
    rows = []
    for name, members, found in zip(queries.names, queries.members, hits.indices, strict=True):
        own = found[found >= 0]
        centres = _cluster(members[members.any(axis=1)]) if len(own) else np.empty((0, members.shape[1]))
        shared = 0.0
        if len(centres):
            near = reference.search(centres, min(_NEIGHBOURS, len(own)), **filters).indices
            shared = float(np.isin(near, own).mean())
        rows.append((name, len(members), len(centres), shared))
    table = pd.DataFrame(rows, columns=["query", "n_cells", "n_clusters", "coherence"])
    table["query"] = pd.Categorical(table["query"], categories=list(dict.fromkeys(queries.names)))
    return table


def _cluster(vectors: np.ndarray) -> np.ndarray:
    """Centres of up to ten clusters, (n_clusters, d): k-means of SciPy with SCimilarity's seed."""
    from scipy.cluster.vq import kmeans

    if len(vectors) <= 1:
        return vectors
    centres, _ = kmeans(vectors, min(_CLUSTERS, len(vectors)), seed=_SEED)
    return np.asarray(centres)


@njit(nogil=True)
def count_hits(indices, pairs, pair_values, n_cells, n_samples):  # type: ignore[no-untyped-def]
    """Count the hits of each query, -1 for none, by value, and the samples that they come from.

    ``pairs`` says which pair of a sample and a value each cell belongs to, -1 for none, and ``pair_values`` the value.
    """
    seen = np.full(len(pair_values), -1, dtype=np.int32)
    for q in range(len(indices)):
        for row in indices[q]:
            pair = pairs[row] if row >= 0 else -1
            if pair >= 0:
                value = pair_values[pair]
                n_cells[q, value] += 1
                if seen[pair] != q:
                    seen[pair] = q
                    n_samples[q, value] += 1
