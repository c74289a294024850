"""A sample of the values of a matrix, and what it says of their scale: sums per cell, and multiples of one count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ._blocks import iter_blocks

#: Sum of the counts of a cell after normalisation, before log1p.
TARGET_SUM = 1e4
#: Blocks of rows that a sample is taken from.
_SAMPLE_BLOCKS = 8
#: Stored values in a sample, at most approximately.
_SAMPLE_VALUES = 250_000
#: Largest logarithm of a count; exponentials of larger values could overflow.
MAX_LOG = 40.0
#: Cells were scaled to one sum if the relative spread of their sums is below this.
_SUM_TOLERANCE = 1e-3
#: Sums per cell in common use: one cell is enough to recognise them.
_USUAL_SUMS = (TARGET_SUM, 1e5, 1e6)
#: Values whose ratio to their cell's smallest value is tested, at least.
_MIN_RATIOS = 20
#: A ratio within this distance of a whole number is whole.
_RATIO_TOLERANCE = 0.02
#: A value within this distance of a whole number is whole.
_WHOLE_TOLERANCE = 1e-4
#: Values of a cell, at least, to tell whether the cell has whole numbers only.
MIN_VALUES = 10


@dataclass(frozen=True, eq=False)
class Sample:
    """Stored values above zero of a sample of cells, the row of each value, and the number of cells."""

    values: np.ndarray
    rows: np.ndarray
    n_cells: int

    @cached_property
    def sizes(self) -> np.ndarray:
        """Number of values of each cell, (n_cells,)."""
        return np.bincount(self.rows, minlength=self.n_cells)

    @cached_property
    def whole(self) -> np.ndarray:
        """Number of whole values of each cell, (n_cells,)."""
        is_whole = np.abs(self.values - np.round(self.values)) < _WHOLE_TOLERANCE
        return np.bincount(self.rows[is_whole], minlength=self.n_cells)

    @property
    def top(self) -> float:
        """Largest value."""
        return float(self.values.max())

    def tops(self, values: np.ndarray) -> np.ndarray:
        """Largest of the ``values`` of each cell that has any."""
        tops = np.zeros(self.n_cells)
        np.maximum.at(tops, self.rows, values)
        return tops[self.sizes > 0]

    @property
    def has_one_value_per_cell(self) -> bool:
        """Whether all values of each cell are the same, in cells of many values: present or absent."""
        tops, floors = np.zeros(self.n_cells), np.full(self.n_cells, np.inf)
        np.maximum.at(tops, self.rows, self.values)
        np.minimum.at(floors, self.rows, self.values)
        there = self.sizes > 0
        return bool(np.median(self.sizes[there]) >= _MIN_RATIOS and np.allclose(tops[there], floors[there], rtol=1e-5))

    def take(self, cells: np.ndarray) -> Sample:
        """Select cells, bool (n_cells,)."""
        kept = cells[self.rows]
        return Sample(self.values[kept], (np.cumsum(cells) - 1)[self.rows[kept]], int(cells.sum()))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum per cell, of cells with values above zero."""
        sums = np.bincount(self.rows, weights=values, minlength=self.n_cells)
        return sums[sums > 0]

    def common_sum(self, values: np.ndarray) -> float | None:
        """Sum that the middle 90 % of the cells were scaled to; None if they differ, or are too few."""
        sums = self.sums(values)
        if len(sums) < 3:
            usual = (target for target in _USUAL_SUMS if len(sums) and np.abs(sums / target - 1).max() < _SUM_TOLERANCE)
            return next(usual, None)
        low, middle, high = np.quantile(sums, [0.05, 0.5, 0.95])
        return float(middle) if (high - low) / middle < _SUM_TOLERANCE else None

    def whole_share(self, values: np.ndarray, of: Callable[[np.ndarray], np.ndarray] = np.asarray) -> float:
        """Share of the values that are whole multiples of their cell's smallest value: near 1 for scaled UMI counts.

        ``of`` is applied to the ratios first.
        """
        tested, whole = self.ratios(values, of)
        return float(whole.sum() / tested.sum()) if tested.sum() >= _MIN_RATIOS else 0.0

    def ratios(
        self, values: np.ndarray, of: Callable[[np.ndarray], np.ndarray] = np.asarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Count values that can be compared with the smallest one of their cell, and whole multiples, (n_cells,)."""
        smallest = np.full(self.n_cells, np.inf)
        np.minimum.at(smallest, self.rows, values)
        ratio = of(values / smallest[self.rows])
        # float32 rounding hides whether large ratios are whole; the smallest value itself has ratio 1.
        tested = (ratio > 1.01) & (ratio < 30)
        whole = tested & (np.abs(ratio - np.round(ratio)) < _RATIO_TOLERANCE)
        return tuple(np.bincount(self.rows[mask], minlength=self.n_cells) for mask in (tested, whole))  # type: ignore[return-value]

    def shares(self, values: np.ndarray) -> np.ndarray:
        """Share of whole multiples of each cell, see :meth:`whole_share`, (n_cells,)."""
        tested, whole = self.ratios(values)
        return np.where(tested >= _MIN_RATIOS, whole / np.maximum(tested, 1), 0.0)


def take_sample(X: Any, n_cells: int, check: Callable[[np.ndarray], None], columns: np.ndarray | None) -> Sample:
    """Read blocks of rows spread over ``X``, in the ``columns`` that are genes. ``check`` refuses values."""
    from scipy import sparse

    total = int(X.shape[0])
    size = max(1, n_cells // _SAMPLE_BLOCKS)
    if total > n_cells and sparse.issparse(X) and X.format == "csr":
        # Of deeply sequenced cells, fewer are enough.
        size = max(1, min(size, _SAMPLE_VALUES * total // (_SAMPLE_BLOCKS * max(X.nnz, 1))))
    starts = [0] if total <= n_cells else np.linspace(0, total - size, _SAMPLE_BLOCKS).astype(int).tolist()
    rows = np.arange(total) if total <= n_cells else np.unique(np.concatenate([np.arange(s, s + size) for s in starts]))
    return _joined([sample_of(block, check, columns) for _, block in iter_blocks(X, rows=rows)])


def sample_of(block: Any, check: Callable[[np.ndarray], None], columns: np.ndarray | None) -> Sample:
    """Return the values of a block of rows as a sample."""
    from scipy import sparse

    if block.dtype.kind not in "iuf":
        check(np.asarray(block.data if sparse.issparse(block) else block))
    rows = sparse.csr_matrix(block)
    values, row = rows.data, np.repeat(np.arange(rows.shape[0], dtype=np.int32), np.diff(rows.indptr))
    if columns is not None:
        kept = columns[rows.indices]
        values, row = values[kept], row[kept]
    check(values)
    kept = values > 0
    values = values if values.dtype.kind == "f" else values.astype(np.float32)
    return Sample(values[kept], row[kept], rows.shape[0]) if not kept.all() else Sample(values, row, rows.shape[0])


def _joined(parts: list[Sample]) -> Sample:
    starts = np.cumsum([0, *(part.n_cells for part in parts)])
    if not parts:
        return Sample(np.zeros(0, np.float32), np.zeros(0, np.int32), 0)
    rows = np.concatenate([part.rows + start for part, start in zip(parts, starts, strict=False)])
    return Sample(np.concatenate([part.values for part in parts]), rows, int(starts[-1]))
