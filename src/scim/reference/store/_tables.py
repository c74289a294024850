"""Metadata as Arrow tables: written, mapped into memory, and checked before they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ._columns import CELL_ID, cast_column, check_codes, common_type, damaged_column, dictionary

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: Rows of a batch in a file.
_BATCH_ROWS = 262_144
#: Take a dictionary of at most this many values along with rows, even if the rows are fewer.
_KEPT_VALUES = 10_000


def to_table(cells: pd.DataFrame) -> pa.Table:
    """Convert cells to an Arrow table: integers, real numbers, booleans, and text as a dictionary (ids as plain text).

    float32 becomes the float64 of the same shortest text: 0.1 stays 0.1.
    """
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name, values in cells.items():
        kinds = {"i": pa.int64(), "u": pa.int64(), "f": pa.float64(), "b": pa.bool_()}
        kind = kinds.get(values.dtype.kind, pa.string())
        if str(values.dtype).lower() == "float32":
            column = pa.array(values, from_pandas=True).cast(pa.string()).cast(kind)
        else:
            column = pa.array(values.to_numpy(object) if kind == pa.string() else values, type=kind, from_pandas=True)
        columns[str(name)] = column.dictionary_encode() if kind == pa.string() and name != CELL_ID else column
    return pa.table(columns)


@dataclass(frozen=True, eq=False)
class TableShape:
    """Columns of tables that are written below one another.

    Attributes
    ----------
    types
        Type of each column.
    values
        Values of the codes of each text column.
    n_rows
        Rows of all tables.
    """

    types: dict[str, Any]
    values: dict[str, Any]
    n_rows: int

    @classmethod
    def of(cls, tables: Callable[[], Iterable[pa.Table]], known: pa.Table | None = None) -> TableShape:
        """Read the types of the columns, and then the values of text columns.

        Parameters
        ----------
        tables
            Function that returns an iterator over all tables.
        known
            A table that the result will be joined to. Its values get the codes that they have there.
        """
        import pyarrow as pa

        kinds: dict[str, list[Any]] = {}
        n_rows = 0
        for table in tables():
            n_rows += table.num_rows
            for field in table.schema:
                kinds.setdefault(field.name, []).append(field.type)
        types = {name: common_type(found) for name, found in kinds.items()}
        places: dict[str, dict[str, int]] = {name: {} for name in types if pa.types.is_dictionary(types[name])}
        for name, place in places.items():
            if known is not None and name in known.column_names and known.schema.field(name).type == types[name]:
                last = known.column(name).chunk(known.column(name).num_chunks - 1)
                place.update((value, code) for code, value in enumerate(last.dictionary.to_pylist()))
        for table in tables():
            for name in table.column_names:
                if name in places:
                    for chunk in cast_column(table.column(name), types[name]).chunks:
                        used = np.unique(chunk.indices.drop_null().to_numpy())
                        for value in chunk.dictionary.take(pa.array(used)).to_pylist():
                            places[name].setdefault(value, len(places[name]))
        return cls(types, {name: pa.array(list(place), type=pa.string()) for name, place in places.items()}, n_rows)

    def batches(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Convert tables to these columns, and join small tables to batches."""
        import pyarrow as pa

        waiting: list[Any] = []
        for table in tables:
            waiting.append(pa.table({name: self._column(table, name) for name in self.types}))
            if sum(map(len, waiting)) >= _BATCH_ROWS:
                yield pa.concat_tables(waiting).combine_chunks()
                waiting = []
        if waiting:
            yield pa.concat_tables(waiting).combine_chunks()

    def _column(self, table: pa.Table, name: str) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        kind = self.types[name]
        if name not in self.values:
            return cast_column(table.column(name), kind) if name in table.column_names else pa.nulls(len(table), kind)
        codes = np.full(len(table), -1, dtype=np.int32)
        if name in table.column_names:
            own, values = dictionary(pa.table({name: cast_column(table.column(name), kind)}), name)
            place = pc.index_in(pa.array(values, pa.string()), self.values[name])
            codes = np.append(place.fill_null(-1).to_numpy(), -1).astype(np.int32)[own]
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), self.values[name])


def write_table(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables of the same columns below one another, as an Arrow file that can be mapped into memory."""
    import pyarrow as pa

    writer = None
    with pa.OSFile(str(path), "wb") as file:
        for table in tables:
            writer = pa.ipc.new_file(file, table.schema) if writer is None else writer
            writer.write_table(table)
        if writer is not None:
            writer.close()


def read_table(path: Path) -> pa.Table:
    """Map an Arrow file into memory."""
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(str(path), "r")).read_all()


def take_rows(cells: pa.Table, rows: np.ndarray, columns: Iterable[str] | None = None) -> pa.Table:
    """Take rows in the order of ``rows``, and read no other rows.

    Parameters
    ----------
    cells
        Metadata, in one or more chunks.
    rows
        Positions, int64 (m,).
    columns
        Columns to take. None: all.

    Raises
    ------
    ReferenceFolderError
        A code or offset is out of range: the file is damaged.
    """
    import pyarrow as pa

    taken, sorted_by = {}, {}
    for name in cells.column_names if columns is None else columns:
        column, parts = cells.column(name), []
        lengths = tuple(map(len, column.chunks))
        if lengths not in sorted_by:
            sorted_by[lengths] = _by_chunk(rows, lengths)
        order, bounds, starts, back = sorted_by[lengths]
        for chunk, start, a, b in zip(column.chunks, starts, bounds[:-1], bounds[1:], strict=True):
            if a < b:
                mine = rows if len(lengths) == 1 else rows[order[a:b]] - start
                parts.append(_take(chunk, mine.astype(np.int32) if len(chunk) < 2**31 else mine, name))
        joined = pa.chunked_array(parts, type=column.type)
        if pa.types.is_dictionary(column.type):
            if any(len(part.dictionary) > max(_KEPT_VALUES, len(rows)) for part in parts):
                joined = joined.cast(column.type.value_type).dictionary_encode()
            joined = joined.unify_dictionaries()
        whole = joined.combine_chunks()
        # combine_chunks returns an array, or a chunked array without chunks.
        taken[name] = joined if not len(rows) else whole if len(parts) == 1 else whole.take(back)
    return pa.table(taken)


def _by_chunk(rows: np.ndarray, lengths: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Sort rows by chunk. Return the order, the bounds of each chunk in it, the chunks' first rows, and the inverse."""
    import pyarrow as pa

    starts = np.cumsum([0, *lengths])
    if len(lengths) == 1:
        return rows, np.array([0, len(rows)]), starts[:-1], None
    chunk = np.searchsorted(starts[1:], rows, side="right")
    # Numbers of 16 bits are sorted by counting, in a tenth of the time.
    chunk = chunk.astype(np.uint16) if len(lengths) < 2**16 else chunk
    order = np.argsort(chunk, kind="stable")
    back = np.empty(len(rows), dtype=np.int64)
    back[order] = np.arange(len(rows))
    bounds = np.searchsorted(chunk[order], np.arange(len(lengths) + 1))
    return order, bounds, starts[:-1], pa.array(back)


def _take(chunk: Any, rows: np.ndarray, name: str) -> Any:
    """Take rows of a chunk after checking their offsets, which Arrow would follow anywhere."""
    import pyarrow as pa

    if pa.types.is_dictionary(chunk.type):
        codes = chunk.indices.take(pa.array(rows))
        check_codes(codes, len(chunk.dictionary), name)
        return pa.DictionaryArray.from_arrays(codes, chunk.dictionary)
    if pa.types.is_string(chunk.type):
        _, offsets, text = chunk.buffers()
        at = np.frombuffer(offsets, dtype=np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        begin, end = at[rows], at[rows + 1]
        if ((begin < 0) | (end < begin) | (end > (text.size if text else 0))).any():
            raise damaged_column(name)
    return chunk.take(pa.array(rows))


def check_table(cells: pa.Table) -> None:
    """Check the buffers and dictionaries of a table without reading a row. Damage is a ``pa.ArrowInvalid``."""
    import pyarrow as pa

    cells.validate()
    seen = set()
    for column in cells.columns:
        if pa.types.is_dictionary(column.type):
            for chunk in column.chunks:
                place = tuple(buffer.address for buffer in chunk.dictionary.buffers() if buffer is not None)
                if place not in seen:
                    chunk.dictionary.validate(full=True)
                    seen.add(place)
