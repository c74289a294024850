"""scim.pl.markers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _keys
from .. import get as results
from .._validate import check_positive_int, first_names, get_adata
from .._warn import warn
from ..counts import find_counts, iter_blocks, lognormal_in_place
from ..ontology import CellOntology
from ._figure import COLUMN, PAGE, WARM, canvas, finish, text_width
from ._names import cut, short_names
from ._read import given_column, names_of_terms
from ._tree import in_order

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Characters of a name, and points of its text.
_CHARACTERS, _POINTS = 34, 6.5
#: Inches: width of a gene, height of a group, least height of all groups, width of legends and of the gap beside them.
_GENE, _ROW, _LEAST, _LEGEND, _GAP = 0.16, 0.17, 1.2, 0.8, 0.2
#: Column of the groups in the data that scanpy draws.
_GROUP = "group"


def markers(
    adata: AnnData | Any,
    genes: Mapping[str, Sequence[str]] | None = None,
    *,
    key: str = _keys.EXPLAIN,
    groupby: str | None = None,
    n_genes: int = 3,
    min_cells: int = 3,
    ontology: CellOntology | None = None,
    mod: str | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    ax: Axes | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the genes behind each label as dots: what :func:`scim.tl.explain` found, or genes that you know.

    The larger a dot, the more cells of the group express the gene. The darker a dot, the higher is the mean expression,
    scaled from 0 to 1 for each gene. Counts are normalised to 1e4 and logged for the plot. Labels and genes are in the
    order of the ontology, so that the genes of a label stand near the diagonal, in frames. Drawn by
    :func:`scanpy.pl.dotplot`.

    Parameters
    ----------
    adata
        AnnData, or MuData with ``mod``.
    genes
        Label -> genes that are known for it. None takes the genes of :func:`scim.tl.explain`.
    key
        ``key_added`` of the explanation.
    groupby
        Column of ``obs`` with the groups. The default is the column that was explained, or ``"scim_label"`` for
        ``genes``.
    n_genes
        Number of genes of each group of the explanation.
    min_cells
        Leave out groups of fewer cells, whose means say little.
    ontology, mod, show, save, ax, return_fig
        As in :func:`scim.pl.ontology`.

    Returns
    -------
    None if the figure was shown or saved, the figure with ``return_fig``, or else the axes (``show=False``).

    Raises
    ------
    KeyError
        There is no explanation, or the column is not there.
    ValueError
        The data have none of the genes, or no group has ``min_cells`` cells.

    Warns
    -----
    UserWarning
        Some of ``genes`` are not in the data.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc68k()
    >>> known = {"B cell": ["CD79A", "MS4A1"], "natural killer cell": ["NKG7", "GNLY"]}
    >>> ax = scim.pl.markers(adata, known, groupby="cell_type", show=False)
    """
    data = get_adata(adata, mod=mod)
    known = CellOntology.bundled() if ontology is None else ontology
    if genes is None:
        genes, explained = _explained(data, key, check_positive_int(n_genes, argument="n_genes"))
        groupby = explained if groupby is None else groupby
    groupby = _keys.obs_label() if groupby is None else groupby
    groups = given_column(data, groupby, argument="groupby")
    sizes = pd.Series(groups).value_counts()
    shown = [str(name) for name in sizes.index[sizes >= check_positive_int(min_cells, argument="min_cells")]]
    if not shown:
        raise ValueError(f"No group of {groupby!r} has {min_cells} cells. Choose fewer (min_cells=).")
    rows = in_order(shown, known)
    genes = {label: list(dict.fromkeys(genes[label])) for label in in_order(genes, known)}
    cells = _expression(data, genes, groups, rows)
    names = names_of_terms(np.array([*rows, *genes], dtype=object), known)
    short = short_names(names.values())
    texts = [f"{cut(short[names[row]], _CHARACTERS)} ({sizes[row]:,})" for row in rows]
    left = max(text_width(text, _POINTS) for text in texts) + 0.15
    below = max(text_width(gene, _POINTS) for gene in cells.var_names) + 0.15
    width = min(max(COLUMN, left + cells.n_vars * _GENE + _GAP + _LEGEND + 0.05), PAGE)
    height = max(len(rows) * _ROW, _LEAST) + below + 0.05
    margins = left, below, 0.05, 0.05
    own: dict[str, Sequence[str]] = {names[label]: members for label, members in genes.items()}
    with canvas(ax, height, width=width, margins=margins) as drawn:
        main = _draw_dots(cells, rows, drawn, (width - left, height - below))
        main.set_yticklabels(texts)
        _frame_own(main, cells, [own.get(names[row], []) for row in rows])
    return finish(drawn, ax=ax, show=show, save=save, return_fig=return_fig)


def _explained(data: AnnData, key: str, n_genes: int) -> tuple[dict[str, list[str]], str]:
    """Return the first genes of each group that was explained, and the column of the groups."""
    table = results.genes(data, key)
    first = table.groupby("group", observed=True, sort=False)["gene"].apply(lambda names: list(names[:n_genes]))
    return {str(group): names for group, names in first.items()}, str(data.uns[key]["params"]["groupby"])


def _expression(data: AnnData, genes: Mapping[str, Sequence[str]], groups: np.ndarray, rows: list[str]) -> AnnData:
    """Make an AnnData of the genes: log-normalised expression of the cells in the groups of ``rows``."""
    import anndata
    from scipy.sparse import csr_matrix, vstack

    found = find_counts(data)
    names = data.raw.var_names if found.use_raw else data.var_names
    place = {str(name): i for i, name in reversed(list(enumerate(names)))}
    wanted = list(dict.fromkeys(gene for several in genes.values() for gene in several))
    missing = [gene for gene in wanted if gene not in place]
    if len(missing) == len(wanted):
        raise ValueError(f"The data have none of the {len(wanted)} genes, such as {first_names(wanted, limit=3)}.")
    if missing:
        warn(f"{len(missing)} of {len(wanted)} genes are not in the data: {first_names(missing)}.")
    there = [gene for gene in wanted if gene in place]
    kept = np.flatnonzero(np.isin(groups, rows))
    parts = []
    for _, block in iter_blocks(found.X, rows=kept):  # all genes are read, for the sum of a cell
        scaled = lognormal_in_place(csr_matrix(block, dtype=np.float32, copy=True), found.kind)
        parts.append(scaled[:, [place[gene] for gene in there]])
    obs = pd.DataFrame({_GROUP: pd.Categorical(groups[kept], categories=rows)}, index=data.obs_names[kept])
    return anndata.AnnData(vstack(parts, format="csr"), obs=obs, var=pd.DataFrame(index=there))


def _draw_dots(cells: AnnData, rows: list[str], ax: Axes, size: tuple[float, float]) -> Axes:
    """Draw the dots by scanpy in the place of ``ax``, and return their axes."""
    from scanpy.plotting import DotPlot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scanpy about matplotlib, and of matplotlib about small legends
        plot = DotPlot(
            cells, list(cells.var_names), _GROUP, categories_order=rows, standard_scale="var", ax=ax, figsize=size
        )
        plot.style(cmap="Blues", dot_edge_lw=0.3, dot_edge_color="#555555", largest_dot=52, grid=False)
        plot.legend(width=_LEGEND, size_title="cells that\nexpress it (%)", colorbar_title="mean expression,\nscaled")
        plot.make_figure()
    for part in plot.get_axes().values():
        part.tick_params(labelsize=_POINTS)
        part.title.set_fontsize(_POINTS)
    main: Axes = plot.get_axes()["mainplot_ax"]
    # scanpy leaves an empty row of no height above the dots, by which a constrained layout would divide.
    place = main.get_subplotspec()
    if place is not None:
        place.get_gridspec().set_height_ratios([0.01, 0.01, 1])
    return main


def _frame_own(ax: Axes, cells: AnnData, own: Sequence[Sequence[str]]) -> None:
    """Frame the genes of each group in the row of the group."""
    from matplotlib.patches import Rectangle

    place = {gene: i for i, gene in enumerate(cells.var_names)}
    for row, genes in enumerate(own):
        for gene in genes:
            if gene in place:
                style: dict[str, Any] = {"facecolor": "none", "edgecolor": WARM, "linewidth": 0.8, "zorder": 0}
                ax.add_patch(Rectangle((place[gene], row), 1, 1, **style))
