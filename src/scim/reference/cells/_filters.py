"""Filters on the metadata: which cells a search may return."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._validate import did_you_mean, first_names
from ...ontology import vocabulary_of
from ..store import as_text, column_kinds, dictionary

if TYPE_CHECKING:
    import pyarrow as pa


def select(
    cells: pa.Table, *, where: Any = None, exclude: Any = None, living: np.ndarray | None = None
) -> np.ndarray | None:
    """Find the cells that pass filters, bool (n_cells,). None without a filter.

    Parameters
    ----------
    cells
        Metadata of all cells.
    where
        ``{"tissue": ["lung", "blood"], "disease": "normal"}``: any of the values, in all of the columns, None
        for cells without a value; or a ``pyarrow.compute`` expression. A tissue or disease of a mapping also means its
        parts and kinds, see :class:`scim.ontology.Vocabulary`; a value of an expression does not.
    exclude
        Like ``where``. Cells that match it do not pass.
    living
        Cells that were not removed, bool (n_cells,). An error lists the values of these. None: all cells.

    Raises
    ------
    KeyError, ValueError
        A column or value does not occur (the message lists existing names), or no cell passes.
    TypeError
        A filter is neither a mapping nor an expression, or a value has a type that no cell can have.
    """
    if where is None and exclude is None:
        return None
    passed = np.ones(cells.num_rows, dtype=bool)
    if where is not None:
        passed &= _matches(cells, where, "where", living)
    if exclude is not None:
        passed &= ~_matches(cells, exclude, "exclude", living)
    if not passed.any():
        said = " and ".join(f"{n}={f!r}" for n, f in (("where", where), ("exclude", exclude)) if f is not None)
        raise ValueError(f"{said} leave none of the reference's {cells.num_rows:,} cells. Loosen the filter.")
    return passed


def _matches(cells: pa.Table, condition: Any, argument: str, living: np.ndarray | None) -> np.ndarray:
    import pyarrow.compute as pc

    if isinstance(condition, Mapping):
        matched = np.ones(cells.num_rows, dtype=bool)
        for column, values in condition.items():
            matched &= _isin(cells, str(column), values, argument, living)
        return matched if condition else np.full(cells.num_rows, argument == "where")
    if isinstance(condition, pc.Expression):
        return _evaluate(cells, condition, argument)
    raise TypeError(
        f'{argument} must be a mapping such as {{"tissue": ["lung"]}} or a pyarrow.compute expression, got '
        f"{type(condition).__name__}."
    )


def _isin(cells: pa.Table, column: str, values: Any, argument: str, living: np.ndarray | None) -> np.ndarray:
    import pandas as pd
    import pyarrow as pa

    if column not in cells.column_names:
        raise KeyError(f"{argument} names the column {column!r}. {did_you_mean(column, cells.column_names)}")
    if isinstance(values, np.ndarray) and values.ndim == 0:
        values = values.item()
    single = isinstance(values, str | bytes) or not isinstance(values, Iterable)
    wanted: list[Any] = [values] if single else list(values)
    if nested := [value for value in wanted if not pd.api.types.is_scalar(value)]:
        raise TypeError(f"{argument}: {column} must be one value, or a list of values, got {nested[0]!r} among them.")
    # NaN and NA mean a cell without a value, as None does.
    wanted = [None if pd.isna(value) else value for value in wanted]
    stored = cells.column(column)
    text = pa.types.is_dictionary(stored.type)
    if text:  # numbers and dates are text in columns of text
        texts = (int, np.integer, date, np.datetime64)
        wanted = [as_text(value) if isinstance(value, texts) else value for value in wanted]
    meant = _meant(stored, column, wanted) if text else {}
    every = [*wanted, *(other for others in meant.values() for other in others)]
    passed, found = _text_in(stored, every) if text else _plain_in(stored, wanted)
    for value in wanted:
        # None selects cells without a value. There may be no such cell.
        if value is not None and value not in found and not meant.get(value):
            raise ValueError(f"{argument}: {_why_not(cells, column, value, living)}")
    return passed


def _meant(stored: pa.ChunkedArray, column: str, wanted: list[Any]) -> dict[Any, list[str]]:
    """Find the texts of a column that each wanted tissue or disease means besides itself."""
    there = {text for chunk in stored.chunks for text in chunk.dictionary.to_pylist()}
    # The vocabulary is read only if it can find more.
    vocabulary = vocabulary_of(column) if there - set(wanted) else None
    if vocabulary is None:
        return {}
    return {value: vocabulary.matching(value, there) for value in wanted if isinstance(value, str)}


def _why_not(cells: pa.Table, column: str, value: Any, living: np.ndarray | None) -> str:
    """Return why no cell has a value: the column has another type, or other values."""
    kind = column_kinds([cells.select([column])]).get(column, "text")
    said = f"no cell has {column}={value!r}."
    if isinstance(value, str) and kind != "text":
        said = f"{column} holds {kind}, and {value!r} is text."
        if plain := _unquoted(value, kind):
            return f"{said} Write {plain} without quotes."
    codes, stands_for = dictionary(cells, column)
    used = np.unique(codes if living is None else codes[living])
    known = sorted((stands_for[code] for code in used[used >= 0]), key=str if kind == "text" else None)
    vocabulary = vocabulary_of(column) if isinstance(value, str) and kind == "text" else None
    if vocabulary is None:
        return f"{said} {did_you_mean(value, known)}"
    if vocabulary.resolve(value) is None:
        return f"{said} {did_you_mean(value, known, also=vocabulary.words(known))}"
    said = f"no cell has {column}={value!r}, or a {vocabulary.relation} of it."
    if broader := vocabulary.broader(value, known):
        return f"{said} The reference has {broader[0]!r}, and {value!r} is a {vocabulary.relation} of it. Use that."
    return f"{said} The reference has: {first_names(map(repr, known), limit=12)}."


def _unquoted(text: str, kind: str) -> str | None:
    """Return the number or boolean that a text spells, as the column holds. None: it spells neither."""
    if kind == "numbers":
        with suppress(ValueError):
            return text.strip() if np.isfinite(float(text)) else None
        return None
    return {"true": "True", "false": "False"}.get(text.strip().lower())


def _text_in(stored: pa.ChunkedArray, wanted: list[Any]) -> tuple[np.ndarray, set[Any]]:
    """Find the cells whose text is wanted, bool (n,), and return the wanted texts that occur.

    Codes are compared, so that text is read once for each value and not for each cell.
    """
    passed, asked = [np.empty(0, dtype=bool)], set(wanted)
    found: set[Any] = set()
    for chunk in stored.chunks:
        there = chunk.dictionary.to_pylist()
        found |= asked & set(there)
        # The last entry is for cells without a value.
        lookup = np.array([value in asked for value in there] + [None in asked])
        codes = chunk.indices.fill_null(len(there)) if chunk.null_count else chunk.indices
        passed.append(lookup[codes.to_numpy(zero_copy_only=False)])
    return np.concatenate(passed), found


def _plain_in(stored: pa.ChunkedArray, wanted: list[Any]) -> tuple[np.ndarray, set[Any]]:
    """Find the cells whose number, boolean or id is wanted, bool (n,), and return the wanted values that occur."""
    import pyarrow as pa
    import pyarrow.compute as pc

    fitting = {}
    for value in wanted:
        # No cell has a value of another type, or one that is too large for the column.
        with suppress(pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            own = pa.scalar(_as_stored(value, stored.type), type=stored.type).as_py()
            if own == _as_stored(value, stored.type):  # 1.5 would become 1
                fitting[value] = own
    matched = pc.is_in(stored, value_set=pa.array(fitting.values(), type=stored.type))
    there = set(pc.unique(stored.filter(matched)).to_pylist())
    return matched.to_numpy(), {value for value, own in fitting.items() if own in there}


def _as_stored(value: Any, kind: Any) -> Any:
    """Convert a number as a column of real numbers stores it: float32 as the float64 of the same shortest text."""
    import pyarrow as pa

    is_number = isinstance(value, int | np.integer | np.floating) and not isinstance(value, bool)
    if not pa.types.is_floating(kind) or not is_number:
        return value
    return float(str(value)) if isinstance(value, np.float32) else float(value)


def _evaluate(cells: pa.Table, expression: Any, argument: str) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.dataset as ds

    if position := re.search(r"FieldPath\(\d+\)", str(expression)):
        raise ValueError(
            f"{argument} names a column by its position, {position.group()}. Give its name, such as "
            f"pc.field({cells.column_names[0]!r})."
        )
    # Only columns that the expression names are needed.
    named = [name for name in cells.column_names if name in str(expression)]
    plain = {name: cells.column(name) for name in named} | {"__row__": pa.array(np.arange(cells.num_rows))}
    for name in named:
        if pa.types.is_dictionary(plain[name].type):
            plain[name] = plain[name].cast(plain[name].type.value_type)
    try:
        rows = ds.dataset(pa.table(plain)).to_table(columns=["__row__"], filter=expression).column("__row__").to_numpy()
    except pa.ArrowInvalid as error:
        if unknown := re.search(r"No match for FieldRef\.Name\((.*?)\)", str(error)):
            name = unknown.group(1)
            raise KeyError(f"{argument} names the column {name!r}. {did_you_mean(name, cells.column_names)}") from error
        raise ValueError(f"{argument}={expression}: {error}") from error
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        is_dated = re.search(r"(date\d\d|timestamp)\[", str(error))
        remedy = ' Dates are stored as text: write "2020-01-31".' if is_dated else ""
        raise TypeError(f"{argument}={expression} does not fit the columns' types: {error}.{remedy}") from error
    matched = np.zeros(cells.num_rows, dtype=bool)
    matched[rows] = True
    return matched
