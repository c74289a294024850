"""scim.pl.ontology."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _keys
from .._validate import check_positive_int
from ..ontology import CellOntology
from ._colours import palette
from ._figure import COLUMN, DARK, FAINT, LIGHT, MUTED, PAGE, canvas, finish, size_of, text_width
from ._names import cut, short_names
from ._numbers import percent
from ._read import as_numbers, cells_of, labels_of, names_of_terms, written_column
from ._tree import Node, term_tree

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Sizes in inches: height of a row, indent of a level, size of the square before a name.
_ROW, _INDENT, _SQUARE = 0.128, 0.085, 0.07
#: Widths in inches of the columns of shares, bars and confidence, and of the gap between columns.
_SHARE, _BAR, _CONFIDENCE, _GAP = 0.3, 0.5, 0.45, 0.07
#: Sizes of text in points: names and numbers, heads of columns and notes.
_NAME_POINTS, _NOTE_POINTS = 6.5, 5.5


def ontology(
    adata: AnnData | Any,
    *,
    key: str = _keys.DEFAULT,
    min_cells: int = 1,
    ontology: CellOntology | None = None,
    mod: str | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    ax: Axes | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the tree of the labels: the cells of each term, their share and their confidence.

    One row is one term. Broad terms are above their descendants. The light bar and the numbers count the cells of the
    term and its descendants, the dark bar the cells with exactly this label. The dot is the mean confidence of the
    latter, and the line covers the middle half of them. So one sees where labels stop at a broad term, and how sure
    they are. Ancestors without cells are shown where branches join. A term with several parents in the ontology stands
    under the one with most cells, and counts for all of them.

    Parameters
    ----------
    adata
        Data that :func:`scim.tl.annotate` labelled: AnnData, or MuData with ``mod``.
    key
        ``key_added`` of the annotation.
    min_cells
        Leave out labels of fewer cells. A note says how many cells these are.
    ontology
        Ontology of the labels. The default is the bundled Cell Ontology.
    mod
        Modality of a MuData.
    show
        Show the figure. None shows it unless ``save``, ``ax`` or ``return_fig`` is given.
    save
        File to write, such as ``"tree.pdf"``. Text stays text in .svg and .pdf files.
    ax
        Axes to draw on. The default is a new figure, 85 mm wide.
    return_fig
        Return the figure.

    Returns
    -------
    None if the figure was shown or saved, the figure with ``return_fig``, or else the axes (``show=False``).

    Raises
    ------
    KeyError
        The cells are not labelled, or the modality is not there.
    ValueError
        No label has ``min_cells`` cells.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc10k_protein()
    >>> scim.tl.annotate(adata)
    >>> ax = scim.pl.ontology(adata, show=False)
    """
    data = cells_of(adata, mod)
    known = CellOntology.bundled() if ontology is None else ontology
    written_column(data, _keys.obs_label(key))
    labels = labels_of(data, _keys.obs_label(key))
    confidence = as_numbers(written_column(data, _keys.obs_confidence(key)))
    names = names_of_terms(labels, known)
    cells = pd.Series(confidence).groupby(pd.Series(labels).map(names).to_numpy())
    sizes = cells.size()
    kept = sizes[sizes >= check_positive_int(min_cells, argument="min_cells")]
    if kept.empty:
        raise ValueError(f"min_cells={min_cells}, but the largest label has {sizes.max():,} cells. Choose fewer.")
    nodes = term_tree({str(name): int(n) for name, n in kept.items()}, known)
    summary = pd.DataFrame({"low": cells.quantile(0.25), "high": cells.quantile(0.75), "mean": cells.mean()})
    short = short_names(node.name for node in nodes)
    notes = ["light bar and numbers: the term and its descendants; dark: exactly this label"]
    if len(kept) < len(sizes):
        left_out = sizes[sizes < min_cells]
        notes.append(f"not shown: {len(left_out)} labels of fewer than {min_cells} cells, {left_out.sum():,} cells")
    table = _Table.of(nodes, short, width=None if ax is None else size_of(ax)[0])
    with canvas(ax, (len(nodes) + 2.3 + len(notes)) * _ROW, width=table.width) as drawn:
        _prepare(drawn, table, len(nodes), notes)
        colours = palette((node.name for node in nodes), ontology=known)
        for row, node in enumerate(nodes):
            _draw_branch(drawn, table, row, node)
            _draw_name(drawn, table, row, node, short[node.name], colours[node.name])
            _draw_numbers(drawn, table, row, node, total=data.n_obs)
            if node.own and node.name != _keys.UNASSIGNED:
                _draw_confidence(drawn, table, row, summary.loc[node.name].to_numpy())
    return finish(drawn, ax=ax, show=show, save=save, return_fig=return_fig)


@dataclass(frozen=True)
class _Table:
    """Places in inches: right ends of names, numbers and shares, left ends of bars and confidence, and the width."""

    names: float
    numbers: float
    shares: float
    bars: float
    confidence: float
    width: float

    @classmethod
    def of(cls, nodes: list[Node], short: dict[str, str], width: float | None) -> _Table:
        wanted = max(_left(node) + text_width(short[node.name], _NAME_POINTS) for node in nodes)
        number = text_width(f"{max(node.below for node in nodes):,}", _NAME_POINTS)
        others = number + _SHARE + _BAR + _CONFIDENCE + 5 * _GAP
        width = min(max(COLUMN, wanted + others), PAGE) if width is None else width
        names = max(min(wanted, width - others), 0.3 * width)
        numbers = names + _GAP + number
        bars = numbers + _SHARE + 2 * _GAP
        confidence = bars + _BAR + 0.6 * (width - names - others) + _GAP
        return cls(names, numbers, bars - _GAP, bars, confidence, width)


def _left(node: Node) -> float:
    return node.level * _INDENT + 2 * _SQUARE


def _prepare(ax: Axes, table: _Table, n: int, notes: list[str]) -> None:
    """Set the limits of the axes, in inches across and in rows down, and write the heads of the columns."""
    ax.set_xlim(0, table.width)
    ax.set_ylim(n + 0.6 + len(notes), -1.4)
    ax.set_axis_off()
    style: dict[str, Any] = {"fontsize": _NOTE_POINTS, "color": MUTED, "va": "center"}
    ax.text(table.numbers, -1, "cells", ha="right", **style)
    ax.text(table.shares, -1, "share", ha="right", **style)
    left, right = table.confidence, table.width - _GAP
    ax.text((left + right) / 2, -1, "confidence", ha="center", **style)
    for share in (0, 0.5, 1):
        place = left + share * (right - left)
        ax.plot([place, place], [-0.5, n - 0.5], color=FAINT, linewidth=0.5, zorder=0)
        ax.text(place, n, f"{share:g}", ha="center", **style)
    for i, note in enumerate(notes):
        ax.text(0, n + 1 + i, note, ha="left", **style)


def _draw_branch(ax: Axes, table: _Table, row: int, node: Node) -> None:
    """Draw the line from the parent of a term."""
    if node.parent < 0:
        return
    left = (node.level - 1) * _INDENT + _SQUARE / 2
    ax.plot([left, left, left + _INDENT - _SQUARE / 2], [node.parent + 0.4, row, row], color="#999999", linewidth=0.5)


def _draw_name(ax: Axes, table: _Table, row: int, node: Node, name: str, colour: str) -> None:
    room = table.names - _left(node)
    while text_width(name, _NAME_POINTS) > room + 0.02 and len(name) > 4:
        name = cut(name, len(name) - 1)
    filled = {"facecolor": colour} if node.own else {"facecolor": "white"}
    square: dict[str, Any] = {"s": (_SQUARE * 72) ** 2, "marker": "s", "edgecolor": colour, "linewidths": 0.7, **filled}
    ax.scatter([node.level * _INDENT + _SQUARE / 2], [row], **square, zorder=3)
    colour = "black" if node.own else MUTED
    ax.text(_left(node), row, name, fontsize=_NAME_POINTS, color=colour, va="center", ha="left")


def _draw_numbers(ax: Axes, table: _Table, row: int, node: Node, total: int) -> None:
    style: dict[str, Any] = {"fontsize": _NAME_POINTS, "va": "center", "ha": "right"}
    style["color"] = "black" if node.own else MUTED
    ax.text(table.numbers, row, f"{node.below:,}", **style)
    ax.text(table.shares, row, percent(node.below / total), **style)
    room = table.confidence - _GAP - table.bars
    for n, colour in ((node.below, LIGHT), (node.own, DARK)):
        ax.barh(row, room * n / total, left=table.bars, height=0.6, color=colour, linewidth=0)


def _draw_confidence(ax: Axes, table: _Table, row: int, of_cells: np.ndarray) -> None:
    """Draw the confidence of the cells of a term: ends of their middle half, and mean, (3,)."""
    left, right = table.confidence, table.width - _GAP
    low, high, mean = left + (right - left) * of_cells
    ax.plot([low, high], [row, row], color=DARK, linewidth=0.8, solid_capstyle="butt")
    ax.plot(mean, row, marker="o", markersize=2.6, color=DARK, linestyle="none")
