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
from .._validate import check_positive_int, first_names
from .._warn import warn
from ..counts import find_counts, iter_blocks, lognormal_in_place
from ..ontology import CellOntology
from ._figure import COLUMN, PAGE, WARM, canvas, finish, row_labels, text_width
from ._names import cut, short_names
from ._read import cells_of, given_column, names_of_terms
from ._tree import in_order

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Characters of a name, and points of its text.
_CHARACTERS, _POINTS = 34, 6.5
#: Width of a gene, height of a group and of the key, in inches; area of the largest dot in points squared.
_GENE, _ROW, _KEY, _AREA = 0.15, 0.16, 0.3, 60.0
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
    order of the ontology, so that the genes of a label stand near the diagonal, in frames. The numbers are
    those of :func:`scanpy.pl.dotplot`.

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
    data = cells_of(adata, mod)
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
    width = min(max(COLUMN, left + cells.n_vars * _GENE), PAGE)
    own: dict[str, Sequence[str]] = {names[label]: members for label, members in genes.items()}
    with canvas(ax, len(rows) * _ROW + below + _KEY, width=width) as drawn:
        row_labels(drawn, texts)
        _draw_dots(drawn, cells, rows)
        _frame_own(drawn, cells, [own.get(names[row], []) for row in rows])
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


def _draw_dots(ax: Axes, cells: AnnData, rows: list[str]) -> None:
    """Draw a dot for each group and gene, of the size and colour that scanpy computes."""
    import matplotlib
    from scanpy.plotting import DotPlot

    genes = list(cells.var_names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scanpy, about pandas and matplotlib
        plot = DotPlot(cells, genes, _GROUP)
    shares = plot.dot_size_df.loc[rows, genes].to_numpy(dtype=float)
    means = plot.dot_color_df.loc[rows, genes].to_numpy(dtype=float)
    spread = means.max(axis=0) - means.min(axis=0)
    scaled = (means - means.min(axis=0)) / np.where(spread > 0, spread, 1)
    y, x = np.indices(shares.shape)
    blues = matplotlib.colormaps["Blues"]
    style: dict[str, Any] = {"edgecolors": "#555555", "linewidths": 0.3, "zorder": 2}
    ax.scatter(x.ravel(), y.ravel(), s=_AREA * shares.ravel(), c=blues(scaled.ravel()), **style)
    ax.set_xticks(range(len(genes)), genes, rotation=90)
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.6, len(genes) - 0.4)
    keys = [ax.scatter([], [], s=_AREA * n / 100, color="#999999", label=f"{n} %") for n in (25, 50, 100)]
    keys[-1].set_label("100 % of the cells")
    ends = (0.0, "lowest mean"), (1.0, "highest")
    keys += [ax.scatter([], [], s=_AREA / 2, color=blues(end), label=name, **style) for end, name in ends]
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": len(keys)}
    ax.legend(handles=keys, frameon=False, handletextpad=0.1, columnspacing=0.6, borderpad=0.1, **place)


def _frame_own(ax: Axes, cells: AnnData, own: Sequence[Sequence[str]]) -> None:
    """Frame the genes of each group in the row of the group."""
    from matplotlib.patches import Rectangle

    place = {gene: i for i, gene in enumerate(cells.var_names)}
    for row, genes in enumerate(own):
        for gene in genes:
            if gene in place:
                style: dict[str, Any] = {"facecolor": "none", "edgecolor": WARM, "linewidth": 0.8, "zorder": 0}
                ax.add_patch(Rectangle((place[gene] - 0.5, row - 0.5), 1, 1, **style))
