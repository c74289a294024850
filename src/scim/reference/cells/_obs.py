"""The metadata of all cells as something to look at and take columns from, which reads nothing until it is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from ._metadata import StoredCells

#: Rows that are shown.
_SHOWN = 5


class CellTable:
    """Metadata of the cells of a reference, mapped into memory.

    A column of it is a Series, and several columns, or the cells of a mask, are a DataFrame, as with a DataFrame, and
    only they are read; the index is the position of each cell. All of it as a DataFrame, which can take gigabytes, is
    what :meth:`scim.Reference.metadata` gives.

    Parameters
    ----------
    cells
        The reference.
    """

    def __init__(self, cells: StoredCells) -> None:
        self._cells = cells

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._cells._cells.column_names)

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and columns."""
        return len(self), len(self.columns)

    def __len__(self) -> int:
        return self._cells.n_cells

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, column: object) -> bool:
        return column in self.columns

    def __getitem__(self, columns: str | Sequence[str] | np.ndarray | pd.Series) -> Any:
        if isinstance(columns, str):
            return self._cells.metadata(columns=[columns])[columns]
        if not isinstance(columns, Iterable):
            raise TypeError(
                f"obs[...] takes names of columns, or a mask of the cells, got {columns!r}. Rows by position: "
                "reference.metadata(rows)."
            )
        mask = np.asarray(columns)
        if mask.dtype == bool and mask.shape == (len(self),):
            rows = self._cells._first(len(self))[mask]
            return self._cells.metadata(rows).set_index(rows)
        return self._cells.metadata(columns=list(columns))

    def head(self, n: int = _SHOWN) -> pd.DataFrame:
        """First cells."""
        rows = self._cells._first(n)
        return self._cells.metadata(rows).set_index(rows)

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """All cells, and some or all columns, as :meth:`scim.Reference.metadata` gives them."""
        return self._cells.metadata(columns=columns)

    def to_arrow(self) -> pa.Table:
        """Give the table as it is mapped into memory, without the cells that were removed."""
        return self._cells._living_table()

    def to_dataset(self) -> Any:
        """Give a ``pyarrow.dataset`` to filter and aggregate with, batch by batch."""
        import pyarrow.dataset as ds

        return ds.dataset(self.to_arrow())

    def __repr__(self) -> str:
        shown = self.head().to_string() if len(self) else ""
        return (
            f"Metadata of {len(self):,} cells x {len(self.columns)} columns, read when asked for:\n{shown}\n"
            'obs["label"] is a Series; reference.metadata() all of it as a DataFrame.'
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"The metadata of a reference are no DataFrame and have no {name!r}: reference.metadata() gives one, of "
            "all cells or of those at some positions. Columns are taken with obs[name]."
        )


def living_table(cells: pa.Table, living: np.ndarray | None) -> pa.Table:
    """Leave out of a table the rows that are not ``living``, bool (n,)."""
    import pyarrow as pa

    return cells if living is None else cells.filter(pa.array(living))
