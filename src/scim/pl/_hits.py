"""scim.pl.hits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _keys
from .. import get as results
from .._validate import check_fraction, check_positive_int
from ..ontology import CellOntology
from ._figure import COLUMN, DARK, FAINT, LIGHT, MUTED, PAGE, WARM, canvas, finish, text_width
from ._names import cut, short_names
from ._read import cells_of
from ._tree import in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Columns that are drawn, if the reference has them.
_COLUMNS = ("label", "tissue", "disease", "study")
#: Height of a row, of the axis below, and smallest and largest width of a square, in inches.
_ROW, _AXIS, _NARROW, _WIDE = 0.155, 0.6, 0.2, 0.4
#: Height of the head of a column of metadata, in rows.
_HEAD = 1.0
#: Share from which on a square is so dark that its number is white.
_DARK_SHARE = 0.4
#: Characters of a name, and points of names and numbers.
_CHARACTERS, _POINTS, _NUMBER_POINTS = 34, 6.5, 5.5


def hits(
    adata: AnnData | Any,
    *,
    key: str = _keys.QUERY,
    query: str | int | Sequence[str | int] | None = None,
    column: str | Sequence[str] | None = None,
    n_values: int = 5,
    fdr: float = 0.05,
    mod: str | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    ax: Axes | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw where queries were found: the labels, tissues, diseases and studies of their hits.

    One query: bars are shares of its hits, and the tick is the share that chance would give (the share among all cells
    searched). Dark bars are enriched at the false discovery rate ``fdr``. The text says how many samples have hits, and
    the FDR. Several queries: a column each; the darker a square, the larger the share of the hits; the number counts
    samples, and a frame marks what is enriched. Few samples are weak evidence, however many cells they have.

    Parameters
    ----------
    adata
        Data that :func:`scim.tl.query` wrote its result to: AnnData, or MuData with ``mod``.
    key
        ``key_added`` of the query.
    query
        Cells or groups whose hits to draw; by default all.
    column
        Columns of metadata: label, tissue, disease, study or sample; by default all but sample.
    n_values
        Most frequent values of a column and query to draw.
    fdr
        False discovery rate of what is marked as enriched, 0 to 1.
    mod, show, save, ax, return_fig
        As in :func:`scim.pl.ontology`.

    Returns
    -------
    None if the figure was shown or saved, the figure with ``return_fig``, or else the axes (``show=False``).

    Raises
    ------
    KeyError
        There is no result of a query, or a query or column is not in it.
    ValueError
        There are no hits, or a number is out of range.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc10k_protein()
    >>> scim.tl.query(adata, groupby="gate", k=50, max_per_group={"study": 20})
    >>> ax = scim.pl.hits(adata, query="B", show=False)
    """
    check_positive_int(n_values, argument="n_values")
    check_fraction(fdr, argument="fdr")
    table = results.summary(cells_of(adata, mod), key, query=query, column=column)
    if column is None:
        table = table[table["column"].isin(_COLUMNS)]
    if table.empty:
        raise ValueError("There are no hits to draw. Choose other queries, or run scim.tl.query with a larger k.")
    for name in ("query", "column", "value"):
        table[name] = table[name].astype(str)
    queries = _in_order(table)
    often = table.groupby(["query", "column"], sort=False)["fraction"].rank(method="first", ascending=False) <= n_values
    pairs = _rows(table, often)
    if len(queries) == 1:
        drawn = _draw_bars(table.set_index(["column", "value"]).loc[pairs], fdr, ax)
    else:
        drawn = _draw_squares(table, pairs, queries, fdr, ax)
    return finish(drawn, ax=ax, show=show, save=save, return_fig=return_fig)


def _in_order(table: pd.DataFrame) -> list[str]:
    """List the queries; names of terms in the order of the ontology."""
    names = list(dict.fromkeys(table["query"]))
    ontology = CellOntology.bundled()
    return in_order(names, ontology) if all(name in ontology or name == _keys.UNASSIGNED for name in names) else names


def _rows(table: pd.DataFrame, often: pd.Series) -> list[tuple[str, str]]:
    """List the column and value of each row: labels in the order of the ontology, others by their share."""
    rows: list[tuple[str, str]] = []
    columns = list(dict.fromkeys(table["column"]))
    for column in sorted(columns, key=lambda name: _COLUMNS.index(name) if name in _COLUMNS else len(_COLUMNS)):
        mine = table[often & (table["column"] == column)]
        values = mine.groupby("value")["fraction"].sum().sort_values(ascending=False, kind="stable").index
        ordered = in_order(values, CellOntology.bundled()) if column == "label" else list(values)
        rows += [(column, str(value)) for value in ordered]
    return rows


def _row_names(pairs: list[tuple[str, str]]) -> list[str]:
    short = short_names(value for _, value in pairs)
    return [cut(short[value], _CHARACTERS) for _, value in pairs]


def _places(pairs: list[tuple[str, str]]) -> tuple[np.ndarray, dict[str, float]]:
    """Place of each row, from the top down, (n,), and of the head of each column of metadata above its rows."""
    places, heads, place = [], {}, 0.0
    for column, _ in pairs:
        if column not in heads:
            heads[column] = place
            place += _HEAD
        places.append(place)
        place += 1
    return np.array(places), heads


def _draw_rows(ax: Axes, pairs: list[tuple[str, str]], names: list[str]) -> np.ndarray:
    """Name the rows and the columns of metadata, and return the place of each row, (n,)."""
    places, heads = _places(pairs)
    ax.set_yticks(places, names)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(places[-1] + 0.6, -0.5)
    for column, place in heads.items():
        ax.text(-0.02, place, column, transform=ax.get_yaxis_transform(), color=MUTED, ha="right", va="center")
        ax.axhline(place, color=FAINT, linewidth=0.6, zorder=0)
    return places


def _height(pairs: list[tuple[str, str]]) -> float:
    """Height of the rows in inches."""
    return float(_places(pairs)[0][-1] + 1.1) * _ROW


def _draw_bars(table: pd.DataFrame, fdr: float, ax: Axes | None) -> Axes:
    """Draw the shares of the hits of one query."""
    pairs = [(str(column), str(value)) for column, value in table.index]
    names = _row_names(pairs)
    with canvas(ax, _height(pairs) + _AXIS) as drawn:
        rows = _draw_rows(drawn, pairs, names)
        enriched = (table["fdr"] <= fdr).to_numpy()
        shares = table["fraction"].to_numpy(dtype=float)
        drawn.barh(rows, shares, height=0.62, color=np.where(enriched, DARK, LIGHT), linewidth=0)
        expected = shares / table["enrichment"].to_numpy(dtype=float)
        drawn.plot(expected, rows, "|", color=WARM, markersize=7, markeredgewidth=1.4, zorder=3)
        place = drawn.get_yaxis_transform()
        for row, n, rate in zip(rows, table["n_samples"], table["fdr"], strict=True):
            text = f"{n:,}" if np.isnan(rate) else f"{n:,}, {_rate(float(rate))}"
            drawn.text(1.03, row, text, transform=place, fontsize="small", va="center")
        drawn.text(1.03, 0, "samples, FDR", transform=place, fontsize="small", color=MUTED, va="center")
        drawn.set_xlim(0, 1)
        name = short_names(table["query"])[str(table["query"].iloc[0])]
        drawn.set_xlabel(
            f"share of the hits of {name}\ndark: enriched (FDR ≤ {fdr:g})\ntick: share of all cells searched"
        )
    return drawn


def _rate(rate: float) -> str:
    """Write a false discovery rate.

    Examples
    --------
    >>> _rate(0.0000012), _rate(0.03), _rate(1)
    ('1e-06', '0.03', '1')
    """
    return f"{rate:.0e}" if rate < 0.001 else f"{rate:.2g}"


def _draw_squares(
    table: pd.DataFrame, pairs: list[tuple[str, str]], queries: list[str], fdr: float, ax: Axes | None
) -> Axes:
    """Draw the shares of the hits of several queries, a column each."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    wide = table.set_index(["column", "value", "query"])[["fraction", "n_samples", "fdr"]]
    every = pd.MultiIndex.from_tuples([(*pair, query) for pair in pairs for query in queries])
    shape = len(pairs), len(queries)
    shares, samples, rates = (wide[name].reindex(every).to_numpy(dtype=float).reshape(shape) for name in wide)
    names, heads = _row_names(pairs), [cut(text, _CHARACTERS) for text in short_names(queries).values()]
    left = max(text_width(text, _POINTS) for text in names) + 0.05
    rise = [text_width(text, _POINTS) / 2**0.5 for text in heads]
    square = float(np.clip((COLUMN - left - 0.1 - rise[-1]) / len(queries), _NARROW, _WIDE))
    width = min(max(left + 0.2 + square * len(queries) + rise[-1], COLUMN), PAGE)
    with canvas(ax, _height(pairs) + max(rise) + 0.35, width=width) as drawn:
        places = _draw_rows(drawn, pairs, names)
        drawn.set_xlim(-0.5, len(queries) - 0.5)
        for row, column in np.argwhere(shares > 0):
            share, y = shares[row, column], places[row]
            face = 1 - np.sqrt(share) * (1 - np.array(to_rgb(DARK)))  # small shares remain visible
            edge = (WARM, 1.2) if rates[row, column] <= fdr else ("white", 0.5)
            box: dict[str, Any] = {"facecolor": face, "edgecolor": edge[0], "linewidth": edge[1]}
            drawn.add_patch(Rectangle((column - 0.46, y - 0.45), 0.92, 0.9, **box))
            style: dict[str, Any] = {"fontsize": _NUMBER_POINTS, "ha": "center", "va": "center_baseline"}
            colour = "white" if share > _DARK_SHARE else "black"
            drawn.text(column, y, f"{samples[row, column]:.0f}", color=colour, **style)
        drawn.xaxis.tick_top()
        drawn.set_xticks(range(len(heads)), heads, rotation=45, ha="left", rotation_mode="anchor")
        drawn.tick_params(axis="x", length=0, pad=1)
        note = f"dark: share of the hits; number: samples\nframe: enriched (FDR ≤ {fdr:g})"
        drawn.set_xlabel(note, color=MUTED, fontsize="small", loc="right")
    return drawn
