"""Tables of a search: hits, summary of their metadata, and coherence of groups."""

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

#: Columns of metadata in the summary, if the reference has them.
SUMMARY_COLUMNS = ("label", "study", "sample", "tissue", "disease")
#: Largest number of clusters of a group, as in SCimilarity.
_CLUSTERS = 10
#: Number of neighbours of a cluster, as in SCimilarity.
_NEIGHBOURS = 100
#: Seed of the clustering, as in SCimilarity.
_CLUSTER_SEED = 4
#: Largest number of values in a table of queries x values of metadata.
_BLOCK_VALUES = 4_000_000
#: A query is dominated by a study with more than this share of its hits ...
_DOMINANT_SHARE = 0.8
#: ... and at least this number of hits ...
_DOMINANT_HITS = 10
#: ... and less than this share of the cells searched.
_SEARCHED_SHARE = 0.5
#: Columns of the hits that do not come from the metadata.
_OWN_COLUMNS = ("query", "rank", "row", "cell_id", "distance", "pvalue")


def hits_table(reference: Reference, names: Sequence[str], hits: Hits) -> pd.DataFrame:
    """Make a table with one row for each hit of the queries ``names``, (m,).

    Its columns can be stored in h5ad and zarr files: numbers, text and categories.
    """
    found = hits.indices >= 0
    every = found.ravel() if not found.all() else slice(None)
    query, place = (np.broadcast_to(a, found.shape).ravel()[every] for a in np.ogrid[: len(found), : found.shape[1]])
    rows, distances = hits.indices.ravel()[every], hits.distances.ravel()[every]
    others = [column for column in reference.obs if column != CELL_ID]
    with ThreadPoolExecutor(1) as pool:  # cell ids are read here, other columns in a second thread
        columns = pool.submit(_metadata, reference, rows, others)
        pvalues = pool.submit(reference.label_model.distance_pvalue, distances)
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
    """Read columns of the metadata; names of other columns of the hits get a prefix."""
    found = {}
    for column, values in reference.metadata(rows, columns).items():
        name = storable(str(column))
        found[f"reference_{name}" if name in _OWN_COLUMNS else name] = _storable(values)
    return found


def _named(names: Sequence[str], codes: np.ndarray) -> pd.Categorical[str]:
    """Make categories in the order of the queries; equal names (cells of several samples) become one category."""
    place = {name: i for i, name in enumerate(dict.fromkeys(names))}
    own = np.array([place[name] for name in names], dtype=np.int64)
    return pd.Categorical.from_codes(own[codes], pd.Index(list(place)))


def _storable(values: pd.Series) -> Any:
    """Return numbers unchanged, and other values as categories of text, in which values may be missing."""
    if values.dtype.kind in "iufb" and not isinstance(values.dtype, pd.CategoricalDtype):
        return values.array if values.isna().any() else values.to_numpy()
    found = values.astype("category").cat
    codes, texts = found.codes.to_numpy(), found.categories.astype(str).to_numpy(dtype=object)
    used = np.flatnonzero(np.bincount(codes[codes >= 0], minlength=len(texts)))
    names, place = np.unique(texts[used], return_inverse=True)
    # The last entry is for the code -1, a missing value.
    back = np.full(len(texts) + 1, -1, dtype=np.int64)
    back[used] = place
    return pd.Categorical.from_codes(back[codes], pd.Index(names))


def summary_table(reference: Reference, names: Sequence[str], hits: Hits, allowed: np.ndarray) -> pd.DataFrame:
    """Count values of metadata among the hits of each query ``names``, (m,), and compare with the cells searched.

    Cells in ``allowed``, bool (n_cells,), were searched. The table has one row for each query and value that occurs
    among its hits. ``fraction`` and ``enrichment`` ignore cells without a value. ``pvalue`` is hypergeometric and
    counts pairs of a sample and a value, so that a donor with many cells counts once: the population are the pairs
    searched, and the draws are the pairs with a hit. It is 1 for values that are not enriched, and missing for samples.
    """
    names_of_columns = [column for column in SUMMARY_COLUMNS if column in reference.obs]
    samples = _samples(reference)
    columns = [_Column.of(reference, name, samples, allowed) for name in names_of_columns]
    parts = [part for block in _blocks(len(names), columns) for part in _summarise(hits.indices[block], block, columns)]
    table = pd.concat(parts, ignore_index=True)
    rank = table["column"].map({name: i for i, name in enumerate(names_of_columns)})
    order = np.lexsort((-table["n_cells"], rank, table["code"]))
    table = table.iloc[order].reset_index(drop=True)
    table.insert(0, "query", pd.Series(_named(names, table.pop("code").to_numpy(dtype=np.int64))))
    for column in ("column", "value"):
        table[column] = pd.Categorical(table[column])
    return table


@dataclass(frozen=True, eq=False)
class _Column:
    """A column of the metadata, among the cells searched.

    Attributes
    ----------
    name, values
        Name of the column, and its values, (v,).
    searched
        Number of cells of each value, (v,).
    pairs
        Pair of sample and value of each cell, int32 (n_cells,); -1 for a missing value or a cell not searched.
    pair_values
        Value of each pair, (p,).
    """

    name: str
    values: np.ndarray
    searched: np.ndarray
    pairs: np.ndarray
    pair_values: np.ndarray

    @classmethod
    def of(cls, reference: Reference, name: str, samples: np.ndarray, allowed: np.ndarray) -> _Column:
        codes, values = reference.codes(name)
        if not allowed.all():
            codes = np.where(allowed, codes, -1)
        searched = np.bincount(codes + 1, minlength=len(values) + 1)[1:]
        # Values without cells after a filter are not tested.
        kept = np.flatnonzero(searched)
        place = np.append(np.cumsum(searched > 0) - 1, -1)
        n_samples = int(samples.max(initial=-1)) + 1
        both = np.where(codes < 0, -1, samples * len(kept) + place[codes])
        different, pairs = _used(both, n_samples * len(kept))
        texts = np.array([str(v) for v in values], dtype=object)[kept]
        return cls(name, texts, searched[kept], pairs, different % max(len(kept), 1))


def _used(codes: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Find which of ``n`` codes occur, ascending, and number the code of each cell among them, int32; -1 stays -1."""
    if n > 4 * len(codes) + 1_000_000:  # most codes do not occur
        different, found = np.unique(codes, return_inverse=True)
        missing = int(different[:1].sum() < 0)
        return different[missing:], (found.ravel() - missing).astype(np.int32)
    there = np.zeros(n + 1, dtype=bool)  # the last entry is for the code -1
    there[codes] = True
    place = np.append(np.cumsum(there[:n], dtype=np.int32) - 1, -1).astype(np.int32)
    return np.flatnonzero(there[:n]), place[codes]


def _samples(reference: Reference) -> np.ndarray:
    """Find the sample (or donor, if there are no samples) of each cell within its study, int64 (n_cells,)."""
    there = [c for c in ("sample", "donor") if c in reference.obs][:1]
    samples, n = np.zeros(reference.n_rows, dtype=np.int64), 1
    for column in ["study", *there]:
        codes, values = reference.codes(column)
        different, places = _used(samples * (len(values) + 1) + codes + 1, n * (len(values) + 1))
        samples, n = places.astype(np.int64), len(different)
    return samples


def _blocks(n: int, columns: Sequence[_Column]) -> Iterator[np.ndarray]:
    """Split ``n`` queries into blocks of limited memory."""
    size = max(1, _BLOCK_VALUES // max(1, sum(len(column.values) for column in columns)))
    for start in range(0, n, size):
        yield np.arange(start, min(start + size, n))


def _summarise(indices: np.ndarray, block: np.ndarray, columns: Sequence[_Column]) -> Iterator[pd.DataFrame]:
    """Yield the summary of a block of queries, with a table for each column."""
    counts = [_count(indices, column) for column in columns]
    pvalues = [_pvalues(column, *count) for column, count in zip(columns, counts, strict=True)]
    ends = np.cumsum([len(column.values) for column in columns])[:-1]
    fdrs = np.split(_false_discovery_rates(np.hstack(pvalues)), ends, axis=1)
    for column, (n_cells, n_samples), pvalue, fdr in zip(columns, counts, pvalues, fdrs, strict=True):
        q, v = np.nonzero(n_cells)
        fraction = n_cells[q, v] / n_cells.sum(axis=1)[q]
        yield pd.DataFrame(
            {
                "code": block[q],
                "column": np.full(len(q), column.name, dtype=object),
                "value": column.values[v],
                "n_cells": n_cells[q, v],
                "n_samples": n_samples[q, v],
                "fraction": fraction,
                "enrichment": fraction * column.searched.sum() / column.searched[v],
                "pvalue": pvalue[q, v],
                "fdr": fdr[q, v],
            }
        )


def _count(indices: np.ndarray, column: _Column) -> tuple[np.ndarray, np.ndarray]:
    """Count the cells and samples of each value among the hits, int64 (m, v) each."""
    n_cells, n_samples = np.zeros((2, len(indices), len(column.values)), dtype=np.int64)
    count_hits(indices, column.pairs, column.pair_values, n_cells, n_samples)
    return n_cells, n_samples


def _pvalues(column: _Column, n_cells: np.ndarray, n_samples: np.ndarray) -> np.ndarray:
    """Test whether more samples than expected have each value, (m, v); NaN for the samples themselves."""
    from scipy.stats import hypergeom

    if column.name == "sample":
        return np.full(n_cells.shape, np.nan)
    of_value, drawn = np.bincount(column.pair_values, minlength=len(column.values)), n_samples.sum(axis=1)
    pvalues = np.ones(n_cells.shape)
    q, v = np.nonzero(n_cells)
    # Many queries have the same numbers, and SciPy is slow: each different case is computed once.
    shape = int(n_samples.max(initial=0)) + 1, int(of_value.max(initial=0)) + 1, int(drawn.max(initial=0)) + 1
    cases, place = np.unique(np.ravel_multi_index((n_samples[q, v], of_value[v], drawn[q]), shape), return_inverse=True)
    hit, of_it, of_all = np.unravel_index(cases, shape)
    tested = hypergeom.sf(hit - 1, len(column.pair_values), of_it, of_all)[place]
    # One cell is enough for a sample to be hit: a value that is rare among the hits may have many samples.
    expected = n_cells.sum(axis=1)[q] * (column.searched[v] / max(column.searched.sum(), 1))
    pvalues[q, v] = np.where(n_cells[q, v] > expected, tested, 1.0)
    return pvalues


def _false_discovery_rates(pvalues: np.ndarray) -> np.ndarray:
    """Correct the p-values of each query, (m, v); NaN stays NaN. Values without a hit were tested, too: they have 1."""
    from scipy.stats import false_discovery_control

    tested, rates = ~np.isnan(pvalues[:1]).ravel(), np.full(pvalues.shape, np.nan)
    rates[:, tested] = false_discovery_control(np.clip(pvalues[:, tested], 0.0, 1.0), axis=1, method="bh")
    return rates


def dominated_by_one_study(summary: pd.DataFrame) -> list[str]:
    """Name the queries with most hits in one study that has less than half of the cells searched."""
    studies = summary[summary["column"] == "study"]
    searched = studies["fraction"] / studies["enrichment"]
    dominant = (studies["fraction"] > _DOMINANT_SHARE) & (studies["n_cells"] >= _DOMINANT_HITS)
    return [str(name) for name in studies.loc[dominant & (searched < _SEARCHED_SHARE), "query"].unique()]


def coherence_table(reference: Reference, queries: Queries, hits: Hits, **filters: Any) -> pd.DataFrame:
    """Measure how well the centroid of each group represents its cells.

    The columns are ``query``, ``n_cells``, ``n_clusters``, and ``coherence``: the mean share of the nearest cells of
    each cluster (100, or the number of hits of the centroid) that are hits of the centroid; 0 for a centroid without
    hits. ``filters`` are the other arguments of the search.
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
    """Cluster vectors by k-means; return up to ten centres, (n_clusters, d)."""
    from scipy.cluster.vq import kmeans

    if len(vectors) <= 1:
        return vectors
    centres, _ = kmeans(vectors, min(_CLUSTERS, len(vectors)), seed=_CLUSTER_SEED)
    return np.asarray(centres)


@njit(nogil=True)
def count_hits(indices, pairs, pair_values, n_cells, n_samples):  # type: ignore[no-untyped-def]
    """Count the cells and samples of each value among the hits of each query, -1 for no hit.

    ``pairs`` is the pair of a sample and a value of each cell, -1 for none; ``pair_values`` is the value of each pair.
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
