"""Search of the index on a Dask cluster: each worker holds some of its lists, and what they find is merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

from ..._disk import IndexFileError, sha256
from ..._threads import one_thread_of_faiss
from ..._warn import warn
from ...index import (
    CODES,
    FEW,
    ORDERED,
    REST,
    ROWS,
    FilteredEffort,
    ListOrderedVectors,
    Opened,
    ShortCodes,
    cut_lists,
    distances_of,
    effort_of,
    no_hits,
)
from .. import store
from .._cluster import Cluster, identity
from ._exact import ShardedExact
from ._partial import check_places, read_lists
from ._shards import Found, Shard, Tasks, ask, open_shard, places_of

if TYPE_CHECKING:
    from distributed import Future

    from ..cells import StoredCells

#: Fewest and most cells of a part of the index, and parts for each thread of the cluster within that.
_FEWEST = 250_000
_MOST = 8_000_000
_PER_THREAD = 1
#: Queries that go out at a time; of which faiss looks through the lists at once, so few that their tables stay in the
#: processor's cache; and hits, or candidates, that are held at a time.
_QUERIES = 4_096
_AT_A_TIME = 32
_CANDIDATES = 4_000_000


@dataclass(frozen=True, eq=False)
class ServedIndex:
    """What workers have to know of an index.

    Attributes
    ----------
    cells
        All cells that it covers.
    facts
        What the manifest says of it.
    sizes
        Cells of each list, int64 (n_lists,).
    bounds
        First list of each part, and the number of lists, (n_parts + 1,).
    held
        Most parts that a worker keeps open.
    """

    cells: Shard
    facts: Mapping[str, Any]
    sizes: np.ndarray
    bounds: tuple[int, ...]
    held: int = 1

    def path(self, ending: str) -> Path:
        """One of its files."""
        return Path(self.cells.root) / store.INDEX / f"{Path(str(self.facts['file'])).stem}{ending}"

    def fact(self, ending: str) -> Mapping[str, Any]:
        """Size and hashes of one of its files."""
        fact: Mapping[str, Any] = self.facts["files"][self.path(ending).name]
        return fact

    def rest(self) -> dict[str, np.ndarray]:
        """Read what is small.

        Raises
        ------
        IndexFileError
            The file is missing, or not what was written.
        """
        path, fact = self.path(REST), self.fact(REST)
        if not path.is_file() or path.stat().st_size != fact["bytes"] or sha256(path) != fact["sha256"]:
            raise IndexFileError(path)
        return load_file(path)


class ShardedIvfPq:
    """Search the lists of an index that are nearest to a query, each on the worker that holds it.

    Lists and candidates are as many as :class:`~scim.index._ivf_pq.IvfPqIndex` takes, but each part ranks as many
    candidates as that does of all: so a hit is what a search in one process finds in its place, or a nearer cell, but
    for the few at the border of the candidates where rounding decides.

    Parameters
    ----------
    cluster
        The workers.
    reference
        What to search.
    facts
        What its manifest says of the index.
    which
        The segments that the index covers.
    """

    name = "faiss"

    def __init__(self, cluster: Cluster, reference: StoredCells, facts: Mapping[str, Any], which: slice) -> None:
        self._exact = ShardedExact(cluster, reference, which)
        self._cluster, self._facts, self.segments = cluster, facts, self._exact.segments
        self._index: ServedIndex | None = None
        self._effort: FilteredEffort | None = None

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None = None) -> Found:
        """Find neighbours, see :class:`~scim.index.Index`."""
        n_cells = sum(map(len, self.segments))
        n_allowed = n_cells if allowed is None else int(np.count_nonzero(allowed))
        if n_allowed <= FEW or 4 * k > n_allowed or not len(queries):
            return self._exact.search(queries, k, allowed)
        try:
            positions, distances = self._search(queries, k, allowed, n_allowed, recall)
        except IndexFileError as error:
            warn(
                f"The index file {error} is missing or damaged: queries are compared with every cell instead, which "
                "takes longer. Reference.reindex() makes the index anew."
            )
            return self._exact.search(queries, k, allowed)
        if (short := (positions < 0).any(axis=1)).any():
            positions[short], distances[short] = self._exact.search(queries[short], k, allowed)
        return positions, distances

    def _search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, n_allowed: int, recall: float | None
    ) -> Found:
        index, effort = self._opened()
        if recall is not None:
            effort = effort.aiming(recall)
            index = replace(index, facts={**index.facts, "target": recall})
        cluster, threads = self._cluster, self._cluster.threads()
        n_candidates = min(effort.candidates(k) * (1 if allowed is None else 2), n_allowed)
        n_visits, passing, bits, share = effort.visits(k), None, None, 1.0
        # What goes to many is sent once.
        if allowed is not None:
            share = n_allowed / len(allowed)
            n_visits, passing = effort.most(k, share), effort.passing(allowed)
            bits = cluster.submit(identity, np.packbits(allowed, bitorder="little"))
        sent_index = cluster.submit(identity, index)
        n_parts = len(index.bounds) - 1
        places = places_of(n_parts, threads)
        batch = 0

        def tasks(sent: Future) -> Tasks:
            nonlocal batch
            part, batch = batch % n_parts, batch + 1
            lists = cluster.submit(nearest_lists, sent_index, part, sent, k, n_visits, passing, share, at=places[part])
            found = [
                cluster.submit(search_part, sent_index, i, sent, lists, k, n_candidates, bits, at=places[i])
                for i in range(n_parts)
            ]
            return found, (lists,)

        step = min(_QUERIES, max(_AT_A_TIME, _CANDIDATES // k))
        found = list(ask(cluster, queries, tasks, n_parts, step=step, k=k))
        return np.concatenate([p for p, _ in found]), np.concatenate([d for _, d in found])

    def _opened(self) -> tuple[ServedIndex, FilteredEffort]:
        """Read how far to search, and cut the lists into parts: ranges with about as many cells."""
        if self._index is None or self._effort is None:
            first = self._exact.shards[0]
            pieces = tuple(piece for shard in self._exact.shards for piece in shard.pieces)
            cells = Shard(first.root, first.manifest, first.n_latent, first.scim, 0, pieces)
            index = ServedIndex(cells, self._facts, np.empty(0, dtype=np.int64), (0,))
            rest = index.rest()
            sizes = rest["sizes"].astype(np.int64)
            threads = self._cluster.threads()
            bounds = _cut(sizes, len(threads))
            # Dask lets idle workers do the work of others, who may have died too: each has room for half as much again.
            share = -(-(len(bounds) - 1) // max(len(set(threads)), 1))
            self._index = ServedIndex(cells, self._facts, sizes, bounds, share + -(-share // 2))
            self._effort = effort_of(rest, self._facts)
        return self._index, self._effort


def _cut(sizes: np.ndarray, n_threads: int) -> tuple[int, ...]:
    """Bounds of parts of the lists. As many as long as the threads double: workers that come or go move few of them."""
    n_cells, threads = int(sizes.sum()), 1 << max(n_threads - 1, 0).bit_length()
    n_parts = max(1, -(-n_cells // _MOST), min(_PER_THREAD * threads, n_cells // _FEWEST))
    ends = np.searchsorted(np.cumsum(sizes), np.linspace(0, n_cells, n_parts + 1)[1:-1])
    return tuple(np.unique([0, *ends.tolist(), len(sizes)]).tolist())


def nearest_lists(
    index: ServedIndex,
    part: int,
    queries: np.ndarray,
    k: int,
    n_visits: int,
    passing: np.ndarray | None,
    share: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the lists to visit, on a worker: products of centres float32 and lists int64 (m, n); -1 for none.

    Parameters
    ----------
    index
        The index.
    part
        The part of it whose worker this is, which has the centres.
    queries
        Unit vectors (m, d).
    k
        Neighbours.
    n_visits
        Lists to visit; with a filter, at most.
    passing, share
        With a filter: cells of the index's sample that may be found, and their share of all cells.
    """
    opened = open_part(index, part)
    with one_thread_of_faiss():
        products, lists = opened.codes.nearest_lists(opened.codes.wide(queries), n_visits)
    if passing is None:
        return products, lists
    return cut_lists(products, lists, opened.effort.filtered_by(lists, k, passing, share))


def search_part(
    index: ServedIndex,
    part: int,
    queries: np.ndarray,
    visits: tuple[np.ndarray, np.ndarray],
    k: int,
    n_candidates: int,
    bits: np.ndarray | None,
) -> Found:
    """Find the nearest cells of some lists, on a worker: positions int64 and distances float32 (m, k).

    Parameters
    ----------
    index, part
        The index, and the part of it that holds the lists.
    queries
        Unit vectors (m, d).
    visits
        What :func:`nearest_lists` found.
    k, n_candidates
        Neighbours, and candidates that are ranked again.
    bits
        A bit for each cell that may be found, the lowest first; None: all.
    """
    import faiss

    positions, distances = no_hits(len(queries), k)
    products, lists = visits
    mine = np.flatnonzero(((lists >= index.bounds[part]) & (lists < index.bounds[part + 1])).any(axis=1))
    if not len(mine):
        return positions, distances
    opened = open_part(index, part)
    selector: Any = faiss.IDSelectorBitmap  # faiss's own types know of the two arguments in C++ only
    chosen = None if bits is None else selector(bits)
    n_candidates = min(n_candidates, len(opened.codes))
    step = max(1, min(_AT_A_TIME, _CANDIDATES // n_candidates))
    with one_thread_of_faiss():
        for some in (mine[i : i + step] for i in range(0, len(mine), step)):
            # Lists of other parts are empty here. They stay among those to visit, for the rounding of the approximate
            # distances depends on all of them: the candidates are those of a search in one process.
            wide, near = opened.codes.wide(queries[some]), np.ascontiguousarray(products[some])
            found = opened.codes.search(wide, n_candidates, np.ascontiguousarray(lists[some]), near, chosen)
            if bits is not None:  # for good measure
                found = np.where((bits[found >> 3] >> (found & 7)) & 1, found, -1)
            positions[some], similarity = opened.vectors.best(queries[some], found, k, None)
            distances[some] = distances_of(positions[some], similarity)
    return positions, distances


@dataclass(eq=False)
class _Held:
    """What a worker has open of an index: the vectors, and codes of some parts, that used last in the end."""

    key: tuple[Any, ...]
    rows: np.ndarray
    vectors: ListOrderedVectors
    effort: FilteredEffort
    parts: dict[int, Any]


#: Folder -> what is open.
_opened: dict[str, _Held] = {}
_opening = Lock()


def open_part(index: ServedIndex, part: int) -> Opened:
    """Read some lists of an index, on a worker, once; of several, those used longest ago are let go of.

    Raises
    ------
    IndexFileError
        A file is missing, or not what was written.
    """
    segments = open_shard(index.cells)
    key = index.fact(CODES)["sha256"], index.bounds
    with _opening:
        held = _opened.get(index.cells.root)
        if held is None or held.key != key:  # another version, or other parts: what was held is let go of
            held = _opened[index.cells.root] = _open_vectors(index, segments, key)
        codes = held.parts.pop(part, None)
        while len(held.parts) >= index.held:
            del held.parts[next(iter(held.parts))]
        if codes is None:
            first, last = index.bounds[part : part + 2]
            codes = read_lists(index.path(CODES), index.fact(CODES), index.sizes, first, last)
            if not check_places(codes, held.rows, index.sizes, first, last):
                raise IndexFileError(index.path(ROWS))
        held.parts[part] = codes
        return Opened(ShortCodes.of(codes), held.vectors, held.effort.aiming(float(index.facts["target"])))


def _open_vectors(index: ServedIndex, segments: list[np.ndarray], key: tuple[Any, ...]) -> _Held:
    rest, path = index.rest(), index.path(ROWS)
    if not path.is_file() or path.stat().st_size != index.fact(ROWS)["bytes"]:
        raise IndexFileError(path)
    rows = np.memmap(path, dtype="<i4", mode="r", shape=(len(index.cells),))
    vectors = ListOrderedVectors(segments, index.path(ORDERED), rows, rest["sums"])
    return _Held(key, rows, vectors, effort_of(rest, index.facts), {})
