"""The cells of a reference as they are stored: vectors, metadata, labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import check_key
from ._segments import dictionary, label_codes, take_vectors

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from ..ontology import TermSpace


class StoredCells:
    """What can be read of the cells of a reference.

    Attributes
    ----------
    n_cells
        Cells in the reference.
    terms
        Labels of the cells on the ontology.
    """

    n_cells: int
    terms: TermSpace
    _cells: pa.Table
    _segments: list[np.ndarray]

    def __len__(self) -> int:
        return self.n_cells

    def vectors(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Vectors of some or all cells, float32 (n, d), as they are stored."""
        rows = np.arange(self.n_cells) if rows is None else self._rows(rows)
        return take_vectors(self._segments, rows)

    def metadata(self, rows: np.ndarray | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Metadata of some or all cells: cell_id, label, term_id, study, and the columns kept.

        Parameters
        ----------
        rows
            Positions of cells, (m,), or bool (n_cells,); None: all.
        columns
            Columns to give; None: all.

        Returns
        -------
        A row for each of ``rows``, in their order; text is categorical.

        Raises
        ------
        IndexError, KeyError
            There is no such row or column.
        """
        for column in columns or ():
            check_key(dict.fromkeys(self._cells.column_names), column, argument="columns", where="the metadata")
        table = self._cells if columns is None else self._cells.select(list(columns))
        return (table if rows is None else table.take(self._rows(rows))).to_pandas()

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows)
        if rows.dtype == bool and rows.shape == (self.n_cells,):
            return np.flatnonzero(rows)
        if rows.size and (rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= self.n_cells):
            raise IndexError(
                f"rows must be positions from 0 to {self.n_cells - 1}, got {rows.dtype} from {rows.min()} to "
                f"{rows.max()}. Leave out the -1 of empty hits."
            )
        return rows.astype(np.int64).ravel()

    @cached_property
    def obs(self) -> pd.DataFrame:
        """Metadata of all cells."""
        return self.metadata()

    @cached_property
    def label_codes(self) -> np.ndarray:
        """Position of each cell's label in ``terms.labels``, int32 (n_cells,); -1 for a cell without a label."""
        return label_codes(self._cells, self.terms)

    @cached_property
    def _directed(self) -> np.ndarray:
        """Cells that have a direction, bool (n_cells,): those with counts."""
        return np.concatenate([np.asarray(segment).any(axis=1) for segment in self._segments])

    @cached_property
    def _n_directed(self) -> int:
        return int(self._directed.sum())

    def _codes(self, column: str) -> np.ndarray:
        return dictionary(self._cells, column)[0]

    def _values(self, column: str) -> list[Any]:
        return dictionary(self._cells, column)[1]
