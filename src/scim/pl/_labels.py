"""scim.pl.labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _keys
from .._validate import check_fraction, did_you_mean
from ..ontology import CellOntology
from ._colours import palette
from ._figure import COLUMN, MUTED, canvas, finish, size_of, text_width
from ._names import folded, short_names
from ._places import densest, places
from ._read import as_numbers, cells_of, given_column, labels_of, names_of_terms, written_column

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Height of the figure, in inches.
_HEIGHT = 3.3
#: Fewest cells of a label whose name is written.
_FEWEST = 2
#: Characters in a line of a name.
_CHARACTERS = 17
#: Colours fade towards this grey, and keep at least this share.
_PALE, _LEAST = np.array([0.92, 0.92, 0.92]), 0.12
#: Cells from which on dots are one picture inside a vector file, which would be too large.
_MANY_CELLS = 20_000
#: Part of the axes that names may cover, from the lower left.
_INSIDE = (0.005, 0.005, 0.995, 0.995)


def labels(
    adata: AnnData | Any,
    *,
    key: str = _keys.DEFAULT,
    basis: str = "umap",
    column: str | None = None,
    fade: bool = True,
    min_share: float = 0.005,
    size: float | None = None,
    title: str | None = None,
    ontology: CellOntology | None = None,
    mod: str | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    ax: Axes | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw cells on a map, coloured by their labels, with the names on the map.

    Related terms have related colours, and a term has the same colour in every data set, see
    :func:`scim.pl.palette`. Cells of low confidence are pale. The name of a label stands where its cells are densest,
    or next to that place, with a line to it. A note counts labels without a name.

    Parameters
    ----------
    adata
        Data that :func:`scim.tl.annotate` labelled: AnnData, or MuData with ``mod``.
    key
        ``key_added`` of the annotation.
    basis
        Map of the cells: ``"umap"`` for ``obsm["X_umap"]``, or the name of another entry of ``obsm``, whose first two
        columns are drawn.
    column
        Column of ``obs`` with other labels to draw, such as published ones or ``"scim_cluster_label"``. They do not
        fade.
    fade
        Make cells of low confidence pale.
    min_share
        Name labels of at least this share of the cells, 0 to 1, and of two cells or more.
    size
        Area of a dot in points squared. By default, it depends on the number of cells.
    title
        Title of the map.
    ontology
        Ontology of the labels. The default is the bundled Cell Ontology.
    mod, show, save, ax, return_fig
        As in :func:`scim.pl.ontology`.

    Returns
    -------
    None if the figure was shown or saved, the figure with ``return_fig``, or else the axes (``show=False``).

    Raises
    ------
    KeyError
        The cells are not labelled, or the map or column is not there. The message says how to make it.
    ValueError
        The map has less than two columns, or ``min_share`` is out of range.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc68k()
    >>> ax = scim.pl.labels(adata, column="cell_type", show=False)
    """
    data = cells_of(adata, mod)
    check_fraction(min_share, argument="min_share")
    known = CellOntology.bundled() if ontology is None else ontology
    confidence = None
    if column is None:
        written_column(data, _keys.obs_label(key))
        values = labels_of(data, _keys.obs_label(key))
        if fade:
            confidence = as_numbers(written_column(data, _keys.obs_confidence(key)))
    else:
        values = given_column(data, column, argument="column")
    points = _points(data, basis)
    shown = np.isfinite(points).all(axis=1)
    points, values = points[shown], values[shown]
    colours = _cell_colours(values, None if confidence is None else confidence[shown], known)
    with canvas(ax, _HEIGHT) as drawn:
        _draw_cells(drawn, points, colours, size)
        drawn.set_title("" if title is None else title)
        notes = ["paler: less confident"] if confidence is not None else []
        notes += _draw_names(drawn, points, values, min_share, known)
        drawn.set_xlabel("; ".join(notes), fontsize="small", color=MUTED)
    return finish(drawn, ax=ax, show=show, save=save, return_fig=return_fig)


def _points(data: AnnData, basis: str) -> np.ndarray:
    """Read the first two columns of a map, float64 (n_cells, 2)."""
    name = next((name for name in (f"X_{basis}", basis) if name in data.obsm), None)
    if name is None:
        make = (
            f"Make a UMAP: sc.pp.neighbors(adata, use_rep={_keys.obsm_embedding()!r}, metric='cosine'); "
            "sc.tl.umap(adata). "
            if basis.removeprefix("X_") == "umap"
            else ""
        )
        raise KeyError(f"basis={basis!r}: adata.obsm has no 'X_{basis}'. {make}{did_you_mean(basis, data.obsm.keys())}")
    points = np.asarray(data.obsm[name], dtype=np.float64)
    if points.ndim != 2 or points.shape[1] < 2:
        raise ValueError(f"basis={basis!r}: obsm[{name!r}] has the shape {points.shape}, but needs two columns.")
    return points[:, :2]


def _cell_colours(values: np.ndarray, confidence: np.ndarray | None, ontology: CellOntology) -> np.ndarray:
    """Colour cells by label, paler with less confidence, (n_cells, 3)."""
    from matplotlib.colors import to_rgb

    colours = palette(values, ontology=ontology)
    full = np.array([to_rgb(colours[str(value)]) for value in values]).reshape(-1, 3)
    if confidence is None:
        return full
    share = np.clip(np.nan_to_num(confidence), _LEAST, 1)[:, None] ** 1.5
    return np.asarray(share * full + (1 - share) * _PALE)


def _draw_cells(ax: Axes, points: np.ndarray, colours: np.ndarray, size: float | None) -> None:
    by_default = float(np.clip(4_000 / max(len(points), 1), 0.4, 12)) * (size_of(ax)[0] / COLUMN) ** 2
    area = by_default if size is None else size
    order = np.random.default_rng(0).permutation(len(points))  # no label covers the others
    many = len(points) > _MANY_CELLS
    ax.scatter(points[order, 0], points[order, 1], s=area, c=colours[order], linewidths=0, rasterized=many)
    ax.margins(0.03)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_color("#bbbbbb")


def _draw_names(
    ax: Axes, points: np.ndarray, values: np.ndarray, min_share: float, ontology: CellOntology
) -> list[str]:
    """Write the names of the labels on the map, and return a note on labels without a name."""
    names, sizes = np.unique(values.astype(str), return_counts=True)
    order = np.argsort(-sizes, kind="stable")
    full = names_of_terms(names, ontology)
    short = short_names(full.values())
    enough = max(min_share * len(values), _FEWEST)
    wanted = [i for i in order if names[i] != _keys.UNASSIGNED and sizes[i] >= enough]
    texts = [folded(short[full[names[i]]], _CHARACTERS) for i in wanted]
    groups = [points[values == names[i]] for i in wanted]
    anchors = np.reshape([densest(group) for group in groups], (-1, 2))
    found, edges = _find_places(ax, anchors, texts, groups, points)
    colours = palette(names, ontology=ontology)
    for i, text, anchor, place, edge in zip(wanted, texts, anchors, found, edges, strict=True):
        if np.isfinite(place).all():
            _draw_name(ax, text, anchor, place, edge, colours[names[i]])
    missed = [i for i, place in zip(wanted, found, strict=True) if not np.isfinite(place).all()]
    unnamed = [*missed, *(i for i in order if names[i] != _keys.UNASSIGNED and i not in wanted)]
    if not unnamed:
        return []
    n, cells = len(unnamed), int(sizes[unnamed].sum())
    return [f"without a name: {n} label{'s' * (n > 1)}, {cells:,} cell{'s' * (cells > 1)}"]


def _find_places(
    ax: Axes, anchors: np.ndarray, texts: list[str], groups: list[np.ndarray], points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find the centre of each name, and the point of its box that is nearest to the anchor.

    Both are in data coordinates, (n, 2), and NaN where there is no room.
    """
    import matplotlib

    points_per_line = 0.8 * float(matplotlib.rcParams["font.size"])
    inches = np.array(size_of(ax))
    widths = [max(text_width(line, points_per_line) for line in text.split("\n")) for text in texts]
    heights = [(text.count("\n") + 1) * points_per_line * 1.22 / 72 for text in texts]
    sizes = np.reshape(np.stack([widths, heights], axis=1), (-1, 2)) + 0.05
    box = (np.array(_INSIDE).reshape(2, 2) * inches).ravel()

    def scaled(xy: np.ndarray) -> np.ndarray:
        return np.asarray(ax.transAxes.inverted().transform(ax.transData.transform(xy)) * inches)

    found = places(scaled(anchors), sizes, box.tolist(), [scaled(group) for group in groups], scaled(points))
    edges = np.clip(scaled(anchors), found - sizes / 2, found + sizes / 2)
    back = ax.transAxes + ax.transData.inverted()
    return back.transform(found / inches), back.transform(edges / inches)


def _draw_name(ax: Axes, text: str, anchor: np.ndarray, place: np.ndarray, edge: np.ndarray, colour: str) -> None:
    """Write a name in a box in the colour of its label, with a line to its cells."""
    import matplotlib

    size = 0.8 * float(matplotlib.rcParams["font.size"])
    box: dict[str, Any] = {
        "boxstyle": "round,pad=0.12",
        "facecolor": (1, 1, 1, 0.8),
        "edgecolor": colour,
        "linewidth": 0.7,
    }
    ax.plot([anchor[0], edge[0]], [anchor[1], edge[1]], color="#444444", linewidth=0.5, zorder=2)
    # Path effects would turn text into outlines in svg and pdf files: a box makes it legible as well.
    ax.text(place[0], place[1], text, fontsize=size, ha="center", va="center", bbox=box, zorder=3, linespacing=1.0)
