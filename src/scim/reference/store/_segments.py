"""Segments: vectors as fixed-point numbers and the cells' metadata as an Arrow table, both mapped into memory."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._manifest import CELLS, EMPTY, VECTORS, ReferenceFolderError
from ._tables import (
    CELL_ID,
    FIXED_COLUMNS,
    TERM_ID,
    TableShape,
    cast_column,
    check_table,
    common_type,
    dictionary,
    read_table,
    to_table,
    unified,
    write_table,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from ...ontology import TermSpace

#: A coordinate is stored as round(x / max(|x|) * 32767), the maximum over the vector: its length is known to be 1, so
#: that reading brings the scale back, and the error is 1.5e-5 of the largest coordinate at most.
SCALE = 32767
#: Cells that are looked through at a time.
_BLOCK = 65_536


class SegmentWriter:
    """Write one segment block by block: nothing that grows with the number of cells is kept in memory.

    Parameters
    ----------
    folder
        Made anew, or, with ``n_cells``, one that an interrupted build left.
    stages
        Folder for metadata until the segment is closed; by default one inside ``folder``.
    n_cells, n_stages
        How much of what is there is to be kept.
    """

    def __init__(self, folder: Path, *, stages: Path | None = None, n_cells: int = 0, n_stages: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=bool(n_cells))
        self.folder, self.stages = folder, folder / ".stages" if stages is None else stages
        self.stages.mkdir(exist_ok=True)
        self.n_cells, self.n_stages = n_cells, n_stages
        self._vectors = open(folder / VECTORS, "ab" if n_cells else "wb")  # closed in close() or abort()
        self.begin_stage()

    def begin_stage(self) -> None:
        """Count and hash the vectors that are added from now on."""
        self.hash, self.n_bytes = hashlib.sha256(), 0

    def append(self, vectors: np.ndarray) -> None:
        """Add the unit vectors of some cells, (n, d)."""
        self.append_fixed(to_fixed(vectors))

    def append_fixed(self, vectors: np.ndarray) -> None:
        """Add vectors that are fixed-point numbers already, int16 (n, d)."""
        content = vectors.astype("<i2", copy=False).tobytes()
        self._vectors.write(content)
        self.hash.update(content)
        self.n_bytes += len(content)
        self.n_cells += len(vectors)

    def describe(self, cells: pd.DataFrame | pa.Table) -> Path:
        """Add the metadata of some cells, in the order of their vectors; return the file that holds them for now."""
        self.n_stages += 1
        path = self.stage(self.n_stages)
        write_table(path, [cells if hasattr(cells, "schema") else to_table(cells)])
        return path

    def stage(self, number: int) -> Path:
        """File of the metadata that were added as the ``number``-th."""
        return self.stages / f"{number:06d}.arrow"

    def flush(self) -> None:
        """Make what was added last through a power cut."""
        self._vectors.flush()
        os.fsync(self._vectors.fileno())

    def tables(self) -> Iterator[pa.Table]:
        """Metadata so far, as they were added."""
        for number in range(1, self.n_stages + 1):
            yield read_table(self.stage(number))

    def close(self, cell_ids: np.ndarray | Iterable[Any] | None = None, *, known: pa.Table | None = None) -> None:
        """Write the metadata.

        Parameters
        ----------
        cell_ids
            Ids of all cells, an array of them for each table that was added, or None for those that they have.
        known
            Metadata of the cells before these: text gets the codes that it has there, so that reading both is cheap.
        """
        import pyarrow as pa

        self._vectors.close()
        ids = iter([pa.array(cell_ids, type=pa.string())] if isinstance(cell_ids, np.ndarray) else cell_ids or ())
        shape = TableShape.of(self.tables, known)
        if shape.n_rows != self.n_cells:
            raise ValueError(f"There are metadata of {shape.n_rows:,} cells, but vectors of {self.n_cells:,}.")
        tables = (table if cell_ids is None else table.set_column(0, CELL_ID, next(ids)) for table in self.tables())
        write_table(self.folder / CELLS, shape.batches(tables))
        self._note_empty()

    def _note_empty(self) -> None:
        """Write which cells have no direction, if there are any: no search has to look for them then."""
        if not self.n_cells:
            return
        vectors = np.memmap(self.folder / VECTORS, dtype="<i2", mode="r").reshape(self.n_cells, -1)
        empty = np.flatnonzero(~has_direction([vectors]))
        if len(empty):
            np.save(self.folder / EMPTY, empty)

    def discard_stages(self) -> None:
        """Delete what the metadata were kept in until the segment was closed, if that lies in its folder."""
        if self.stages.parent == self.folder:
            shutil.rmtree(self.stages, ignore_errors=True)

    def abort(self) -> None:
        """Close what is open."""
        with suppress(OSError):  # on a full disk, what waits to be written has no place
            self._vectors.close()


def has_direction(segments: Sequence[np.ndarray]) -> np.ndarray:
    """Cells that have a direction, bool (n,); those without counts have none."""
    steps = [part[i : i + _BLOCK] for part in segments for i in range(0, len(part), _BLOCK)]
    return np.concatenate([np.asarray(step).any(axis=1) for step in steps])


def join_cells(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables one below the other; a column that one lacks is null there, one of several types becomes text."""
    import pyarrow as pa

    if len(tables) == 1:
        return tables[0]
    joined = {}
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        kind = common_type([table.schema.field(name).type for table in tables if name in table.column_names])
        chunks: list[Any] = []
        for table in tables:
            if name in table.column_names:
                chunks += cast_column(table.column(name), kind).chunks
            else:
                chunks.append(pa.nulls(table.num_rows, kind))
        joined[name] = pa.chunked_array(chunks, type=kind)
    for name, column in joined.items():
        if pa.types.is_dictionary(column.type):
            joined[name] = unified(column, name)
    return pa.table(joined)


def open_vectors(folder: Path, n_cells: int, n_latent: int) -> np.ndarray:
    """Map the vectors of a segment, int16 (n_cells, n_latent)."""
    path = folder / VECTORS
    # What lies beyond the end of a file that is mapped kills the process when it is read.
    if not path.is_file() or path.stat().st_size != n_cells * n_latent * 2:
        raise ReferenceFolderError(f"{path} does not hold {n_cells:,} vectors of {n_latent} numbers.")
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
    """Cells of a segment that have no direction, for they have no count in the encoder's genes."""
    path = folder / EMPTY
    return len(np.load(path, allow_pickle=False)) if path.is_file() else 0


def open_empty(folder: Path, n_cells: int) -> np.ndarray:
    """Positions of the cells of a segment that have no direction, int64 (n,)."""
    path = folder / EMPTY
    try:
        empty = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ReferenceFolderError(f"{path} is damaged: {error}. Build the reference again.") from error
    if empty.dtype != np.int64 or empty.ndim != 1 or (len(empty) and not 0 <= empty.min() <= empty.max() < n_cells):
        raise ReferenceFolderError(f"{path} does not fit {n_cells:,} cells. Build the reference again.")
    return np.asarray(empty)


def to_fixed(vectors: np.ndarray) -> np.ndarray:
    """Vectors as fixed-point numbers, int16."""
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    fixed = np.divide(vectors * np.float32(SCALE), largest, out=np.zeros_like(vectors), where=largest > 0)
    return np.round(fixed).astype("<i2")


def to_float(fixed: np.ndarray) -> np.ndarray:
    """Fixed-point vectors as float32, brought back to length 1, as `_fixed.to_unit` does; zero vectors stay zero."""
    # Whole numbers up to 2**30, whose sum is exact.
    exact = fixed.astype(np.float64)
    length = np.sqrt(np.einsum("nd,nd->n", exact, exact))
    scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0).astype(np.float32)
    return fixed.astype(np.float32) * scale[:, None]


def take_vectors(segments: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Vectors of some cells in the order given, float32 of length 1."""
    return to_float(gather_fixed(segments, rows))


def gather_fixed(segments: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Vectors of some cells in the order given, int16 (m, d), as they are stored."""
    starts = np.cumsum([0, *map(len, segments)])
    taken = np.empty((len(rows), segments[0].shape[1]), dtype=np.int16)
    which = np.searchsorted(starts, rows, side="right") - 1
    for i in np.unique(which):
        mine = which == i
        taken[mine] = segments[i][rows[mine] - starts[i]]
    return taken


def split_at(segments: list[np.ndarray], n: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Vectors of the first ``n`` cells, and of the others."""
    first, others, start = [], [], 0
    for segment in segments:
        cut = min(max(n - start, 0), len(segment))
        if cut:
            first.append(segment[:cut])
        if cut < len(segment):
            others.append(segment[cut:])
        start += len(segment)
    return first, others


def label_codes(cells: pa.Table, terms: TermSpace) -> np.ndarray:
    """Position of each cell's label in ``terms.labels``, int32 (n_cells,); -1 for a cell without a label."""
    codes, ids = dictionary(cells, TERM_ID)
    place = {str(term): i for i, term in enumerate(terms.label_ids)}
    table = np.array([place.get(str(i), -1) if i is not None else -1 for i in ids] + [-1], dtype=np.int32)
    return table[codes]
