"""scim.pl.training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ._figure import DARK, FAINT, WARM, canvas, finish, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Panel -> the parts of the history in it, with their names in the legend.
_PANELS: dict[str, dict[str, str]] = {
    "loss": {"train_loss": "total", "validation_loss": "total"},
    "triplet or pair loss": {"triplet_loss": "triplets", "pair_loss": "pairs"},
    "reconstruction loss": {"reconstruction_loss": "reconstruction"},
    "per batch": {
        "triplets_mined": "triplets",
        "triplets_active": "active triplets",
        "positive_pairs": "pairs",
    },
    "silhouette": {"silhouette": "silhouette"},
}
#: Height of a panel and of the axis below, in inches.
_PANEL, _AXIS = 0.8, 0.55
#: Line style of the first and further entries of a panel.
_STYLES = ("-", "--", ":")


def training(
    model: Any,
    *,
    show: bool | None = None,
    save: str | Path | None = None,
    ax: Axes | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the history of a training: losses, triplets and silhouette of each epoch.

    Dark lines are cells that train, orange lines with dots are cells for validation (``train_size``,
    ``validation_studies`` or ``early_stopping`` of :meth:`scim.SCIM.train`). If the validation loss rises while the
    loss falls, the model learns its cells by heart. Few active triplets mean that there is little left to learn.

    Parameters
    ----------
    model
        A trained :class:`scim.SCIM`, or its ``history``.
    show, save, ax, return_fig
        As in :func:`scim.pl.ontology`.

    Returns
    -------
    None if the figure was shown or saved, the figure with ``return_fig``, or else the axes (``show=False``), which hold
    a panel for each kind of value (``ax.child_axes``).

    Raises
    ------
    TypeError
        ``model`` is neither a model nor a history.
    ValueError
        The model is not trained.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc68k()
    >>> scim.SCIM.setup_anndata(adata, labels_key="cell_type")
    >>> model = scim.SCIM(adata)
    >>> model.train(max_epochs=2)  # doctest: +SKIP
    >>> scim.pl.training(model)  # doctest: +SKIP
    """
    from matplotlib.ticker import MaxNLocator

    history = model if isinstance(model, Mapping) else getattr(model, "history", model)
    if history is not None and not isinstance(history, Mapping):
        raise TypeError(f"model must be a scim.SCIM or its history, got {type(model).__name__}.")
    lines = {title: _lines(history or {}, parts) for title, parts in _PANELS.items()}
    lines = {title: found for title, found in lines.items() if found}
    if not lines:
        raise ValueError("The model has no history. Call model.train() first.")
    with canvas(ax, _PANEL * len(lines) + _AXIS) as drawn:
        made = panels(drawn, len(lines))
        for panel, (title, found) in zip(made, lines.items(), strict=True):
            _draw_panel(panel, title, found)
        made[-1].set_xlabel("epoch")
        made[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        _draw_key(made[0], lines)
    return finish(drawn, ax=ax, show=show, save=save, return_fig=return_fig)


def _lines(history: Mapping[str, Any], parts: Mapping[str, str]) -> list[tuple[str, bool, pd.Series]]:
    """Find the values of a panel: name, whether they are of validation, and a value for each epoch."""
    found = []
    for part, name in parts.items():
        for entry in dict.fromkeys((part, f"{part}_train", f"{part}_validation")):
            values = history.get(entry)
            series = None if values is None else pd.DataFrame(values).iloc[:, 0].astype(float).dropna()
            if series is not None and len(series):
                found.append((name, "validation" in entry, series))
    return found


def _draw_panel(ax: Axes, title: str, lines: list[tuple[str, bool, pd.Series]]) -> None:
    names = list(dict.fromkeys(name for name, _, _ in lines))
    for name, validates, values in lines:
        colour, marker = (WARM, "o") if validates else (DARK, "")
        style: dict[str, Any] = {"linestyle": _STYLES[names.index(name)], "linewidth": 1.1, "markersize": 2}
        label = name if len(names) > 1 and not validates else None
        ax.plot(values.index + 1, values.to_numpy(), color=colour, marker=marker, label=label, **style)
    if len(names) > 1:
        ax.legend(frameon=False, loc="upper right", handlelength=1.8, ncols=2, borderpad=0.1)
    ax.set_ylabel(title.replace(" or ", " or\n").replace("reconstruction ", "reconstruction\n"))
    ax.grid(color=FAINT, linewidth=0.4)
    top = max(np.nanmax(values) for _, _, values in lines)
    if min(np.nanmin(values) for _, _, values in lines) >= 0:
        room = 1.6 if len(names) > 1 else 1.08  # for the key
        ax.set_ylim(0, room * top if top > 0 else 1)
    ax.yaxis.set_major_formatter(_short_number)


def _short_number(value: float, _: float = 0) -> str:
    """Write a number of an axis in few characters.

    Examples
    --------
    >>> _short_number(0.25), _short_number(2500), _short_number(3_000_000)
    ('0.25', '2.5k', '3M')
    """
    for size, sign in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{sign}"
    return f"{value:g}"


def _draw_key(ax: Axes, lines: Mapping[str, Any]) -> None:
    """Explain the two colours above the panels, if there are two."""
    if not any(validates for found in lines.values() for _, validates, _ in found):
        return
    from matplotlib.lines import Line2D

    keys = [Line2D([], [], color=DARK, label="training"), Line2D([], [], color=WARM, marker="o", label="validation")]
    for key in keys:
        key.set_markersize(2)
    own = ax.get_legend()
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": 2}
    ax.legend(handles=keys, frameon=False, **place)
    if own is not None:
        ax.add_artist(own)
