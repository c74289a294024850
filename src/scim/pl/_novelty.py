"""scim.pl.novelty."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _keys
from ..ontology import CellOntology
from ._figure import DARK, MUTED, canvas, finish
from ._numbers import percent
from ._read import as_numbers, cells_of, given_column, names_of_terms, record, written_column
from ._spread import draw_spreads, spread_height
from ._tree import in_order

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Largest novelty of a cell that is well represented, as in the record of annotate.
_WELL = 0.5
#: Distance of the right end of the shares from the axes, in points.
_SHARE_POINTS = 34
#: Largest number of groups in a figure.
_MAX_GROUPS = 200


def novelty(
    adata: AnnData | Any,
    *,
    key: str = _keys.DEFAULT,
    by: str | None = None,
    ontology: CellOntology | None = None,
    mod: str | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    ax: Axes | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the novelty of the cells of each group, and which share of them is well represented in the reference.

    A dot is the median of a group, the thick line its middle half, and the thin line the middle 90 %. Cells with a
    novelty up to 0.5 (dashed line) are well represented; the number on the right is their share. Cells beyond the
    dotted line are unassigned (``max_novelty`` of :func:`scim.tl.annotate`).

    Parameters
    ----------
    adata
        Data that :func:`scim.tl.annotate` labelled: AnnData, or MuData with ``mod``.
    key
        ``key_added`` of the annotation.
    by
        Column of ``obs`` with groups, such as ``"leiden"`` or ``"sample"``. The default is the column that
        :func:`scim.tl.annotate` labelled groups of, or else the label.
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
        The column holds numbers, no groups, or more than 200.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc10k_protein()
    >>> scim.tl.annotate(adata)
    >>> ax = scim.pl.novelty(adata, by="cell_type", show=False)
    """
    data = cells_of(adata, mod)
    known = CellOntology.bundled() if ontology is None else ontology
    values = as_numbers(written_column(data, _keys.obs_novelty(key)))
    of_record = record(data, key).get("params", {})
    if by is None:
        by = str(of_record.get("by", "")) or _keys.obs_label(key)
    groups = given_column(data, by, argument="by")
    order = _in_order(data.obs[by], groups, known, argument=f"by={by!r}")
    names = names_of_terms(np.array(order, dtype=object), known)
    spreads = [values[groups == group] for group in order]
    with canvas(ax, spread_height(len(order))) as drawn:
        draw_spreads(drawn, [names[group] for group in order], spreads, [DARK] * len(order))
        drawn.set_xlim(-0.02, 1.02)
        limit = float(of_record.get("max_novelty", np.nan))
        drawn.axvline(_WELL, color=MUTED, linewidth=0.8, linestyle="--", zorder=1)
        note = f"novelty, by {by}"
        if _WELL < limit < 1:
            drawn.axvline(limit, color="black", linewidth=0.8, linestyle=":", zorder=1)
            note += "\nright of the dotted line: unassigned"
        drawn.set_xlabel(note)
        _draw_shares(drawn, spreads)
    return finish(drawn, ax=ax, show=show, save=save, return_fig=return_fig)


def _in_order(column: pd.Series, groups: np.ndarray, ontology: CellOntology, *, argument: str) -> list[str]:
    """List the groups: terms in the order of the ontology, others as in their categories or sorted."""
    there = {str(group) for group in groups} - {_keys.UNASSIGNED}
    if not there or len(there) > _MAX_GROUPS:
        raise ValueError(f"{argument} has {len(there):,} groups, but needs 1 to {_MAX_GROUPS}. Choose another column.")
    if any(group in ontology for group in there):
        return in_order(there, ontology) + [_keys.UNASSIGNED] * int((groups == _keys.UNASSIGNED).any())
    if isinstance(column.dtype, pd.CategoricalDtype):
        return [name for name in map(str, column.cat.categories) if name in there]
    return sorted(there, key=lambda name: (len(name), name) if name.isdigit() else (0, name))


def _draw_shares(ax: Axes, spreads: list[np.ndarray]) -> None:
    """Write the share of well represented cells to the right of each row."""
    style: dict[str, Any] = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points", "ha": "right"}
    style |= {"xytext": (_SHARE_POINTS, 0), "annotation_clip": False}
    ax.annotate("well\nrepresented", (1, -0.55), fontsize="x-small", color=MUTED, va="bottom", **style)
    for row, values in enumerate(spreads):
        text = percent(float(np.mean(values <= _WELL)))
        ax.annotate(text, (1, row), fontsize="small", va="center", **style)
