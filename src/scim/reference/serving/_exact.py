"""Exact search on a Dask cluster: each worker compares the cells of a few shards, and their hits are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._version import scim_version
from ...index import CELLS_PER_BLOCK, MAX_HITS, QUERIES, ExactIndex, FixedVectors, Hits, Index, check_limit
from .._cluster import Cluster, identity
from ._shards import Piece, Shard, Tasks, ask, joined, open_shard, places_of, vectors_of

if TYPE_CHECKING:
    from distributed import Future

#: Most blocks of cells in a shard: a million cells, which take a thread about a second.
_SHARD_BLOCKS = 64
#: Hits of a shard that a task may hold.
_TASK_HITS = 4_000_000
#: Most blocks of queries that are sent at a time.
_QUERY_BLOCKS = 8


class ShardedExact(Index):
    """Compare every query with every cell, on the workers of a cluster, which open the folder by its path.

    Shards end where blocks of :meth:`FixedVectors.blocks` end, so that the products are those of a search in one
    process. ``vectors`` are those of all cells of the reference, which are not read in this process. ``which`` are the
    segments to search; positions are those among their cells.
    """

    name = "exact"
    local = False

    def __init__(
        self,
        cluster: Cluster,
        root: Path,
        manifest: Mapping[str, Any],
        vectors: FixedVectors,
        which: slice = slice(None),
    ) -> None:
        self.cluster, self.root, self.manifest = cluster, root, manifest
        self._every, self._threads = vectors, cluster.threads()
        self.vectors = FixedVectors(vectors.segments[which])
        about = str(root.absolute()), str(manifest["sha256"]), int(manifest["n_latent"]), scim_version()
        self.shards = [Shard(*about, start, pieces) for start, pieces in self._cut(which)]

    def part(self, which: slice) -> ShardedExact:
        """Search only some segments."""
        return ShardedExact(self.cluster, self.root, self.manifest, self._every, which)

    def nearest(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None, recall: float | None = None
    ) -> Hits:
        """Find the nearest cells, see :meth:`scim.index.Index.nearest`."""
        step = QUERIES * min(_QUERY_BLOCKS, max(1, _TASK_HITS // (QUERIES * k)))
        return Hits.stacked(list(self._ask(search_shard, queries, k, allowed, step=step, k=k)))

    def within(
        self, queries: np.ndarray, max_distance: float, allowed: np.ndarray | None = None, limit: int = MAX_HITS
    ) -> Hits:
        """Find every cell within a distance, see :meth:`scim.index.Index.within`."""
        found, n_found = [], 0
        for hits in self._ask(search_within, queries, (max_distance, limit), allowed, step=QUERIES, k=None):
            n_found += int((hits.indices >= 0).sum())
            check_limit(n_found, limit, max_distance)
            found.append(hits)
        return Hits.stacked(found)

    def _cut(self, which: slice) -> Iterator[tuple[int, tuple[Piece, ...]]]:
        """Yield shards, each as the position of its first cell and its pieces: about as many as threads."""
        blocks, start = [], 0
        for segment in self.manifest["segments"][which]:
            name, n_cells = str(segment["name"]), int(segment["n_cells"])
            facts = {key: self.manifest["files"][vectors_of(name)][key] for key in ("bytes", "sha256")}
            for first in range(0, n_cells, CELLS_PER_BLOCK):
                last = min(first + CELLS_PER_BLOCK, n_cells)
                blocks.append((start + first, Piece(name, n_cells, facts, first, last)))
            start += n_cells
        n_shards = min(len(blocks), max(len(self._threads), -(-len(blocks) // _SHARD_BLOCKS)))
        ends = np.linspace(0, len(blocks), n_shards + 1).astype(int)
        for a, b in zip(ends[:-1], ends[1:], strict=True):
            yield blocks[a][0], joined([piece for _, piece in blocks[a:b]])

    def _ask(
        self,
        task: Callable[..., Hits],
        queries: np.ndarray,
        wanted: Any,
        allowed: np.ndarray | None,
        *,
        step: int,
        k: int | None,
    ) -> Iterator[Hits]:
        """Yield the hits of ``step`` queries at a time."""
        cluster, places = self.cluster, places_of(len(self.shards), self._threads)
        narrowed = [(shard.only(allowed), at) for shard, at in zip(self.shards, places, strict=True)]
        asked = [(shard, at) for shard, at in narrowed if shard is not None]
        # Arguments of many tasks are sent to the scheduler once.
        shards = [(shard if allowed is None else cluster.submit(identity, shard, at=at), at) for shard, at in asked]

        def tasks(sent: Future) -> Tasks:
            return [cluster.submit(task, shard, sent, wanted, at=at) for shard, at in shards], ()

        yield from ask(cluster, queries, tasks, len(asked), step=step, k=k)


def search_shard(shard: Shard, queries: np.ndarray, k: int) -> Hits:
    """Find the nearest cells of a shard, on a worker: at most ``k`` of each query."""
    vectors, allowed = open_shard(shard), shard.mask()
    return ExactIndex(vectors).nearest(queries, min(k, vectors.count(allowed)), allowed).moved(shard.start)


def search_within(shard: Shard, queries: np.ndarray, wanted: tuple[float, int]) -> Hits:
    """Find all cells of a shard within a distance, on a worker; ``wanted`` are the distance and most hits."""
    max_distance, limit = wanted
    return ExactIndex(open_shard(shard)).within(queries, max_distance, shard.mask(), limit).moved(shard.start)
