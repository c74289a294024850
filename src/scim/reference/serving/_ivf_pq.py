"""Search of an index of short codes on a Dask cluster: each worker holds a part of its lists."""

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
    ORDERED,
    REST,
    ROWS,
    ApproximateIndex,
    FilteredEffort,
    FixedVectors,
    Hits,
    IndexPlan,
    ListOrderedVectors,
    Opened,
    ShortCodes,
    cut_lists,
    effort_of,
    selector_of,
)
from .. import store
from .._cluster import identity
from ._exact import ShardedExact
from ._partial import check_places, read_lists
from ._shards import Shard, Tasks, ask, open_shard, places_of

if TYPE_CHECKING:
    from distributed import Future

#: Queries that faiss looks up at a time, so few that their tables stay in the processor's cache.
_QUERIES_AT_A_TIME = 32
#: Hits, or candidates, that are held at a time.
_CANDIDATES_AT_A_TIME = 4_000_000


@dataclass(frozen=True, eq=False)
class ServedIndex:
    """An index as workers know it: all ``cells`` that it covers, and its entry in the manifest.

    ``sizes`` are the cells of each list, int64 (n_lists,). ``bounds`` are the first list of each part, and the number
    of lists, (n_parts + 1,). A worker keeps at most ``held`` parts open.
    """

    cells: Shard
    facts: Mapping[str, Any]
    sizes: np.ndarray
    bounds: tuple[int, ...]
    held: int = 1

    def path(self, ending: str) -> Path:
        """Return the path of a file of the index."""
        return Path(self.cells.root) / store.INDEX / f"{Path(str(self.facts['file'])).stem}{ending}"

    def fact(self, ending: str) -> Mapping[str, Any]:
        """Size and hashes of one of its files."""
        fact: Mapping[str, Any] = self.facts["files"][self.path(ending).name]
        return fact

    def rest(self) -> dict[str, np.ndarray]:
        """Read the file of small arrays. An IndexFileError says that the file is missing or damaged."""
        path, fact = self.path(REST), self.fact(REST)
        if not path.is_file() or path.stat().st_size != fact["bytes"] or sha256(path) != fact["sha256"]:
            raise IndexFileError(path)
        return load_file(path)


class ShardedIvfPq(ApproximateIndex):
    """Search the lists of an index that are nearest to a query, each on the worker that holds it.

    Lists and candidates are as many as those of :class:`~scim.index._ivf_pq.IvfPqIndex`, but each part ranks as many
    candidates as that index ranks in all. So a hit is the one of a search in one process, or a nearer cell, except for
    the few at the border of the candidates, where rounding decides.

    ``exact`` searches the segments that the index covers. ``facts`` are what the manifest says of the index.
    """

    name = "faiss"

    def __init__(self, exact: ShardedExact, facts: Mapping[str, Any], plan: IndexPlan) -> None:
        super().__init__(exact)
        self._shards, self._cluster = exact.shards, exact.cluster
        self._facts, self._plan = facts, plan
        self._index: ServedIndex | None = None
        self._effort: FilteredEffort | None = None

    def _search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None) -> Hits | None:
        n_allowed = self.vectors.count(allowed)
        if n_allowed <= self._plan.exact_below_cells or 4 * k > n_allowed:
            return None
        try:
            return self._look_up(queries, k, allowed, n_allowed, recall)
        except IndexFileError as error:
            warn(
                f"The index file {error} is missing or damaged: queries are compared with every cell instead, which "
                "takes longer. Reference.reindex() makes the index again."
            )
            return None

    def _look_up(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, n_allowed: int, recall: float | None
    ) -> Hits:
        """Have the workers look up codes, and rank the candidates."""
        index, effort = self._opened()
        if recall is not None:
            effort = effort.aiming(recall)
            index = replace(index, facts={**index.facts, "target": recall})
        cluster, threads = self._cluster, self._cluster.threads()
        n_candidates = min(effort.candidates(k) * (1 if allowed is None else 2), n_allowed)
        n_visits, passing, bits, share = effort.visits(k), None, None, 1.0
        # Arguments of many tasks are sent once.
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

        step = min(self._plan.served_queries, max(_QUERIES_AT_A_TIME, _CANDIDATES_AT_A_TIME // k))
        return Hits.stacked(list(ask(cluster, queries, tasks, n_parts, step=step, k=k)))

    def _opened(self) -> tuple[ServedIndex, FilteredEffort]:
        """Read how far to search, and cut the lists into parts: ranges with about as many cells each."""
        if self._index is None or self._effort is None:
            first, threads = self._shards[0], self._cluster.threads()
            pieces = tuple(piece for shard in self._shards for piece in shard.pieces)
            index = ServedIndex(replace(first, start=0, pieces=pieces), self._facts, np.empty(0, dtype=np.int64), (0,))
            rest = index.rest()
            sizes = rest["sizes"].astype(np.int64)
            bounds = part_bounds(sizes, len(threads), self._plan)
            # Each worker has room for half as many parts again: Dask lets idle workers do the work of others.
            share = -(-(len(bounds) - 1) // max(len(set(threads)), 1))
            self._index = replace(index, sizes=sizes, bounds=bounds, held=share + -(-share // 2))
            self._effort = effort_of(rest, self._facts)
        return self._index, self._effort


def part_bounds(sizes: np.ndarray, n_threads: int, plan: IndexPlan) -> tuple[int, ...]:
    """First list of each part, and the number of lists.

    The number of parts changes only when the threads double, so that few parts move when workers come or go.
    """
    n_cells, threads = int(sizes.sum()), 1 << max(n_threads - 1, 0).bit_length()
    fewest, most = plan.part_cells
    n_parts = max(1, -(-n_cells // most), min(plan.parts_per_thread * threads, n_cells // fewest))
    ends = np.searchsorted(np.cumsum(sizes), np.linspace(0, n_cells, n_parts + 1)[1:-1])
    return tuple(np.unique([0, *ends.tolist(), len(sizes)]).tolist())


def nearest_lists(
    index: ServedIndex, part: int, queries: np.ndarray, k: int, n_visits: int, passing: np.ndarray | None, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Find the lists to visit, on a worker: products of centres float32 and lists int64 (m, n), -1 for none.

    ``part`` is the part that this worker holds, with the centres. ``n_visits`` are the lists to visit, or most lists
    with a filter; then ``passing`` are the cells of the index's sample that may be found, and ``share`` is their share
    of all cells.
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
) -> Hits:
    """Find the nearest cells of the lists of a part, on a worker.

    Queries are unit vectors (m, d), and ``visits`` the result of :func:`nearest_lists`. ``n_candidates`` are ranked
    again. ``bits`` has a bit for each cell that may be found, the lowest first; None: all.
    """
    hits, (products, lists) = Hits.none(len(queries), k), visits
    mine = np.flatnonzero(((lists >= index.bounds[part]) & (lists < index.bounds[part + 1])).any(axis=1))
    if not len(mine):
        return hits
    opened, selector = open_part(index, part), None if bits is None else selector_of(bits)
    n_candidates = min(n_candidates, len(opened.codes))
    step = max(1, min(_QUERIES_AT_A_TIME, _CANDIDATES_AT_A_TIME // n_candidates))
    with one_thread_of_faiss():
        for at in (mine[i : i + step] for i in range(0, len(mine), step)):
            # Lists of other parts are empty here. They are visited all the same, for the rounding of the approximate
            # distances depends on all lists: so the candidates are those of a search in one process.
            wide, near = opened.codes.wide(queries[at]), np.ascontiguousarray(products[at])
            found = opened.codes.search(wide, n_candidates, np.ascontiguousarray(lists[at]), near, selector)
            if bits is not None:  # to be sure that no other cell is returned
                found = np.where((bits[found >> 3] >> (found & 7)) & 1, found, -1)
            hits.put(at, opened.vectors.best(queries[at], found, k, None))
    return hits


@dataclass(eq=False)
class _Held:
    """An index as a worker holds it: the vectors, and the codes of its most recently used parts (last used last)."""

    key: tuple[Any, ...]
    rows: np.ndarray
    vectors: ListOrderedVectors
    effort: FilteredEffort
    parts: dict[int, Any]


#: Folder of a reference -> its open index.
_opened: dict[str, _Held] = {}
_opening = Lock()


def open_part(index: ServedIndex, part: int) -> Opened:
    """Read a part of an index, on a worker, once; parts used longest ago are dropped.

    An IndexFileError says that a file is missing or damaged.
    """
    vectors = open_shard(index.cells)
    key = index.fact(CODES)["sha256"], index.bounds
    with _opening:
        held = _opened.get(index.cells.root)
        if held is None or held.key != key:  # another version, or other parts
            held = _opened[index.cells.root] = _open_vectors(index, vectors, key)
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


def _open_vectors(index: ServedIndex, vectors: FixedVectors, key: tuple[Any, ...]) -> _Held:
    rest, path = index.rest(), index.path(ROWS)
    if not path.is_file() or path.stat().st_size != index.fact(ROWS)["bytes"]:
        raise IndexFileError(path)
    rows = np.memmap(path, dtype="<i4", mode="r", shape=(len(index.cells),))
    ordered = ListOrderedVectors(vectors, index.path(ORDERED), rows, rest["sums"])
    return _Held(key, rows, ordered, effort_of(rest, index.facts), {})
