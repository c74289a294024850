"""Columns of Arrow tables: types, codes, dictionaries, and values as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from ._manifest import ReferenceFolderError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from ...ontology import TermSpace

#: Columns that every reference has, in this order.
CELL_ID = "cell_id"
LABEL = "label"
TERM_ID = "term_id"
STUDY = "study"
FIXED_COLUMNS = (CELL_ID, LABEL, TERM_ID, STUDY)


def join_cells(tables: Sequence[pa.Table]) -> pa.Table:
    """Join the rows of tables. A column that a table lacks is null there; a column of several types becomes text."""
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


def label_codes(cells: pa.Table, terms: TermSpace) -> np.ndarray:
    """Return the position of each cell's label in ``terms.labels``, int32 (n_cells,); -1 for a cell without a label."""
    codes, ids = dictionary(cells, TERM_ID)
    place = {str(term): i for i, term in enumerate(terms.label_ids)}
    table = np.array([place.get(str(i), -1) if i is not None else -1 for i in ids] + [-1], dtype=np.int32)
    return table[codes]


def common_type(types: list[Any]) -> Any:
    """Return the type that columns of several types are joined to: real numbers if all are numbers, or text."""
    import pyarrow as pa

    if all(kind == types[0] for kind in types):
        return types[0]
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in types):
        return pa.float64()
    return pa.dictionary(pa.int32(), pa.string())


def column_kinds(tables: Iterable[pa.Table]) -> dict[str, str]:
    """Return the kind of each column that has a value: "numbers", "True and False" or "text"."""
    import pyarrow as pa

    kinds: dict[str, str] = {}
    for table in tables:
        for name, column in zip(table.column_names, table.columns, strict=True):
            if column.null_count < len(column):
                is_text = pa.types.is_dictionary(column.type) or pa.types.is_string(column.type)
                kind = "text" if is_text else "True and False" if pa.types.is_boolean(column.type) else "numbers"
                kinds.setdefault(name, kind)
    return kinds


def cast_column(column: pa.ChunkedArray, kind: Any) -> pa.ChunkedArray:
    """Convert a column to a type of :func:`common_type`."""
    import pyarrow as pa

    if column.type == kind:
        return column
    return column.cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)


def distinct_values(tables: Iterable[pa.Table], column: str) -> list[str]:
    """Return the sorted texts of a column."""
    found: set[str] = set()
    for table in tables:
        codes, values = dictionary(table, column)
        found |= {str(values[code]) for code in np.unique(codes) if code >= 0}
    return sorted(found)


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Convert a table to pandas. Booleans with missing values become nullable booleans, which files can hold."""
    import pyarrow as pa

    # Ids are all different, and other text is categorical, so that no objects are shared.
    frame = table.to_pandas(deduplicate_objects=False)
    for name in (field.name for field in table.schema if pa.types.is_boolean(field.type)):
        if frame[name].dtype == object:
            frame[name] = frame[name].astype("boolean")
    return frame


def check_codes(codes: Any, n_values: int, name: str) -> None:
    """Refuse codes of a column that are outside of its dictionary."""
    import pyarrow.compute as pc

    bounds = pc.min_max(codes).as_py()
    if bounds["max"] is not None and (bounds["max"] >= n_values or bounds["min"] < 0):
        raise damaged_column(name)


def check_columns(cells: pa.Table, columns: Iterable[str]) -> None:
    """Read whole columns, and raise a ReferenceFolderError if a code or offset is out of range."""
    import pyarrow as pa

    for name in columns:
        for chunk in cells.column(name).chunks:
            if pa.types.is_dictionary(chunk.type):
                check_codes(chunk.indices, len(chunk.dictionary), name)
            else:
                try:
                    chunk.validate(full=True)
                except pa.ArrowInvalid as error:
                    raise damaged_column(name) from error


def damaged_column(column: str) -> ReferenceFolderError:
    """Return the error of a damaged column."""
    return ReferenceFolderError(
        f"The metadata of the reference are damaged: column {column!r} of a cells.arrow. `scim verify` names the file. "
        "Copy the folder again, or build the reference again."
    )


def dictionary(cells: pa.Table, column: str) -> tuple[np.ndarray, list[Any]]:
    """Return the code of each cell, int32 (n_cells,), -1 for a missing value, and the values of the codes."""
    import pyarrow as pa

    values = cells.column(column)
    if not pa.types.is_dictionary(values.type):
        check_columns(cells, [column])
        values = values.dictionary_encode()
    values = unified(values, column)
    codes, start = np.full(len(values), -1, dtype=np.int32), 0
    for chunk in values.chunks:
        check_codes(chunk.indices, len(chunk.dictionary), column)
        plain = chunk.indices.fill_null(-1) if chunk.indices.null_count else chunk.indices
        codes[start : start + len(chunk)] = plain.to_numpy(zero_copy_only=False)
        start += len(chunk)
    return codes, values.chunk(values.num_chunks - 1).dictionary.to_pylist() if values.num_chunks else []


def unified(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Give all chunks one dictionary. If each dictionary extends the one before, no row is read."""
    last: Any = column.chunk(column.num_chunks - 1).dictionary if column.num_chunks else None
    for chunk in column.chunks:
        if not chunk.dictionary.equals(last[: len(chunk.dictionary)]):
            for each in column.chunks:  # the next line looks codes up
                check_codes(each.indices, len(each.dictionary), name)
            break
    return column.unify_dictionaries()


def as_text(value: Any) -> str:
    """Convert a value to text, as it is stored and searched for: a date becomes text that sorts like dates.

    Dates are ISO 8601 with a space before the time, without the time at midnight, and in UTC if a zone is known.

    Examples
    --------
    >>> import datetime
    >>> as_text(7), as_text(datetime.date(2020, 1, 31)), as_text(datetime.datetime(2020, 1, 31, 13, 5))
    ('7', '2020-01-31', '2020-01-31 13:05:00')
    """
    if not isinstance(value, date | np.datetime64):
        return str(value)
    import pandas as pd

    moment = pd.Timestamp(value)
    if moment.tz is not None:
        moment = moment.tz_convert(None)
    return str(moment.date() if moment == moment.normalize() else moment)
