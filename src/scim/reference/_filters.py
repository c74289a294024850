"""Which cells of a reference a search may return."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
    if column not in cells.column_names:
        raise KeyError(f"{argument} names the column {column!r}. {did_you_mean(column, cells.column_names)}")
    codes, there = dictionary(cells, column)
    place = {value: code for code, value in enumerate(there) if value is not None}
    single = isinstance(values, str) or not isinstance(values, Iterable)
    wanted = []
    for value in [values] if single else values:
        if value is None:  # cells without a value
            wanted.append(-1)
        elif value in place:
            wanted.append(place[value])
        else:
            known = sorted(place, key=str)
            raise ValueError(f"{argument}: no cell has {column}={value!r}. {did_you_mean(value, known)}")
    return np.isin(codes, wanted)


def _evaluate(cells: pa.Table, expression: Any, argument: str) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.dataset as ds

    plain = pa.table(
        {
            name: column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
            for name, column in zip(cells.column_names, cells.columns, strict=True)
        }
    ).append_column("__row__", pa.array(np.arange(cells.num_rows)))
    try:
        rows = ds.dataset(plain).to_table(columns=["__row__"], filter=expression).column("__row__").to_numpy()
    except pa.ArrowInvalid as error:
        raise KeyError(f"{argument}={expression}: {error} Columns: {', '.join(cells.column_names)}.") from error
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise TypeError(f"{argument}={expression} does not fit the columns' types: {error}") from error
    matched = np.zeros(cells.num_rows, dtype=bool)
    matched[rows] = True
    return matched
