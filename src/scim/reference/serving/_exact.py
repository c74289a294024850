"""Exact search on a Dask cluster: workers compare the cells of a few shards each, and what they found is merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..._progress import progress_bar
from ..._version import scim_version
from ...index._exact import CELLS, QUERIES, ExactBackend, check_limit, no_hits, within_distance
from .._cluster import Cluster, Job, check_there, check_version, same
from ..store import _manifest as files
from ..store._segments import open_vectors

if TYPE_CHECKING:
    from distributed import Future

    from ..cells._metadata import StoredCells

#: Most blocks of cells in a shard: a million cells, which take a thread about a second.
_BLOCKS = 64
#: Hits of a shard that a task may hold, and blocks of queries that go out at a time.
_HITS, _QUERY_BLOCKS = 4_000_000, 8
#: Results that are merged by one task, and batches of queries that are on their way at a time.
_MERGED, _AT_ONCE = 8, 2

Found = tuple[np.ndarray, np.ndarray]
#: Futures of what is found, and of what they need.
Tasks: TypeAlias = "tuple[list[Future], tuple[Future, ...]]"


@dataclass(frozen=True)
class Piece:
    """Rows of one segment: its name, its cells, what the manifest says of its vectors, and the rows."""

    name: str
    n_cells: int
    facts: Mapping[str, Any]
    start: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """Cells of a reference that follow one another, as a worker has to know them.

    Attributes
    ----------
    root, manifest, n_latent, scim
        Folder of the reference, hash of its manifest, length of its vectors, and version of the scim that asks.
    start
        Position of the first cell.
    pieces
        Where the cells are.
    allowed
        A bit for each cell that may be found; None: all that have a direction.
    """

    root: str
    manifest: str
    n_latent: int
    scim: str
    start: int
    pieces: tuple[Piece, ...]
    allowed: bytes | None = None

    def __len__(self) -> int:
        return sum(piece.stop - piece.start for piece in self.pieces)

    def only(self, allowed: np.ndarray | None) -> Shard | None:
        """Narrow it to the cells that are allowed, bool of all positions; None if there are none."""
        if allowed is None:
            return self
        mine = allowed[self.start : self.start + len(self)]
        return replace(self, allowed=np.packbits(mine).tobytes()) if mine.any() else None

    def mask(self) -> np.ndarray | None:
        """Cells that may be found, bool (n,), or None."""
        if self.allowed is None:
            return None
        return np.unpackbits(np.frombuffer(self.allowed, dtype=np.uint8), count=len(self)).astype(bool)


class ShardedBackend:
    """Compare every query with every cell, on the workers of a cluster, which open the folder by its path.

    Shards end where the blocks end that :class:`~scim.index._exact.ExactBackend` multiplies at a time, so that the
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
        """Find neighbours, see :class:`~scim.index._protocol.Backend`."""
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
            for first in range(0, n_cells, CELLS):
                last = min(first + CELLS, n_cells)
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
        shards = [(shard if allowed is None else cluster.submit(same, shard, at=at), at) for shard, at in asked]

        def tasks(sent: Future) -> Tasks:
            return [cluster.submit(task, shard, sent, wanted, at=at) for shard, at in shards], ()

        yield from ask(cluster, queries, tasks, len(asked), step=step, k=k)


def places_of(n: int, threads: Sequence[str]) -> list[str | None]:
    """Worker of each of n shards, always the same while they live, so that a node reads its own part of the files."""
    return [threads[i * len(threads) // n] if threads else None for i in range(n)]


def ask(
    cluster: Cluster, queries: np.ndarray, tasks: Callable[[Future], Tasks], n_tasks: int, *, step: int, k: int | None
) -> Iterator[Found]:
    """Have workers search for some queries at a time, and merge what they find.

    Parameters
    ----------
    cluster
        The workers.
    queries
        Unit vectors (m, d).
    tasks
        Submits, for some queries that were sent, the tasks whose results are merged, and others that they need.
    n_tasks
        How many of the former.
    step, k
        Queries at a time; most hits of each, None for all.
    """
    batches = [queries[i : i + step] for i in range(0, len(queries), step)]
    with progress_bar(len(batches) * n_tasks, desc="Searching", unit="shards") as bar:

        def jobs() -> Iterator[Job]:
            for batch in batches:
                sent = cluster.submit(same, batch)
                found, others = tasks(sent)
                for future in found:
                    future.add_done_callback(lambda _: bar.update(1))
                merged = _merged(cluster, found, k)
                yield Job(merged[-1], (sent, *others, *found, *merged[:-1]))

        yield from cluster.in_order(jobs(), at_once=_AT_ONCE)


def _merged(cluster: Cluster, found: Sequence[Future], k: int | None) -> list[Future]:
    """Have the workers merge what they found, some at a time, so that little comes here; the last is the whole."""
    every: list[Future] = []
    while len(found) > 1 or not every:
        found = [cluster.submit(merge, list(found[i : i + _MERGED]), k) for i in range(0, len(found), _MERGED)]
        every += found
    return every


def vectors_of(name: str) -> str:
    """Name of the file of a segment's vectors."""
    return f"{files.SEGMENTS}/{name}/{files.VECTORS}"


def _joined(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Join the pieces of each segment, which follow one another."""
    joined: list[Piece] = []
    for piece in pieces:
        if joined and joined[-1].name == piece.name:
            joined[-1] = replace(joined[-1], stop=piece.stop)
        else:
            joined.append(piece)
    return tuple(joined)


def search_shard(shard: Shard, queries: np.ndarray, k: int) -> Found:
    """Find the nearest cells of a shard, on a worker: positions int64 and distances float32 (m, <= k)."""
    allowed = shard.mask()
    n_allowed = len(shard) if allowed is None else int(allowed.sum())
    found = ExactBackend(open_shard(shard)).search(queries, min(k, n_allowed), allowed)
    return _moved(found, shard.start)


def search_within(shard: Shard, queries: np.ndarray, wanted: tuple[float, int]) -> Found:
    """Find all cells of a shard within a distance, on a worker; ``wanted`` are the distance and most hits."""
    max_distance, limit = wanted
    found = within_distance(open_shard(shard), queries, max_distance, shard.mask(), limit=limit)
    return _moved(found, shard.start)


def merge(found: Sequence[Found], k: int | None) -> Found:
    """Merge hits of the same queries, nearest first, equal ones by position: the best ``k``, or all."""
    positions, distances = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    n = int((positions >= 0).sum(axis=1).max(initial=0)) if k is None else k
    order = np.lexsort((positions, distances), axis=1)[:, :n]
    return np.take_along_axis(positions, order, 1), np.take_along_axis(distances, order, 1)


def _moved(found: Found, start: int) -> Found:
    positions, distances = found
    return np.where(positions < 0, -1, positions + start), distances


#: Folder -> hash of its manifest and the vectors of its segments, of the version that was searched last.
_opened: dict[str, tuple[str, dict[str, np.ndarray]]] = {}


def open_shard(shard: Shard) -> list[np.ndarray]:
    """Map the vectors of a shard, on a worker, which opens a version of a reference once.

    Raises
    ------
    RuntimeError
        The worker has another scim.
    FileNotFoundError, ReferenceFolderError
        It does not see the folder, or sees another.
    """
    check_version(shard.scim)
    manifest, segments = _opened.get(shard.root, ("", {}))
    if manifest != shard.manifest:
        segments = {}
        # The version before is let go of, so that its files are gone when they are deleted.
        _opened[shard.root] = shard.manifest, segments
    for piece in shard.pieces:
        if piece.name not in segments:
            segments[piece.name] = _open_segment(check_there(shard.root), shard, piece)
    return [segments[piece.name][piece.start : piece.stop] for piece in shard.pieces]


def _open_segment(root: Path, shard: Shard, piece: Piece) -> np.ndarray:
    """Map the vectors of a segment if they are those that the client has."""
    name = vectors_of(piece.name)
    current = files.read_manifest(root)
    # A reader keeps the version that it opened, whose files stay when a new one is written.
    if (
        current["sha256"] != shard.manifest
        and current["files"].get(name, piece.facts)["sha256"] != piece.facts["sha256"]
    ):
        raise files.ReferenceFolderError(
            f"{root} is another reference, or another version of it, than the client has open. Take the newest with "
            "refresh(), or copy the folder again."
        )
    asked = {**current, "sha256": shard.manifest, "files": {name: piece.facts}}
    if files.is_small(piece.facts) or not (root / name).is_file():
        files.check_file(root, asked, name)
    return open_vectors((root / name).parent, piece.n_cells, shard.n_latent)
