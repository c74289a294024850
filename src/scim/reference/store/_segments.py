"""Segments: vectors as fixed-point numbers and metadata as an Arrow table, both mapped into memory."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._disk import load_arrays
from ...index import has_direction, to_fixed
from ._columns import CELL_ID, FIXED_COLUMNS
from ._manifest import CELLS, EMPTY, VECTORS, ReferenceFolderError
from ._tables import TableShape, check_table, read_table, to_table, write_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class SegmentWriter:
    """Write a segment block by block. Memory does not grow with the number of cells.

    Parameters
    ----------
    folder
        Folder to create, or, with ``n_cells``, the folder of an interrupted build.
    stages
        Folder of the metadata until the segment is closed. The default is a folder inside ``folder``.
    n_cells, n_stages
        Numbers of finished cells and stages to keep.
    """

    def __init__(self, folder: Path, *, stages: Path | None = None, n_cells: int = 0, n_stages: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=bool(n_cells))
        self.folder, self.stages = folder, folder / ".stages" if stages is None else stages
        self.stages.mkdir(exist_ok=True)
        self.n_cells, self.n_stages = n_cells, n_stages
        self._vectors = open(folder / VECTORS, "ab" if n_cells else "wb")  # closed in close() or abort()
        self.begin_stage()

    def begin_stage(self) -> None:
        """Start to count and hash the vectors that are added."""
        self.hash, self.n_bytes = hashlib.sha256(), 0

    def append(self, vectors: np.ndarray) -> None:
        """Add unit vectors, (n, d)."""
        self.append_fixed(to_fixed(vectors))

    def append_fixed(self, vectors: np.ndarray) -> None:
        """Add fixed-point vectors, int16 (n, d)."""
        content = vectors.astype("<i2", copy=False).tobytes()
        self._vectors.write(content)
        self.hash.update(content)
        self.n_bytes += len(content)
        self.n_cells += len(vectors)

    def describe(self, cells: pd.DataFrame | pa.Table) -> Path:
        """Add the metadata of cells in the order of their vectors. Return the file that holds them until the end."""
        self.n_stages += 1
        path = self.stage(self.n_stages)
        write_table(path, [cells if hasattr(cells, "schema") else to_table(cells)])
        return path

    def stage(self, number: int) -> Path:
        """Return the file of the ``number``-th table of metadata."""
        return self.stages / f"{number:06d}.arrow"

    def flush(self) -> None:
        """Write the vectors to the disk, so that they survive a power cut."""
        self._vectors.flush()
        os.fsync(self._vectors.fileno())

    def tables(self) -> Iterator[pa.Table]:
        """Yield the tables of metadata that were added."""
        for number in range(1, self.n_stages + 1):
            yield read_table(self.stage(number))

    def close(self, cell_ids: np.ndarray | Iterable[Any] | None = None, *, known: pa.Table | None = None) -> None:
        """Write the metadata.

        Parameters
        ----------
        cell_ids
            Ids of all cells, or an array of ids for each table that was added. None keeps the ids of the tables.
        known
            Metadata of the cells before these. Text gets the codes that it has there, so that joining the tables is
            fast.
        """
        import pyarrow as pa

        self._vectors.close()
        ids = iter([pa.array(cell_ids, type=pa.string())] if isinstance(cell_ids, np.ndarray) else cell_ids or ())
        shape = TableShape.of(self.tables, known)
        if shape.n_rows != self.n_cells:
            raise ValueError(
                f"There are metadata of {shape.n_rows:,} cells, but vectors of {self.n_cells:,}. Give both for all."
            )
        tables = (table if cell_ids is None else table.set_column(0, CELL_ID, next(ids)) for table in self.tables())
        write_table(self.folder / CELLS, shape.batches(tables))
        self._note_empty()

    def _note_empty(self) -> None:
        """Write the positions of cells without a direction, if there are any, so that no search has to find them."""
        if not self.n_cells:
            return
        vectors = np.memmap(self.folder / VECTORS, dtype="<i2", mode="r").reshape(self.n_cells, -1)
        empty = np.flatnonzero(~has_direction(vectors))
        if len(empty):
            np.save(self.folder / EMPTY, empty)

    def discard_stages(self) -> None:
        """Delete the stages, if they lie in the folder of the segment."""
        if self.stages.parent == self.folder:
            shutil.rmtree(self.stages, ignore_errors=True)

    def abort(self) -> None:
        """Close the file of vectors."""
        with suppress(OSError):  # on a full disk, the rest cannot be written
            self._vectors.close()


def open_vectors(folder: Path, n_cells: int, n_latent: int) -> np.ndarray:
    """Map the vectors of a segment, int16 (n_cells, n_latent)."""
    path = folder / VECTORS
    # Reading beyond the end of a mapped file kills the process.
    if not path.is_file() or path.stat().st_size != n_cells * n_latent * 2:
        raise ReferenceFolderError(
            f"{path} does not hold {n_cells:,} vectors of {n_latent} numbers. Build the reference again."
        )
    return np.memmap(path, dtype="<i2", mode="r", shape=(n_cells, n_latent))


def open_cells(folder: Path, n_cells: int) -> pa.Table:
    """Map the metadata of a segment."""
    import pyarrow as pa

    path = folder / CELLS
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()
        check_table(table)
    except (pa.ArrowException, OSError) as error:
        raise ReferenceFolderError(f"{path} is damaged: {error}. Build the reference again.") from error
    if table.num_rows != n_cells or any(name not in table.column_names for name in FIXED_COLUMNS):
        raise ReferenceFolderError(f"{path} is not the metadata of {n_cells:,} cells. Build the reference again.")
    return table


def n_empty(folder: Path) -> int:
    """Count the cells of a segment that have no direction: no count in any gene of the encoder."""
    path = folder / EMPTY
    return len(np.load(path, allow_pickle=False)) if path.is_file() else 0


def open_empty(folder: Path, n_cells: int) -> np.ndarray:
    """Read the positions of the cells of a segment that have no direction, int64 (n,)."""
    path = folder / EMPTY
    empty = load_arrays(path, ReferenceFolderError, remedy="Build the reference again.")[""]
    if empty.dtype != np.int64 or empty.ndim != 1 or (len(empty) and not 0 <= empty.min() <= empty.max() < n_cells):
        raise ReferenceFolderError(f"{path} does not match {n_cells:,} cells. Build the reference again.")
    return np.asarray(empty)
