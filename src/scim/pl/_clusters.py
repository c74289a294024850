"""scim.pl.clusters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from .. import _keys
from .. import get as results
from ..ontology import CellOntology
from ._colours import palette
from ._figure import COLUMN, DARK, FAINT, MUTED, PAGE, WARM, canvas, finish, row_labels, text_width
from ._names import cut, short_names
from ._read import cells_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Height of a row, and of axis and legend, in inches; least width of the axis.
_ROW, _AXIS, _WIDTH = 0.17, 0.72, 1.1
#: Characters of a name, and points of its text.
_CHARACTERS, _POINTS = 30, 6.5
#: Runner-ups of a smaller probability are not drawn.
_LEAST = 0.01


def clusters(
    adata: AnnData | Any,
    *,
    key: str = _keys.DEFAULT,
    group: str | int | Sequence[str | int] | None = None,
    ontology: CellOntology | None = None,
    mod: str | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    ax: Axes | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw how well the cells of each group agree with the label of the group, and what else they could be.

    The bar is the agreement: the share of the cells whose most probable label is the term of the group or a descendant.
    The dot is the confidence of the label, and the diamond that of the runner-up, whose name is on the right. A group
    whose dot and diamond are close is two types, or something in between.

    Parameters
    ----------
    adata
        Data that :func:`scim.tl.annotate` labelled with ``by``: AnnData, or MuData with ``mod``.
    key
        ``key_added`` of the annotation.
    group
        Groups to draw; by default all.
    ontology, mod, show, save, ax, return_fig
        As in :func:`scim.pl.ontology`.

    Returns
    -------
    None if the figure was shown or saved, the figure with ``return_fig``, or else the axes (``show=False``).

    Raises
    ------
    KeyError
        There are no labels of groups, or a group is not among them.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc10k_protein()
    >>> scim.tl.annotate(adata, by="gate")
    >>> ax = scim.pl.clusters(adata, show=False)
    """
    table = results.clusters(cells_of(adata, mod), key, group=group)
    known = CellOntology.bundled() if ontology is None else ontology
    short = short_names([*table["label"], *table["runner_up"]])
    rows = [
        f"{name}: {cut(short[label], _CHARACTERS)} ({n:,})"
        for name, label, n in zip(table["group"], table["label"], table["cells"], strict=True)
    ]
    rivals = [cut(short[name], _CHARACTERS) for name in table["runner_up"]]
    wide = max(text_width(text, _POINTS) for text in rows) + max(text_width(text, _POINTS) for text in rivals)
    width = min(max(COLUMN, wide + _WIDTH + 0.25), PAGE)
    with canvas(ax, _ROW * len(rows) + _AXIS, width=width) as drawn:
        row_labels(drawn, rows)
        _draw_rows(drawn, table, palette(table["label"], ontology=known))
        _name_rivals(drawn, table, rivals)
        drawn.set_xlim(0, 1.03)
        drawn.set_xlabel("share of cells, or probability")
        drawn.grid(axis="x", color=FAINT, linewidth=0.4)
        drawn.set_axisbelow(True)
        place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "ncols": 3}
        drawn.legend(frameon=False, handletextpad=0.3, columnspacing=0.8, handlelength=1.2, **place)
    return finish(drawn, ax=ax, show=show, save=save, return_fig=return_fig)


def _draw_rows(ax: Axes, table: pd.DataFrame, colours: dict[str, str]) -> None:
    """Draw agreement, confidence and the probability of the runner-up of each group."""
    rows = range(len(table))
    faces = [colours[label] for label in table["label"]]
    ax.barh(rows, table["agreement"], height=0.62, color=faces, alpha=0.55, linewidth=0, label="agreement")
    style: dict[str, Any] = {"linestyle": "none", "markeredgecolor": "black", "markeredgewidth": 0.5, "zorder": 3}
    ax.plot(table["confidence"], rows, marker="o", color=DARK, markersize=4, label="confidence", **style)
    rivals = table["runner_up_confidence"].where(table["runner_up_confidence"] >= _LEAST)
    ax.plot(rivals, rows, marker="D", color=WARM, markersize=3.2, label="runner-up", **style)


def _name_rivals(ax: Axes, table: pd.DataFrame, rivals: list[str]) -> None:
    """Name the runner-up to the right of each row."""
    style: dict[str, Any] = {"transform": ax.get_yaxis_transform(), "fontsize": "small", "va": "center"}
    for row, (name, share) in enumerate(zip(rivals, table["runner_up_confidence"], strict=True)):
        if share >= _LEAST:
            ax.text(1.03, row, name, color=MUTED, **style)
