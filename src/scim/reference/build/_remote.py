"""Embed files on the workers of a Dask cluster, and return the vectors in order to the process that writes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..._validate import get_adata
from ..._version import scim_version
from ..._warn import warn
from ...counts import BLOCK_ROWS
from ...encoder import Encoder
from ...index import to_fixed
from .._cluster import Cluster, Job, check_there, check_version
from ._sources import Part, opened

#: Blocks of cells that are submitted at a time for each thread of the cluster.
_BLOCKS_PER_THREAD = 2
#: Blocks that are submitted at least, for workers that start later.
_MIN_BLOCKS = 16
#: The encoder that a worker used last, by its folder, with its id.
_loaded: dict[str, tuple[str, Encoder]] = {}


@dataclass(frozen=True)
class Block:
    """Cells of a file that a worker embeds, from ``start`` to ``stop``.

    ``path``, ``layer``, ``gene_column`` and ``mod`` say where values and genes are, ``encoder`` is the folder of the
    encoder, and ``scim`` the version of the client. ``chunk_size`` cells are multiplied at a time.
    """

    path: str
    layer: str | None
    gene_column: str | None
    mod: str | None
    encoder: str
    encoder_id: str
    start: int
    stop: int
    chunk_size: int
    scim: str


class RemoteEmbedder:
    """Embed files on workers, a few blocks of ``rows`` cells ahead of the block that is needed.

    ``folder`` holds the encoder for the workers. ``where`` has ``layer``, ``gene_column`` and ``mod``, as in
    :meth:`scim.Encoder.embed`. ``parts`` are the parts of the data by number, if they are known: later parts are
    started before they are needed. ``first_of`` returns the first cell of a part that is not finished, or None.
    """

    def __init__(
        self,
        cluster: Cluster,
        encoder: Encoder,
        folder: Path,
        where: Mapping[str, str | None],
        *,
        rows: int,
        parts: Mapping[int, Part],
        first_of: Callable[[int, Part], int | None],
    ) -> None:
        self._cluster, self._where, self._parts, self._first_of = cluster, where, dict(parts), first_of
        self._encoder, self._folder = encoder, folder
        self._rows = -(-rows // BLOCK_ROWS) * BLOCK_ROWS
        self._coming: deque[tuple[int, Block]] = deque()
        self._results: Generator[np.ndarray, None, None] | None = None
        self._has_warned = False

    def takes(self, part: Part) -> bool:
        """Whether workers can open a part. Data in memory are embedded in this process."""
        return part.path is not None and part.n_cells is not None

    def leave(self, part: Part) -> None:
        """Warn once that a part is embedded in this process."""
        if not self._has_warned:
            warn(
                f"The data of {part.name!r} are in memory, and are embedded in this process. Give paths of files to "
                "embed them on the workers of client=."
            )
        self._has_warned = True

    def chunks(self, number: int, part: Part, start: int, *, by_columns: bool) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield positions of cells from ``start`` on, and their vectors as fixed-point numbers, int16 (n, d).

        If a file stores the values ``by_columns``, one worker embeds all cells, and reads the file once.
        """
        if by_columns:
            vectors = self._alone(part, start)
            for first in range(0, len(vectors), self._rows):
                last = min(first + self._rows, len(vectors))
                yield slice(start + first, start + last), vectors[first:last]
            return
        while start < int(part.n_cells or 0):
            vectors = self._next(number, part, start)
            yield slice(start, start + len(vectors)), vectors
            start += len(vectors)

    def close(self) -> None:
        """Cancel the work of the workers."""
        if self._results is not None:
            self._results.close()
        self._results = None
        self._coming.clear()

    def _next(self, number: int, part: Part, start: int) -> np.ndarray:
        """Return the vectors of the block at ``start``."""
        if self._results is None or not self._coming or not _is_at(self._coming[0], number, start):
            # The first block, or another block than submitted, because a file changed since it was recorded.
            self.close()
            self._parts[number] = part
            at_once = max(_MIN_BLOCKS, _BLOCKS_PER_THREAD * len(self._cluster.threads()))
            self._results = self._cluster.in_order(self._jobs(number, start), at_once=at_once)
        vectors = next(self._results)
        block = self._coming.popleft()[1]
        if vectors.shape != (block.stop - block.start, self._encoder.n_latent):
            raise ValueError(
                f"A worker embedded {len(vectors):,} cells of {block.path} instead of {block.stop - block.start:,}. "
                "Did the file change while it was read? Build again."
            )
        return vectors

    def _jobs(self, number: int, start: int) -> Iterator[Job]:
        """Submit blocks from a part and cell on, when they are taken."""
        for i in sorted(i for i in self._parts if i >= number):
            part = self._parts[i]
            first = start if i == number else self._first_of(i, part)
            if first is None or not self.takes(part):
                continue
            for begin in range(first, int(part.n_cells or 0), self._rows):
                block = self._block(part, begin, min(begin + self._rows, int(part.n_cells or 0)))
                self._coming.append((i, block))
                yield Job(self._cluster.submit(embed_block, block))

    def _alone(self, part: Part, start: int) -> np.ndarray:
        self.close()
        block = self._block(part, start, int(part.n_cells or 0))
        jobs = (Job(self._cluster.submit(embed_block, b)) for b in (block,))
        return np.asarray(next(self._cluster.in_order(jobs, at_once=1)))

    def _block(self, part: Part, start: int, stop: int) -> Block:
        return Block(
            path=str(Path(part.path or "").absolute()),
            encoder=str(self._folder.absolute()),
            encoder_id=self._encoder.id,
            start=start,
            stop=stop,
            chunk_size=BLOCK_ROWS,
            scim=scim_version(),
            **self._where,
        )


def _is_at(coming: tuple[int, Block], number: int, start: int) -> bool:
    return coming[0] == number and coming[1].start == start


def embed_block(block: Block) -> np.ndarray:
    """Embed cells of a file on a worker, as fixed-point numbers int16 (n, d)."""
    check_version(block.scim)
    encoder, chunks = _load(block), []
    with opened(check_there(block.path)) as data:
        adata = get_adata(data, mod=block.mod)
        blocks = encoder.embed_chunks(
            adata, layer=block.layer, gene_column=block.gene_column, chunk_size=block.chunk_size, start=block.start
        )
        for span, vectors in blocks:
            chunks.append(to_fixed(vectors))
            if span.stop >= block.stop:
                break
    return np.concatenate(chunks)


def _load(block: Block) -> Encoder:
    """Load the encoder, once for each build."""
    identity, encoder = _loaded.get(block.encoder, ("", None))
    if encoder is None or identity != block.encoder_id:
        encoder = Encoder.load(check_there(block.encoder))
        if encoder.id != block.encoder_id:
            raise RuntimeError(f"{block.encoder} holds encoder {encoder.id}, not {block.encoder_id}. Build again.")
        _loaded.clear()
        _loaded[block.encoder] = encoder.id, encoder
    return encoder
