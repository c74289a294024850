"""Metadata of the cells of a reference: the table, and which cells were removed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._validate import check_key, check_positive_int
from ...index import Cap
from ..store import check_columns, dictionary, take_rows, to_frame
from ._filters import select

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: Rows of a table that its repr shows.
_SHOWN_ROWS = 5
#: Largest cap on the hits of a group. Larger caps mean the same.
_LARGEST_CAP = 2**31


class Metadata:
    """Metadata of all cells of one version, mapped into memory.

    Attributes
    ----------
    table
        A row for each cell, removed cells included.
    living
        Cells that were not removed, bool (n_rows,). None: no cell was removed.
    n_rows, n_cells
        Number of rows, and of cells that were not removed.

    Parameters
    ----------
    table, living
        As above.
    sound
        Columns whose every row is known to be undamaged.
    """

    def __init__(self, table: pa.Table, living: np.ndarray | None = None, *, sound: Collection[str] = ()) -> None:
        self.table, self.living = table, living
        self.n_rows = table.num_rows
        self.n_cells = self.n_rows if living is None else int(living.sum())
        self._sound = set(sound)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.table.column_names)

    def first(self, n: int | None = None) -> np.ndarray:
        """Return the positions of the first ``n`` cells that were not removed. None: all cells."""
        n = self.n_cells if n is None else n
        return np.arange(min(n, self.n_rows)) if self.living is None else np.flatnonzero(self.living)[:n]

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Check positions of cells, (m,), or a mask, bool (n_rows,), and return positions, int64 (m,)."""
        rows = np.asarray(rows)
        if rows.dtype == bool and rows.shape == (self.n_rows,):
            rows = np.flatnonzero(rows)
        if rows.size and rows.dtype.kind not in "iufb":
            raise TypeError(f"rows must be positions of cells, or bool ({self.n_rows},), got {rows.dtype}.")
        if rows.size and (rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= self.n_rows):
            raise IndexError(
                f"rows must be positions from 0 to {self.n_rows - 1}, got {rows.dtype} from {rows.min()} to "
                f"{rows.max()}. Leave out the -1 of empty hits."
            )
        rows = rows.astype(np.int64).ravel()
        if self.living is not None and (gone := rows[~self.living[rows]]).size:
            raise IndexError(f"rows names {gone.size} cells that were removed, such as {gone[0]}. Leave them out.")
        return rows

    def frame(self, rows: np.ndarray | None = None, columns: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Read metadata as :meth:`scim.Reference.metadata` does."""
        columns = [columns] if isinstance(columns, str) else columns
        for column in columns or ():
            check_key(dict.fromkeys(self.columns), column, argument="columns", where="the metadata")
        names = self.columns if columns is None else list(columns)
        if rows is not None:
            return self._only_used_categories(to_frame(take_rows(self.table, self.rows(rows), names)))
        frame = self._only_used_categories(to_frame(self.living_table(names)))
        return frame if self.living is None else frame.set_index(self.first())

    def living_table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the table without the cells that were removed."""
        import pyarrow as pa

        self.check(self.columns if columns is None else columns)
        table = self.table if columns is None else self.table.select(list(columns))
        return table if self.living is None else table.filter(pa.array(self.living))

    def codes(self, column: str) -> np.ndarray:
        """Code of each row's value, int32 (n_rows,), in the order of :meth:`values`; -1 for a missing value."""
        return dictionary(self.table, column)[0]

    def values(self, column: str) -> list[Any]:
        """Values that the codes of a column stand for."""
        return dictionary(self.table, column)[1]

    def sorted_codes(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the codes and values of a column as :meth:`scim.Reference.codes` does."""
        check_key(dict.fromkeys(self.columns), column, argument="column", where="the metadata")
        codes, values = dictionary(self.table, column)
        if values and not isinstance(values[0], str):
            order = np.argsort(np.array(values, dtype=float), kind="stable")
            values = [values[i] for i in order]
            codes = np.append(np.argsort(order, kind="stable"), -1).astype(np.int32)[codes]
        if self.living is not None:
            codes[~self.living] = -1
        return codes, np.array(values, dtype=object)

    def select(self, where: Any, exclude: Any, within: np.ndarray | None = None) -> np.ndarray | None:
        """Find the cells of ``within`` that pass filters and were not removed, bool (n_rows,). None: all cells.

        No cell is a ValueError; errors of the filters are as in :func:`~scim.reference.cells._filters.select`.
        """
        allowed = self._passing(where, exclude)
        if within is None:
            return allowed
        within = np.asarray(within)
        if within.shape != (self.n_rows,) or within.dtype != bool:
            raise ValueError(f"within must be bool ({self.n_rows},), got {within.dtype} {within.shape}.")
        allowed = within if allowed is None else allowed & within
        if not allowed.any():
            raise ValueError("No cell of the reference passes both the filter and the choice of labels.")
        return allowed

    def _passing(self, where: Any, exclude: Any) -> np.ndarray | None:
        for condition in (where, exclude):
            if condition is not None:
                names = map(str, condition) if isinstance(condition, Mapping) else self.columns
                self.check(set(names) & set(self.columns))
        passed = select(self.table, where=where, exclude=exclude, living=self.living)
        if passed is None or self.living is None:
            return self.living if passed is None else passed
        passed &= self.living
        if not passed.any():
            raise ValueError(
                f"The filters leave none of the reference's {self.n_cells:,} cells: the cells that pass were removed."
            )
        return passed

    def caps(self, max_per_group: Mapping[str, int] | None) -> dict[str, Cap]:
        """Check ``max_per_group``, a mapping of column -> most hits of a group, and return the caps."""
        caps = {} if max_per_group is None else max_per_group
        if not isinstance(caps, Mapping):
            raise TypeError(f'max_per_group must be a mapping such as {{"donor": 50}}, got {caps!r}.')
        for column, most in caps.items():
            check_key(dict.fromkeys(self.columns), column, argument="max_per_group", where="the reference's metadata")
            check_positive_int(most, argument=f"max_per_group[{column!r}]")
        return {column: Cap(self.codes(column), min(int(most), _LARGEST_CAP)) for column, most in caps.items()}

    def mask(self, where: Any, exclude: Any) -> np.ndarray:
        """Find cells as :meth:`select` does, and return a mask even if all cells pass. The caller may change it."""
        passed = self.select(where, exclude)
        return np.ones(self.n_rows, dtype=bool) if passed is None else passed.copy()

    def check(self, columns: Iterable[str]) -> None:
        """Refuse damaged columns before all of their rows are read. Each column is checked once."""
        names = set(columns) - self._sound
        check_columns(self.table, sorted(names))
        self._sound |= names

    def _only_used_categories(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Drop categories that only removed cells have."""
        if self.living is not None:
            for name in frame.columns[frame.dtypes == "category"]:
                frame[name] = frame[name].cat.remove_unused_categories()
        return frame


class CellTable:
    """Metadata of the cells of a reference, mapped into memory.

    One column is a Series. Several columns, or the cells of a mask, are a DataFrame, as with a DataFrame. Only these
    are read. The index is the position of each cell. :meth:`scim.Reference.metadata` reads the whole table, which can
    take gigabytes.

    Parameters
    ----------
    metadata
        The metadata of the reference.
    """

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self._metadata.columns

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of cells and columns."""
        return len(self), len(self.columns)

    def __len__(self) -> int:
        return self._metadata.n_cells

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, column: object) -> bool:
        return column in self.columns

    def __getitem__(self, columns: str | Sequence[str] | np.ndarray | pd.Series) -> Any:
        if isinstance(columns, str):
            return self._metadata.frame(columns=columns)[columns]
        if not isinstance(columns, Iterable):
            raise TypeError(
                f"obs[...] takes names of columns, or a mask of the cells, got {columns!r}. Rows by position: "
                "reference.metadata(rows)."
            )
        mask = np.asarray(columns)
        if mask.dtype == bool and mask.shape == (len(self),):
            return self._at(self._metadata.first()[mask])
        return self._metadata.frame(columns=list(columns))

    def head(self, n: int = _SHOWN_ROWS) -> pd.DataFrame:
        """Read the first ``n`` cells."""
        return self._at(self._metadata.first(n))

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read all cells as :meth:`scim.Reference.metadata` does."""
        return self._metadata.frame(columns=columns)

    def to_arrow(self) -> pa.Table:
        """Return the table as it is mapped into memory, without the cells that were removed."""
        return self._metadata.living_table()

    def to_dataset(self) -> Any:
        """Return a ``pyarrow.dataset`` to filter and aggregate with, batch by batch."""
        import pyarrow.dataset as ds

        return ds.dataset(self.to_arrow())

    def _at(self, rows: np.ndarray) -> pd.DataFrame:
        return self._metadata.frame(rows).set_index(rows)

    def __repr__(self) -> str:
        shown = self.head().to_string() if len(self) else ""
        return (
            f"Metadata of {len(self):,} cells x {len(self.columns)} columns, read when asked for:\n{shown}\n"
            'obs["label"] is a Series; reference.metadata() reads all of it as a DataFrame.'
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"The metadata of a reference are not a DataFrame and have no {name!r}. reference.metadata() gives a "
            "DataFrame of all cells, or of the cells at given positions. obs[name] gives a column."
        )
