"""Shards: consecutive cells of a reference, as a worker opens and searches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..._progress import progress_bar
from ...index import FixedVectors, Hits
from .. import store
from .._cluster import Cluster, Job, check_there, check_version, identity
from ..store import open_vectors

if TYPE_CHECKING:
    from distributed import Future

#: Results that one task merges.
_MERGED = 8
#: Batches of queries that are searched at a time.
_BATCHES_AT_A_TIME = 2
#: Futures of hits, and other futures that they need.
Tasks: TypeAlias = "tuple[list[Future], tuple[Future, ...]]"


@dataclass(frozen=True)
class Piece:
    """Rows of one segment: its name, its cells, the manifest's entry of its vectors, and the rows."""

    name: str
    n_cells: int
    facts: Mapping[str, Any]
    start: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """Consecutive cells of a reference, as a worker has to know them.

    ``manifest`` is the hash of its manifest, and ``scim`` the version of the client. ``start`` is the position of the
    first cell, ``pieces`` are the segments of the cells, and rows in them. ``allowed`` has a bit for each cell that may
    be found; None: all.
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
        """Mask the cells that are not allowed, bool of all positions; None if none of its cells is left."""
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
    """Worker of each of n shards, the same while the workers live, so that each reads its own part of the files."""
    return [threads[i * len(threads) // n] if threads else None for i in range(n)]


def ask(
    cluster: Cluster, queries: np.ndarray, tasks: Callable[[Future], Tasks], n_tasks: int, *, step: int, k: int | None
) -> Iterator[Hits]:
    """Have workers search for ``step`` queries at a time, unit vectors (m, d), and yield the merged hits.

    ``tasks`` submits, for queries that were sent, the ``n_tasks`` tasks whose hits are merged, and other tasks that
    they need. ``k`` is the most hits of each query, None for all.
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

        yield from cluster.in_order(jobs(), at_once=_BATCHES_AT_A_TIME)


def _merged(cluster: Cluster, found: Sequence[Future], k: int | None) -> list[Future]:
    """Have the workers merge their hits, a few results at a time, so that little is sent here; the last is whole."""
    every: list[Future] = []
    while len(found) > 1 or not every:
        found = [cluster.submit(Hits.merged, list(found[i : i + _MERGED]), k) for i in range(0, len(found), _MERGED)]
        every += found
    return every


def vectors_of(name: str) -> str:
    """Name of the file of a segment's vectors."""
    return f"{store.SEGMENTS}/{name}/{store.VECTORS}"


def joined(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Join consecutive pieces of each segment."""
    whole: list[Piece] = []
    for piece in pieces:
        if whole and whole[-1].name == piece.name:
            whole[-1] = replace(whole[-1], stop=piece.stop)
        else:
            whole.append(piece)
    return tuple(whole)


#: Folder -> hash of the manifest, and vectors of the segments, of the version that was searched last.
_opened: dict[str, tuple[str, dict[str, np.ndarray]]] = {}


def open_shard(shard: Shard) -> FixedVectors:
    """Map the vectors of a shard, on a worker, which opens a version of a reference once.

    A RuntimeError says that the worker has another scim, a FileNotFoundError or ReferenceFolderError that it does not
    see the folder, or sees another.
    """
    check_version(shard.scim)
    manifest, segments = _opened.get(shard.root, ("", {}))
    if manifest != shard.manifest:
        segments = {}
        # Drop the version before, so that its files can be deleted.
        _opened[shard.root] = shard.manifest, segments
    for piece in shard.pieces:
        if piece.name not in segments:
            segments[piece.name] = _open_segment(check_there(shard.root), shard, piece)
    return FixedVectors([segments[piece.name][piece.start : piece.stop] for piece in shard.pieces])


def _open_segment(root: Path, shard: Shard, piece: Piece) -> np.ndarray:
    """Map the vectors of a segment, after a check that the client has the same file."""
    name = vectors_of(piece.name)
    current = store.read_manifest(root)
    # A reader keeps the version that it opened, and its files stay when another version is written.
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
