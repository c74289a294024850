"""Distributions of a number in groups of cells, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ._figure import FAINT, row_labels
from ._names import cut, short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Height of a row and of the axis below, in inches.
ROW, _AXIS = 0.15, 0.45
#: Characters of a name.
_CHARACTERS = 34


def spread_height(n: int) -> float:
    """Height of a figure with ``n`` rows, in inches."""
    return n * ROW + _AXIS


def draw_spreads(ax: Axes, names: Sequence[str], groups: Sequence[np.ndarray], colours: Sequence[str]) -> None:
    """Draw a row for each group: median, middle half and middle 90 % of its values, and the number of cells."""
    short = short_names(names)
    rows = [f"{cut(short[name], _CHARACTERS)} ({len(values):,})" for name, values in zip(names, groups, strict=True)]
    row_labels(ax, rows)
    ax.grid(axis="x", color=FAINT, linewidth=0.4)
    ax.set_axisbelow(True)
    for row, (values, colour) in enumerate(zip(groups, colours, strict=True)):
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        low, start, middle, end, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
        ax.plot([low, high], [row, row], color="#777777", linewidth=0.7, solid_capstyle="butt", zorder=2)
        ax.plot([start, end], [row, row], color=colour, linewidth=4.2, solid_capstyle="butt", zorder=3)
        ax.plot(middle, row, marker="o", color="white", markeredgecolor="black", markersize=3.2, zorder=4)
