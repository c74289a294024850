"""scim.pl.confusion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _keys
from .._validate import check_fraction
from ..ontology import CellOntology
from ._figure import COLUMN, DARK, MUTED, PAGE, WARM, canvas, finish, row_labels, text_width
from ._names import cut, short_names
from ._numbers import percent
from ._read import cells_of, given_column, labels_of, names_of_terms, written_column
from ._tree import in_order

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Row of labels that are rare in every column.
_OTHERS = "other labels"
#: Characters of a name, and points of names and numbers.
_CHARACTERS, _POINTS, _NUMBER_POINTS = 34, 6.5, 5.5
#: Sizes in inches: height of a row, smallest and largest width of a column, height of a note.
_ROW, _NARROW, _WIDE, _NOTE = 0.15, 0.19, 0.32, 0.14
#: Relation -> words, and the frame of a square: the colour of its line, and its style.
_FRAMES = {
    "same": ("same", "black", "-"),
    "broader": ("broader", "black", (0, (1, 1))),
    "finer": ("finer", MUTED, (0, (4, 1.5))),
}
#: Smallest share that is written as a number.
_WRITTEN = 0.01
#: Share from which on a square is so dark that its number is white.
_DARK_SHARE = 0.55


def confusion(
    adata: AnnData | Any,
    truth: str,
    *,
    key: str = _keys.DEFAULT,
    min_share: float = 0.02,
    ontology: CellOntology | None = None,
    mod: str | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    ax: Axes | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Compare labels with another column: which share of the cells of each published label got which term.

    Rows are labels of scim, columns labels of ``truth``, both in the order of the ontology. Numbers are percent of the
    cells of a column. A frame shows that the term is the same or a broader one, so that the label is right, or a finer
    one, which ``truth`` cannot judge. Blue squares have a frame, orange squares are other terms.

    Parameters
    ----------
    adata
        Data that :func:`scim.tl.annotate` labelled: AnnData, or MuData with ``mod``.
    truth
        Column of ``obs`` with other labels: names, ids or synonyms of terms. :func:`scim.pp.harmonize_labels` finds the
        terms of your own labels. Labels outside the ontology only agree with the same text.
    key
        ``key_added`` of the annotation.
    min_share
        Labels with less than this share of the cells of every column are one row, ``"other labels"``.
    ontology, mod, show, save, ax, return_fig
        As in :func:`scim.pl.ontology`.

    Returns
    -------
    None if the figure was shown or saved, the figure with ``return_fig``, or else the axes (``show=False``).

    Raises
    ------
    KeyError
        The cells are not labelled, or the column is not there.
    ValueError
        No cell has a label in ``truth``, or the column holds numbers.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc10k_protein()
    >>> scim.tl.annotate(adata)
    >>> ax = scim.pl.confusion(adata, "cell_type", show=False)
    """
    data = cells_of(adata, mod)
    check_fraction(min_share, argument="min_share")
    known = CellOntology.bundled() if ontology is None else ontology
    written_column(data, _keys.obs_label(key))
    given, published = labels_of(data, _keys.obs_label(key)), given_column(data, truth, argument="truth")
    judged = published != _keys.UNASSIGNED
    if not judged.any():
        raise ValueError(f"truth={truth!r}: no cell has a label in adata.obs[{truth!r}]. Choose another column.")
    counts = _counts(given[judged], published[judged], known)
    relations = _relations(counts, known)
    agreement = _agreement(counts, relations)
    shares = _pooled(counts / counts.sum(axis=0), min_share)
    names = short_names(map(str, [*shares.index, *shares.columns]))
    rows = [cut(names[name], _CHARACTERS) for name in map(str, shares.index)]
    columns = [f"{cut(names[name], _CHARACTERS)} ({counts[name].sum():,})" for name in map(str, shares)]
    width, height = _size(rows, columns)
    with canvas(ax, height, width=width) as drawn:
        _draw_squares(drawn, shares.to_numpy(), relations.reindex(shares.index).to_numpy(dtype=object))
        row_labels(drawn, rows)
        drawn.xaxis.tick_top()
        drawn.set_xticks(range(len(columns)), columns, rotation=45, ha="left", rotation_mode="anchor")
        drawn.tick_params(axis="x", length=0, pad=1)
        _draw_key(drawn, agreement)
    return finish(drawn, ax=ax, show=show, save=save, return_fig=return_fig)


def _counts(given: np.ndarray, published: np.ndarray, ontology: CellOntology) -> pd.DataFrame:
    """Count cells of each pair of labels, in the order of the ontology."""
    ours, theirs = names_of_terms(given, ontology), names_of_terms(published, ontology)
    table = pd.crosstab(pd.Series(given).map(ours), pd.Series(published).map(theirs))
    rows, columns = set(map(str, table.index)), set(map(str, table.columns))
    order = in_order(rows | columns, ontology)
    return table.loc[[name for name in order if name in rows], [name for name in order if name in columns]]


def _relations(counts: pd.DataFrame, ontology: CellOntology) -> pd.DataFrame:
    """Relation of the label of each row to the label of each column."""
    related = [
        ["none" if row == _keys.UNASSIGNED else ontology.relation(row, column) for column in map(str, counts)]
        for row in map(str, counts.index)
    ]
    return pd.DataFrame(related, index=counts.index, columns=counts.columns)


def _agreement(counts: pd.DataFrame, relations: pd.DataFrame) -> dict[str, float]:
    """Share of all cells with each relation."""
    cells = pd.Series(counts.to_numpy().ravel()).groupby(relations.to_numpy().ravel()).sum()
    return {str(relation): float(n) / counts.to_numpy().sum() for relation, n in cells.items()}


def _pooled(shares: pd.DataFrame, min_share: float) -> pd.DataFrame:
    """Make one row of the labels that are rare in every column."""
    rare = (shares < min_share).all(axis=1) & (shares.index != _keys.UNASSIGNED)
    if rare.sum() < 2:
        return shares
    others = shares[rare].sum().to_frame(f"{_OTHERS} ({rare.sum()})").T
    return pd.concat([shares[~rare], others])


def _size(rows: list[str], columns: list[str]) -> tuple[float, float]:
    """Width and height of the figure in inches: a column of a journal, or more if there are many columns."""
    names = max(text_width(name, _POINTS) for name in rows)
    heads = [text_width(name, _POINTS) / 2**0.5 for name in columns]
    wide = float(np.clip((COLUMN - names - heads[-1] - 0.1) / len(columns), _NARROW, _WIDE))
    # The names of the last columns reach to the right of the squares.
    over = max(head - wide * (len(columns) - i - 0.5) for i, head in enumerate(heads))
    width = names + wide * len(columns) + max(over, 0) + 0.1
    return min(max(width, COLUMN), PAGE), _ROW * len(rows) + max(heads) + 4 * _NOTE


def _draw_squares(ax: Axes, shares: np.ndarray, relations: np.ndarray) -> None:
    """Colour each pair of labels by its share and relation, and frame those that agree."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    agrees = np.isin(relations, list(_FRAMES))
    grey = relations == "none"
    full = np.where(agrees[..., None], to_rgb(DARK), np.where(grey[..., None], to_rgb(MUTED), to_rgb(WARM)))
    strength = np.sqrt(shares)[..., None]  # small shares remain visible
    edges = [np.arange(n + 1) - 0.5 for n in shares.shape]
    ax.pcolormesh(edges[1], edges[0], 1 - strength * (1 - full), rasterized=False)
    for row, column in np.argwhere((shares > 0) | (relations == "same")):
        share, relation = shares[row, column], relations[row, column]
        if relation in _FRAMES:
            _, colour, style = _FRAMES[relation]
            frame: dict[str, Any] = {"edgecolor": colour, "linestyle": style, "linewidth": 0.7, "facecolor": "none"}
            ax.add_patch(Rectangle((column - 0.45, row - 0.43), 0.9, 0.86, **frame))
        if share >= _WRITTEN / 2:
            colour = "white" if share > _DARK_SHARE and relation != "other" else "black"
            text = f"{100 * share:.0f}" if share >= _WRITTEN else "<1"
            ax.text(column, row, text, fontsize=_NUMBER_POINTS, color=colour, ha="center", va="center_baseline")


def _draw_key(ax: Axes, agreement: dict[str, float]) -> None:
    """Explain frames and colours below the squares, with the share of all cells."""
    from matplotlib.patches import Patch

    frames = {k: {"label": words, "edgecolor": line, "linestyle": s} for k, (words, line, s) in _FRAMES.items()}
    others = {"other": {"label": "other", "edgecolor": "none"}, "none": {"label": "unassigned", "edgecolor": "none"}}
    colours = {"other": WARM, "none": MUTED}
    keys = []
    for relation, style in (frames | others).items():
        share = agreement.get(relation, 0.0)
        if share or relation != "none":
            style["label"] = f"{style['label']} {percent(share)}"
            keys.append(Patch(facecolor=_tint(colours.get(relation, DARK)), linewidth=0.7, **style))
    place: dict[str, Any] = {"loc": "upper right", "bbox_to_anchor": (1.0, -0.01), "ncols": min(len(keys), 4)}
    ax.legend(handles=keys, frameon=False, handlelength=1.2, columnspacing=0.8, handletextpad=0.4, **place)


def _tint(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    red, green, blue = (1 - 0.6 * (1 - part) for part in to_rgb(colour))
    return red, green, blue
