"""Segments: vectors as fixed-point numbers and the cells' metadata as an Arrow table, both mapped into memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._manifest import CELLS, VECTORS, ReferenceFolderError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: A coordinate of a unit vector is stored as round(x * 32767): an error of 1.5e-5 at most.
SCALE = 32767
#: Columns that every reference has, in this order.
CELL_ID, LABEL, TERM_ID, STUDY = "cell_id", "label", "term_id", "study"
FIXED_COLUMNS = (CELL_ID, LABEL, TERM_ID, STUDY)


class SegmentWriter:
    """Write one segment chunk by chunk; memory does not grow with its cells.

    Parameters
    ----------
    folder
        Made anew.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.n_cells = 0
        self._vectors = open(folder / VECTORS, "wb")  # closed in close()
        self._tables: list[pa.Table] = []

    def append(self, vectors: np.ndarray, cells: pd.DataFrame) -> None:
        """Add cells: unit vectors (n, d), and a table of n rows."""
        import pyarrow as pa

        self._vectors.write(np.round(vectors * SCALE).astype("<i2").tobytes())
        self._tables.append(pa.Table.from_pandas(cells, preserve_index=False))
        self.n_cells += len(cells)

    def close(self) -> None:
        """Write the metadata and bring both files to the disk."""
        import pyarrow as pa

        self._sync(self._vectors)
        table = pa.concat_tables(self._tables, promote_options="permissive").unify_dictionaries().combine_chunks()
        table = encode_text(table.replace_schema_metadata(None))
        with open(self.folder / CELLS, "wb") as file:
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            file.flush()
            os.fsync(file.fileno())

    def abort(self) -> None:
        """Close what is open."""
        self._vectors.close()

    @staticmethod
    def _sync(file: Any) -> None:
        file.flush()
        os.fsync(file.fileno())
        file.close()


def encode_text(table: pa.Table) -> pa.Table:
    """Text columns as dictionaries, but the cell ids, of which no two are alike."""
    import pyarrow as pa

    for i, field in enumerate(table.schema):
        if field.name != CELL_ID and (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            table = table.set_column(i, field.name, table.column(i).dictionary_encode())
    return table


def open_vectors(folder: Path, n_cells: int, n_latent: int) -> np.ndarray:
    """Map the vectors of a segment, int16 (n_cells, n_latent)."""
    path = folder / VECTORS
    if path.stat().st_size != n_cells * n_latent * 2:
        raise ReferenceFolderError(f"{path} does not hold {n_cells:,} vectors of {n_latent} numbers.")
    if n_cells == 0:
        return np.empty((0, n_latent), dtype="<i2")
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


def join_cells(tables: Sequence[pa.Table]) -> pa.Table:
    """Metadata of all segments; a column that a segment lacks is null there."""
    import pyarrow as pa

    return tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive").unify_dictionaries()


def to_float(fixed: np.ndarray) -> np.ndarray:
    """Fixed-point vectors as float32, brought back to length 1; zero vectors stay zero."""
    vectors = fixed.astype(np.float32)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=vectors, where=length > 0)


def dictionary(cells: pa.Table, column: str) -> tuple[np.ndarray, list[Any]]:
    """Code of each cell and the values that codes stand for; -1 where a value is missing."""
    import pyarrow as pa

    values = cells.column(column)
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    joined = values.unify_dictionaries().combine_chunks() if values.num_chunks != 1 else values.chunk(0)
    codes = joined.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes, joined.dictionary.to_pylist()
