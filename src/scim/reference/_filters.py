"""Which cells of a reference a search may return."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import did_you_mean
from ._tables import dictionary

if TYPE_CHECKING:
    import pyarrow as pa


def select(cells: pa.Table, *, where: Any = None, exclude: Any = None) -> np.ndarray | None:
    """Say which cells pass, bool (n_cells,); None where there is no filter.

    Parameters
    ----------
    cells
        Metadata of all cells.
    where
        ``{"tissue": ["lung", "blood"], "disease": "normal"}``: any of the values, in all of the columns, None
        for cells without a value; or a ``pyarrow.compute`` expression.
    exclude
        The same; what it says is left out.

    Raises
    ------
    KeyError, ValueError
        A column or value does not occur (what does is listed), or no cell passes.
    TypeError
        A filter is neither a mapping nor an expression.
    """
    if where is None and exclude is None:
        return None
    passed = np.ones(cells.num_rows, dtype=bool)
    if where is not None:
        passed &= _matches(cells, where, "where")
    if exclude is not None:
        passed &= ~_matches(cells, exclude, "exclude")
    if not passed.any():
        said = " and ".join(f"{n}={f!r}" for n, f in (("where", where), ("exclude", exclude)) if f is not None)
        raise ValueError(f"{said} leave none of the reference's {cells.num_rows:,} cells. Loosen the filter.")
    return passed


def _matches(cells: pa.Table, condition: Any, argument: str) -> np.ndarray:
    import pyarrow.compute as pc

    if isinstance(condition, Mapping):
        matched = np.ones(cells.num_rows, dtype=bool)
        for column, values in condition.items():
            matched &= _isin(cells, str(column), values, argument)
        return matched if condition else np.full(cells.num_rows, argument == "where")
    if isinstance(condition, pc.Expression):
        return _evaluate(cells, condition, argument)
    raise TypeError(
        f'{argument} must be a mapping such as {{"tissue": ["lung"]}} or a pyarrow.compute expression, got '
        f"{type(condition).__name__}."
    )


def _isin(cells: pa.Table, column: str, values: Any, argument: str) -> np.ndarray:
    import pyarrow as pa

    if column not in cells.column_names:
        raise KeyError(f"{argument} names the column {column!r}. {did_you_mean(column, cells.column_names)}")
    single = isinstance(values, str) or not isinstance(values, Iterable)
    wanted: list[Any] = [values] if single else list(values)
    stored = cells.column(column)
    text = pa.types.is_dictionary(stored.type)
    passed, found = _text_in(stored, wanted) if text else _plain_in(stored, wanted)
    for value in wanted:
        # None asks for cells without a value, of which there may be none.
        if value is not None and value not in found:
            known = [v for v in dictionary(cells, column)[1] if v is not None]
            raise ValueError(
                f"{argument}: no cell has {column}={value!r}. {did_you_mean(value, sorted(known, key=str))}"
            )
    return passed


def _text_in(stored: pa.ChunkedArray, wanted: list[Any]) -> tuple[np.ndarray, set[Any]]:
    """Cells whose text is one of those wanted, bool (n,), and which of those the dictionaries hold.

    Codes are compared where they lie: text is looked at once for each value, and not once for each cell.
    """
    passed = [np.empty(0, dtype=bool)]
    found: set[Any] = set()
    for chunk in stored.chunks:
        there = chunk.dictionary.to_pylist()
        found.update(value for value in wanted if value in there)
        # The last one is for cells without a value.
        lookup = np.array([value in wanted for value in there] + [None in wanted])
        codes = chunk.indices.fill_null(len(there)) if chunk.null_count else chunk.indices
        passed.append(lookup[codes.to_numpy(zero_copy_only=False)])
    return np.concatenate(passed), found


def _plain_in(stored: pa.ChunkedArray, wanted: list[Any]) -> tuple[np.ndarray, set[Any]]:
    """Cells whose number, boolean or id is one of those wanted, bool (n,), and which of those there are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    fitting = []
    for value in wanted:
        with suppress(pa.ArrowInvalid, pa.ArrowTypeError):  # a value of another type is no cell's
            fitting.append(pa.scalar(value, type=stored.type).as_py())
    matched = pc.is_in(stored, value_set=pa.array(fitting, type=stored.type))
    there = set(pc.unique(stored.filter(matched)).to_pylist())
    return matched.to_numpy(), {value for value in wanted if value in there}


def _evaluate(cells: pa.Table, expression: Any, argument: str) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.dataset as ds

    # The other columns need not be made plain.
    named = [name for name in cells.column_names if name in str(expression)]
    plain = {name: cells.column(name) for name in named} | {"__row__": pa.array(np.arange(cells.num_rows))}
    for name in named:
        if pa.types.is_dictionary(plain[name].type):
            plain[name] = plain[name].cast(plain[name].type.value_type)
    try:
        rows = ds.dataset(pa.table(plain)).to_table(columns=["__row__"], filter=expression).column("__row__").to_numpy()
    except pa.ArrowInvalid as error:
        raise KeyError(f"{argument}={expression}: {error} Columns: {', '.join(cells.column_names)}.") from error
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise TypeError(f"{argument}={expression} does not fit the columns' types: {error}") from error
    matched = np.zeros(cells.num_rows, dtype=bool)
    matched[rows] = True
    return matched
