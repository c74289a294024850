"""Exact search on a Dask cluster: workers compare the cells of a few shards each, and what they found is merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._version import scim_version
from ...index import CELLS_PER_BLOCK, QUERIES, ExactIndex, check_limit, no_hits, within_distance
from .._cluster import Cluster, identity
from ._shards import Found, Piece, Shard, Tasks, _joined, ask, open_shard, places_of, vectors_of

if TYPE_CHECKING:
    from distributed import Future

    from ..cells import StoredCells

#: Most blocks of cells in a shard: a million cells, which take a thread about a second.
_BLOCKS = 64
#: Hits of a shard that a task may hold, and blocks of queries that go out at a time.
_HITS = 4_000_000
_QUERY_BLOCKS = 8


class ShardedExact:
    """Compare every query with every cell, on the workers of a cluster, which open the folder by its path.

    Shards end where the blocks end that :class:`~scim.index._exact.ExactIndex` multiplies at a time, so that the
    products are those of a search in one process.

    Parameters
    ----------
    cluster
        The workers.
    reference
        What to search; its own vectors are not read.
    which
        Segments to search; positions are those among their cells.
    """

    name = "exact"

    def __init__(self, cluster: Cluster, reference: StoredCells, which: slice = slice(None)) -> None:
        self._cluster, self._threads = cluster, cluster.threads()
        self.segments, self._n_latent = reference._segments[which], int(reference._manifest["n_latent"])
        root = str(reference.path.absolute())
        about = root, str(reference._manifest["sha256"]), self._n_latent, scim_version()
        cut = self._cut(reference._manifest, which)
        self.shards = [Shard(*about, start, pieces) for start, pieces in cut]

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None = None) -> Found:
        """Find neighbours, see :class:`~scim.index.Index`."""
        step = QUERIES * min(_QUERY_BLOCKS, max(1, _HITS // (QUERIES * k)))
        found = list(self._ask(search_shard, queries, k, allowed, step=step, k=k))
        return np.concatenate([p for p, _ in found]), np.concatenate([d for _, d in found])

    def within_distance(
        self, queries: np.ndarray, max_distance: float, allowed: np.ndarray | None, limit: int
    ) -> Found:
        """Find every cell within a distance, see :func:`~scim.index._exact.within_distance`."""
        found, n_found = [], 0
        wanted = max_distance, limit
        for positions, distances in self._ask(search_within, queries, wanted, allowed, step=QUERIES, k=None):
            n_found += int((positions >= 0).sum())
            check_limit(n_found, limit, max_distance)
            found.append((positions, distances))
        widest = max((positions.shape[1] for positions, _ in found), default=0)
        all_positions, all_distances = no_hits(len(queries), widest)
        for i, (positions, distances) in enumerate(found):
            part = slice(i * QUERIES, i * QUERIES + len(positions))
            all_positions[part, : positions.shape[1]] = positions
            all_distances[part, : positions.shape[1]] = distances
        return all_positions, all_distances

    def _cut(self, manifest: Mapping[str, Any], which: slice) -> Iterator[tuple[int, tuple[Piece, ...]]]:
        """Yield shards, each the position of its first cell and where its cells are: about as many as threads."""
        blocks, start = [], 0
        for segment in manifest["segments"][which]:
            name, n_cells = str(segment["name"]), int(segment["n_cells"])
            facts = {key: manifest["files"][vectors_of(name)][key] for key in ("bytes", "sha256")}
            for first in range(0, n_cells, CELLS_PER_BLOCK):
                last = min(first + CELLS_PER_BLOCK, n_cells)
                blocks.append((start + first, Piece(name, n_cells, facts, first, last)))
            start += n_cells
        n_shards = min(len(blocks), max(len(self._threads), -(-len(blocks) // _BLOCKS)))
        ends = np.linspace(0, len(blocks), n_shards + 1).astype(int)
        for a, b in zip(ends[:-1], ends[1:], strict=True):
            yield blocks[a][0], _joined([piece for _, piece in blocks[a:b]])

    def _ask(
        self,
        task: Callable[..., Found],
        queries: np.ndarray,
        wanted: Any,
        allowed: np.ndarray | None,
        *,
        step: int,
        k: int | None,
    ) -> Iterator[Found]:
        """Yield what is found for ``step`` queries at a time."""
        cluster, places = self._cluster, places_of(len(self.shards), self._threads)
        narrowed = [(shard.only(allowed), at) for shard, at in zip(self.shards, places, strict=True)]
        asked = [(shard, at) for shard, at in narrowed if shard is not None]
        # What is sent more than once, or to many, goes through the scheduler once.
        shards = [(shard if allowed is None else cluster.submit(identity, shard, at=at), at) for shard, at in asked]

        def tasks(sent: Future) -> Tasks:
            return [cluster.submit(task, shard, sent, wanted, at=at) for shard, at in shards], ()

        yield from ask(cluster, queries, tasks, len(asked), step=step, k=k)


def search_shard(shard: Shard, queries: np.ndarray, k: int) -> Found:
    """Find the nearest cells of a shard, on a worker: positions int64 and distances float32 (m, <= k)."""
    allowed = shard.mask()
    n_allowed = len(shard) if allowed is None else int(allowed.sum())
    found = ExactIndex(open_shard(shard)).search(queries, min(k, n_allowed), allowed)
    return _moved(found, shard.start)


def search_within(shard: Shard, queries: np.ndarray, wanted: tuple[float, int]) -> Found:
    """Find all cells of a shard within a distance, on a worker; ``wanted`` are the distance and most hits."""
    max_distance, limit = wanted
    found = within_distance(open_shard(shard), queries, max_distance, shard.mask(), limit=limit)
    return _moved(found, shard.start)


def _moved(found: Found, start: int) -> Found:
    positions, distances = found
    return np.where(positions < 0, -1, positions + start), distances
