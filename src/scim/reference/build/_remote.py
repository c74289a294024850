"""Embed files on the workers of a Dask cluster; their vectors come back in order to the process that writes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..._validate import get_adata
from ..._version import scim_version
from ..._warn import warn
from ...counts import BLOCK_ROWS
from ...encoder import Encoder
from ...index import to_fixed
from .._cluster import Cluster, Job, check_there, check_version
from ._sources import Part, opened

#: Blocks of cells that are on their way at a time: some for each thread, and some where threads are yet to come.
_PER_THREAD = 2
_FEWEST = 16


@dataclass(frozen=True)
class Block:
    """Cells of a file that a worker embeds.

    Attributes
    ----------
    path, layer, gene_column, mod
        The file, and where values and genes are in it.
    encoder, encoder_id
        Folder of the encoder, and its id.
    start, stop
        Positions of the cells.
    chunk_size
        Cells that are multiplied at a time.
    scim
        Version of the scim that asks.
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
    """Have workers embed files, some blocks ahead of the one that is asked for.

    Parameters
    ----------
    cluster
        The workers.
    encoder
        What to embed with.
    folder
        Where it was saved, for the workers.
    where
        ``layer``, ``gene_column`` and ``mod``, see :meth:`scim.Encoder.embed`.
    rows
        Cells of a block.
    parts
        All that will be asked for by its number, where that is known: those that come later are begun before they are
        asked for.
    first_of
        Says at which cell a part will be begun, or None if not at all.
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
        self._said = False

    def takes(self, part: Part) -> bool:
        """Whether workers can open a part; what is in memory is embedded where it is."""
        return part.path is not None and part.n_cells is not None

    def leave(self, part: Part) -> None:
        """Say, once, that a part is embedded in this process."""
        if not self._said:
            warn(
                f"The data of {part.name!r} are in memory, and are embedded in this process. Give the paths of files "
                "to have the workers of client= do it."
            )
        self._said = True

    def chunks(self, number: int, part: Part, start: int, X: Any) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield positions of cells from ``start`` on, and their vectors as fixed-point numbers, int16 (n, d).

        Parameters
        ----------
        number, part
            The part of the data.
        start
            First cell.
        X
            Its values: of a file that is stored by columns a worker gets all cells, for which it has to be read once.
        """
        if getattr(X, "format", None) == "csc":
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
        """Let the workers stop."""
        if self._results is not None:
            self._results.close()
        self._results = None
        self._coming.clear()

    def _next(self, number: int, part: Part, start: int) -> np.ndarray:
        """Vectors of the block that begins at ``start``."""
        if self._results is None or not self._coming or not _is_at(self._coming[0], number, start):
            # The first, or one that was not foreseen: a file of another time than the record says.
            self.close()
            self._parts[number] = part
            at_once = max(_FEWEST, _PER_THREAD * len(self._cluster.threads()))
            self._results = self._cluster.in_order(self._jobs(number, start), at_once=at_once)
        vectors = next(self._results)
        block = self._coming.popleft()[1]
        if vectors.shape != (block.stop - block.start, self._encoder.n_latent):
            raise ValueError(
                f"A worker embedded {len(vectors):,} cells of {block.path} where there should be "
                f"{block.stop - block.start:,}. Did the file change while it was read? Build again."
            )
        return vectors

    def _jobs(self, number: int, start: int) -> Iterator[Job]:
        """Submit blocks, from one on, when they are taken."""
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
        (vectors,) = self._cluster.in_order(
            (Job(self._cluster.submit(embed_block, block)) for _ in range(1)), at_once=1
        )
        return np.asarray(vectors)

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


#: Folder and id of the encoder that was used last, and the encoder.
_loaded: dict[str, tuple[str, Encoder]] = {}


def embed_block(block: Block) -> np.ndarray:
    """Embed cells of a file, on a worker, as fixed-point numbers int16 (n, d).

    Raises
    ------
    RuntimeError
        The worker has another scim.
    FileNotFoundError
        It does not see the file, or the encoder.
    """
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
    """Read the encoder, once for each build."""
    identity, encoder = _loaded.get(block.encoder, ("", None))
    if encoder is None or identity != block.encoder_id:
        encoder = Encoder.load(check_there(block.encoder))
        if encoder.id != block.encoder_id:
            raise RuntimeError(f"{block.encoder} holds encoder {encoder.id}, not {block.encoder_id}. Build again.")
        _loaded.clear()
        _loaded[block.encoder] = encoder.id, encoder
    return encoder
