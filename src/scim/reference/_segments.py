"""Segments: vectors as fixed-point numbers and the cells' metadata as an Arrow table, both mapped into memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._manifest import CELLS, VECTORS, ReferenceFolderError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from ..ontology import TermSpace

#: A coordinate is stored as round(x / max(|x|) * 32767), the maximum over the vector: its length is known to be 1, so
#: that reading brings the scale back, and the error is 1.5e-5 of the largest coordinate at most.
SCALE = 32767
#: Columns that every reference has, in this order.
CELL_ID, LABEL, TERM_ID, STUDY = "cell_id", "label", "term_id", "study"
FIXED_COLUMNS = (CELL_ID, LABEL, TERM_ID, STUDY)


class SegmentWriter:
    """Write one segment: vectors go to the disk block by block, metadata are kept as compact tables until the end.

    Parameters
    ----------
    folder
        Made anew.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.n_cells = 0
        self._vectors = open(folder / VECTORS, "wb")  # closed in close() or abort()
        self._tables: list[pa.Table] = []

    def append(self, vectors: np.ndarray) -> None:
        """Add the unit vectors of some cells, (n, d)."""
        self._vectors.write(to_fixed(vectors).tobytes())
        self.n_cells += len(vectors)

    def describe(self, cells: pd.DataFrame) -> None:
        """Add the metadata of some cells, in the order of their vectors."""
        self._tables.append(to_table(cells))

    @property
    def cells(self) -> pa.Table:
        """Metadata so far."""
        return join_cells(self._tables)

    def close(self, cell_ids: np.ndarray) -> None:
        """Write the metadata, with these cell ids."""
        import pyarrow as pa

        self._vectors.close()
        table = self.cells
        table = table.set_column(0, CELL_ID, pa.array(cell_ids, type=pa.string())).combine_chunks()
        with pa.OSFile(str(self.folder / CELLS), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)

    def abort(self) -> None:
        """Close what is open."""
        self._vectors.close()


def to_table(cells: pd.DataFrame) -> pa.Table:
    """Cells as an Arrow table: whole numbers, real numbers, booleans, and text as a dictionary (but the cell ids)."""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name, values in cells.items():
        kinds = {"i": pa.int64(), "u": pa.int64(), "f": pa.float64(), "b": pa.bool_()}
        kind = kinds.get(values.dtype.kind, pa.string())
        column = pa.array(values.to_numpy(object) if kind == pa.string() else values, type=kind, from_pandas=True)
        columns[str(name)] = column.dictionary_encode() if kind == pa.string() and name != CELL_ID else column
    return pa.table(columns)


def join_cells(tables: Sequence[pa.Table]) -> pa.Table:
    """Put tables one below the other; a column that one lacks is null there, one of several types becomes text."""
    import pyarrow as pa

    if len(tables) == 1:
        return tables[0]
    joined = {}
    for name in dict.fromkeys(name for table in tables for name in table.column_names):
        kind = _common_type([table.schema.field(name).type for table in tables if name in table.column_names])
        chunks: list[Any] = []
        for table in tables:
            if name in table.column_names:
                chunks += _cast(table.column(name), kind).chunks
            else:
                chunks.append(pa.nulls(table.num_rows, kind))
        joined[name] = pa.chunked_array(chunks, type=kind)
    return pa.table(joined).unify_dictionaries()


def _common_type(types: list[Any]) -> Any:
    import pyarrow as pa

    if all(kind == types[0] for kind in types):
        return types[0]
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in types):
        return pa.float64()
    return pa.dictionary(pa.int32(), pa.string())


def _cast(column: pa.ChunkedArray, kind: Any) -> pa.ChunkedArray:
    import pyarrow as pa

    if column.type == kind:
        return column
    return column.cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)


def open_vectors(folder: Path, n_cells: int, n_latent: int) -> np.ndarray:
    """Map the vectors of a segment, int16 (n_cells, n_latent)."""
    path = folder / VECTORS
    if path.stat().st_size != n_cells * n_latent * 2:
        raise ReferenceFolderError(f"{path} does not hold {n_cells:,} vectors of {n_latent} numbers.")
    return np.memmap(path, dtype="<i2", mode="r", shape=(n_cells, n_latent))


def open_cells(folder: Path, n_cells: int) -> pa.Table:
    """Map the metadata of a segment."""
    import pyarrow as pa

    path = folder / CELLS
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise ReferenceFolderError(f"{path} is damaged: {error}. Build the reference again.") from error
    if table.num_rows != n_cells or any(name not in table.column_names for name in FIXED_COLUMNS):
        raise ReferenceFolderError(f"{path} is not the metadata of {n_cells:,} cells. Build the reference again.")
    return table


def to_fixed(vectors: np.ndarray) -> np.ndarray:
    """Vectors as fixed-point numbers, int16."""
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    fixed = np.divide(vectors * np.float32(SCALE), largest, out=np.zeros_like(vectors), where=largest > 0)
    return np.round(fixed).astype("<i2")


def to_float(fixed: np.ndarray) -> np.ndarray:
    """Fixed-point vectors as float32, brought back to length 1; zero vectors stay zero."""
    vectors = fixed.astype(np.float32)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=vectors, where=length > 0)


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


def dictionary(cells: pa.Table, column: str) -> tuple[np.ndarray, list[Any]]:
    """Code of each cell and the values that codes stand for; -1 where a value is missing."""
    import pyarrow as pa

    values = cells.column(column)
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    joined = values.unify_dictionaries().combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    if isinstance(joined, pa.ChunkedArray):  # no chunk at all
        return np.empty(0, dtype=np.int64), []
    codes = joined.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, joined.dictionary.to_pylist()
