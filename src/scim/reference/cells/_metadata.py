"""The cells of a reference as they are stored: vectors, metadata, labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._validate import check_key, check_positive_int
from ...index import take_vectors
from ..store import CELL_ID, check_columns, dictionary, label_codes, take_rows, to_frame
from ._filters import select

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

pass

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from anndata import AnnData

    from ...ontology import TermSpace


class StoredCells:
    """What can be read of the cells of a reference.

    Attributes
    ----------
    n_cells
        Cells in the reference.
    n_rows
        Positions of cells: those of cells that were removed stay free until the reference is compacted.
    terms
        Labels of the cells on the ontology.
    """

    path: Path
    n_cells: int
    n_rows: int
    terms: TermSpace
    _cells: pa.Table
    _segments: list[np.ndarray]
    #: Cells that were not removed, bool (n_rows,); None where none was.
    _living: np.ndarray | None
    #: Cells that can be found, bool (n_rows,): not removed, and with a direction; None where all can.
    _findable: np.ndarray | None
    _n_findable: int
    #: Columns whose every row is known to be sound.
    _sound: set[str]
    _manifest: dict[str, Any]

    def __len__(self) -> int:
        return self.n_cells

    def vectors(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Vectors of some or all cells, float32 (n, d), as they are stored."""
        return take_vectors(self._segments, self._first(self.n_cells) if rows is None else self._rows(rows))

    def metadata(self, rows: np.ndarray | None = None, columns: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Metadata of some or all cells: cell_id, label, term_id, study, and the columns kept.

        Parameters
        ----------
        rows
            Positions of cells, (m,), or bool (n_rows,); None: all.
        columns
            Columns to give, or one; None: all.

        Returns
        -------
        A row for each of ``rows``, in their order; text is categorical. Of all cells, the index is their position.

        Raises
        ------
        IndexError, KeyError
            There is no such row or column, or the cell was removed.
        """
        columns = [columns] if isinstance(columns, str) else columns
        for column in columns or ():
            check_key(dict.fromkeys(self._cells.column_names), column, argument="columns", where="the metadata")
        names = self._cells.column_names if columns is None else list(columns)
        if rows is not None:
            return self._without_removed(to_frame(take_rows(self._cells, self._rows(rows), names)))
        self._check(names)
        table = to_frame(living_table(self._cells.select(names), self._living))
        return table if self._living is None else self._without_removed(table).set_index(self._first(self.n_cells))

    def _without_removed(self, table: pd.DataFrame) -> pd.DataFrame:
        """Leave out categories, too, that only cells have which were removed."""
        if self._living is not None:
            for name in table.columns[table.dtypes == "category"]:
                table[name] = table[name].cat.remove_unused_categories()
        return table

    def _rows(self, rows: np.ndarray) -> np.ndarray:
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
        if self._living is not None and (gone := rows[~self._living[rows]]).size:
            raise IndexError(f"rows names {gone.size} cells that were removed, such as {gone[0]}. Leave them out.")
        return rows

    def _first(self, n: int) -> np.ndarray:
        """Positions of the first cells."""
        if self._living is None:
            return np.arange(min(n, self.n_rows))
        return np.flatnonzero(self._living)[:n]

    def _check(self, columns: Iterable[str]) -> None:
        """Refuse damaged columns before all of their rows are read; each is looked through once."""
        names = set(columns) - self._sound
        check_columns(self._cells, sorted(names))
        self._sound |= names

    def _living_table(self) -> pa.Table:
        self._check(self._cells.column_names)
        return living_table(self._cells, self._living)

    @property
    def obs(self) -> CellTable:
        """Metadata of all cells, which are read column by column when they are asked for."""
        return CellTable(self)

    def _select(self, where: Any, exclude: Any) -> np.ndarray | None:
        """Cells that pass filters and were not removed, bool (n_rows,); None for all."""
        for condition in (where, exclude):
            if condition is not None:
                names = map(str, condition) if isinstance(condition, Mapping) else self._cells.column_names
                self._check(set(names) & set(self._cells.column_names))
        passed = select(self._cells, where=where, exclude=exclude, living=self._living)
        if passed is None or self._living is None:
            return self._living if passed is None else passed
        passed &= self._living
        if not passed.any():
            raise ValueError(
                f"The filters leave none of the reference's {self.n_cells:,} cells: those that pass were removed."
            )
        return passed

    def to_anndata(self, *, where: Any = None, exclude: Any = None) -> AnnData:
        """Bring cells into memory as an AnnData, to plot, cluster or count them.

        Parameters
        ----------
        where, exclude
            Filters on the metadata, see :meth:`scim.Reference.search`; all cells by default.

        Returns
        -------
        AnnData without genes: ``obs`` (the metadata, named by cell id, and ``row``, the position), ``obsm["X_scim"]``
        (the vectors, float32) and ``uns["scim"]``.

        Raises
        ------
        ValueError, KeyError, TypeError
            A filter names an unknown column or value, or leaves no cell.

        Examples
        --------
        >>> import scim
        >>> cells = scim.Reference.open("blood").to_anndata(where={"label": "B cell"})
        >>> cells.obsm["X_scim"].shape[1], cells.n_vars
        (64, 0)
        """
        from anndata import AnnData

        from ... import _keys

        passed = self._select(where, exclude)
        rows = np.arange(self.n_rows) if passed is None else np.flatnonzero(passed)
        obs = self.metadata(rows)
        if "row" not in obs:
            obs.insert(0, "row", rows)
        obs = obs.set_index(CELL_ID).rename_axis(None)
        obs.index = obs.index.astype(str)
        adata = AnnData(obs=obs)
        adata.obsm[_keys.obsm_embedding()] = self.vectors(rows)
        adata.uns[_keys.DEFAULT] = {"embed": {"encoder_id": str(self._manifest["encoder_id"])}}
        return adata

    def sql(self, query: str) -> pd.DataFrame:
        """Ask the metadata in SQL, by DuckDB.

        Parameters
        ----------
        query
            A query on the table ``cells``: a row a cell, with the columns of :attr:`obs` and ``row``, its position.

        Raises
        ------
        ImportError
            duckdb is not installed.
        ValueError
            DuckDB cannot run the query; its message says why.

        Examples
        --------
        >>> import scim
        >>> reference = scim.Reference.open("blood")
        >>> int(reference.sql("select count(*) as n from cells")["n"][0]) == len(reference)
        True
        """
        try:
            import duckdb
        except ImportError as error:
            raise ImportError("Reference.sql needs DuckDB: pip install 'scim-tools[sql]'.") from error
        import pyarrow as pa

        self._check(self._cells.column_names)
        # Data may have a column that is called row, of plates for instance.
        rows, own = np.arange(self.n_rows), "row" in self._cells.column_names
        table = self._cells.append_column("__row", pa.array(rows))
        view = f"create view cells as select * exclude (__row){'' if own else ', __row as row'} from __all"
        # Nothing is fetched: DuckDB would otherwise load what a query needs from its makers.
        with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
            connection.register("__all", table)
            if self._living is not None:
                connection.register("__gone", pa.table({"__row": rows[~self._living]}))
                view += " anti join __gone using (__row)"
            connection.execute(view)
            try:
                answer = connection.execute(query)
                if answer is None:
                    raise ValueError("The query is empty. Ask, say: select label, count(*) from cells group by 1")
                return answer.df()
            except duckdb.Error as error:
                raise ValueError(f"DuckDB cannot run the query: {error}") from error

    @cached_property
    def label_codes(self) -> np.ndarray:
        """Position of each cell's label in ``terms.labels``, int32 (n_rows,); -1 for a cell without, or removed."""
        codes = label_codes(self._cells, self.terms)
        if self._living is not None:
            codes[~self._living] = -1
        return codes

    def codes(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Values of a column as numbers, which take a fraction of the memory of a DataFrame.

        Parameters
        ----------
        column
            Column of the metadata.

        Returns
        -------
        Code of each cell, int32 (n_rows,), -1 where the value is missing or the cell was removed; and the values that
        codes stand for, (v,): text in the order in which it occurred first, numbers ascending.

        Raises
        ------
        KeyError
            There is no such column.
        """
        check_key(dict.fromkeys(self._cells.column_names), column, argument="column", where="the metadata")
        codes, values = dictionary(self._cells, column)
        if values and not isinstance(values[0], str):
            order = np.argsort(np.array(values, dtype=float), kind="stable")
            values = [values[i] for i in order]
            codes = np.append(np.argsort(order, kind="stable"), -1).astype(np.int32)[codes]
        if self._living is not None:
            codes[~self._living] = -1
        return codes, np.array(values, dtype=object)

    def _codes(self, column: str) -> np.ndarray:
        return dictionary(self._cells, column)[0]

    def _values(self, column: str) -> list[Any]:
        return dictionary(self._cells, column)[1]


def check_caps(caps: Mapping[str, int] | None, columns: list[str]) -> dict[str, int]:
    """Check ``max_per_group``, a mapping of column -> most hits."""
    if caps is None:
        return {}
    if not isinstance(caps, Mapping):
        raise TypeError(f'max_per_group must be a mapping such as {{"donor": 50}}, got {caps!r}.')
    for column, most in caps.items():
        check_key(dict.fromkeys(columns), column, argument="max_per_group", where="the reference's metadata")
        check_positive_int(most, argument=f"max_per_group[{column!r}]")
    return {column: min(int(most), 2**31) for column, most in caps.items()}


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
