"""Shards: cells that follow one another, as a worker opens and searches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..._progress import progress_bar
from .. import store
from .._cluster import Cluster, Job, check_there, check_version, identity
from ..store import open_vectors

if TYPE_CHECKING:
    from distributed import Future

#: Results that are merged by one task, and batches of queries that are on their way at a time.
_MERGED = 8


_AT_ONCE = 2


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
                sent = cluster.submit(identity, batch)
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
    return f"{store.SEGMENTS}/{name}/{store.VECTORS}"


def _joined(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Join the pieces of each segment, which follow one another."""
    joined: list[Piece] = []
    for piece in pieces:
        if joined and joined[-1].name == piece.name:
            joined[-1] = replace(joined[-1], stop=piece.stop)
        else:
            joined.append(piece)
    return tuple(joined)


def merge(found: Sequence[Found], k: int | None) -> Found:
    """Merge hits of the same queries, nearest first, equal ones by position: the best ``k``, or all."""
    positions, distances = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    n = int((positions >= 0).sum(axis=1).max(initial=0)) if k is None else k
    order = np.lexsort((positions, distances), axis=1)[:, :n]
    return np.take_along_axis(positions, order, 1), np.take_along_axis(distances, order, 1)


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
    current = store.read_manifest(root)
    # A reader keeps the version that it opened, whose files stay when a new one is written.
    if (
        current["sha256"] != shard.manifest
        and current["files"].get(name, piece.facts)["sha256"] != piece.facts["sha256"]
    ):
        raise store.ReferenceFolderError(
            f"{root} is another reference, or another version of it, than the client has open. Take the newest with "
            "refresh(), or copy the folder again."
        )
    asked = {**current, "sha256": shard.manifest, "files": {name: piece.facts}}
    if store.is_small(piece.facts) or not (root / name).is_file():
        store.check_file(root, asked, name)
    return open_vectors((root / name).parent, piece.n_cells, shard.n_latent)
