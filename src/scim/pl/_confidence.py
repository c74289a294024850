"""scim.pl.confidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _keys
from .._validate import check_positive_int
from ..ontology import CellOntology
from ._colours import palette
from ._figure import COLUMN, DARK, FAINT, LIGHT, MUTED, WARM, canvas, finish
from ._numbers import percent
from ._read import as_numbers, cells_of, given_column, labels_of, names_of_terms, record, written_column
from ._spread import draw_spreads, spread_height
from ._tree import in_order

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Height of the histogram below the plot, in units of the y axis, with room for numbers.
_HISTOGRAM, _NUMBERS = 0.14, 0.07
#: Half-width of a 95 % interval, in standard errors.
_Z = 1.96


def confidence(
    adata: AnnData | Any,
    *,
    key: str = _keys.DEFAULT,
    truth: str | None = None,
    n_bins: int = 10,
    ontology: CellOntology | None = None,
    mod: str | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
    ax: Axes | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the confidence of each label; or with ``truth``, compare confidence with the share of right labels.

    Without ``truth``: a dot is the median of the cells of a label, the thick line their middle half, and the thin line
    the middle 90 %.

    With ``truth``: a label is right if it is the same term as the true one or a broader one. A dot is the share of
    right labels among the cells of similar confidence, with its 95 % interval (Wilson). On the diagonal, confidence
    is as high as it should be; above it, it is too low. The bars are numbers of cells. The diamond is the share of the
    prediction sets that contain the true label (or a broader or finer term), against ``1 - alpha``. Cells whose label
    is finer than the true one cannot be judged, and a note counts them.

    Parameters
    ----------
    adata
        Data that :func:`scim.tl.annotate` labelled: AnnData, or MuData with ``mod``.
    key
        ``key_added`` of the annotation.
    truth
        Column of ``obs`` with true labels, see :func:`scim.pl.confusion`.
    n_bins
        Number of bins of confidence, from 0 to 1.
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
        No cell has both labels, so that nothing can be compared.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc10k_protein()
    >>> scim.tl.annotate(adata)
    >>> ax = scim.pl.confidence(adata, truth="cell_type", show=False)
    """
    data = cells_of(adata, mod)
    check_positive_int(n_bins, argument="n_bins")
    known = CellOntology.bundled() if ontology is None else ontology
    written_column(data, _keys.obs_label(key))
    labels = labels_of(data, _keys.obs_label(key))
    values = as_numbers(written_column(data, _keys.obs_confidence(key)))
    if truth is None:
        return _by_label(labels, values, known, show=show, save=save, ax=ax, return_fig=return_fig)
    true = given_column(data, truth, argument="truth")
    relations = _relations(labels, true, known)
    judged = np.isin(relations, ["same", "broader", "other"])
    if not judged.any():
        raise ValueError(
            f"truth={truth!r}: no label can be compared with it. Map its labels to terms with scim.pp.harmonize_labels."
        )
    right = np.isin(relations[judged], ["same", "broader"])
    sets = labels_of(data, _keys.obs_set(key)) if _keys.obs_set(key) in data.obs else None
    alpha = record(data, key).get("params", {}).get("alpha")
    with canvas(ax, COLUMN) as drawn:
        _draw_diagonal(drawn)
        _draw_bins(drawn, values[judged], right, n_bins)
        if sets is not None and alpha is not None:
            known_truth = true != _keys.UNASSIGNED
            covered = _share_covered(sets[known_truth], true[known_truth], known)
            label = f"prediction sets (alpha = {alpha:g}): {percent(covered)}"
            drawn.plot(1 - float(alpha), covered, "D", color=WARM, markersize=6, markeredgecolor="black", label=label)
        drawn.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), frameon=False, handletextpad=0.3)
        drawn.set_xlabel("\n".join(["confidence, or 1 - alpha of the sets", *_notes(relations)]))
        drawn.set_ylabel(f"share that is right by {truth}")
    return finish(drawn, ax=ax, show=show, save=save, return_fig=return_fig)


def _by_label(labels: np.ndarray, values: np.ndarray, ontology: CellOntology, **how: Any) -> Axes | Figure | None:
    """Draw the distribution of confidence of each label."""
    names = names_of_terms(labels, ontology)
    named = np.array([names[label] for label in labels], dtype=object)
    order = [name for name in in_order(set(named), ontology) if name != _keys.UNASSIGNED]
    if not order:
        raise ValueError("All cells are unassigned, so that there is no confidence to draw.")
    colours = palette(order, ontology=ontology)
    groups = [values[named == name] for name in order]
    with canvas(how["ax"], spread_height(len(order))) as drawn:
        draw_spreads(drawn, order, groups, [colours[name] for name in order])
        drawn.set_xlim(0, 1.02)
        drawn.set_xlabel("confidence")
    return finish(drawn, **how)


def _relations(labels: np.ndarray, true: np.ndarray, ontology: CellOntology) -> np.ndarray:
    """Relation of each label to the true one, (n_cells,); "unassigned" and "unknown" if one of them is missing."""
    found: dict[tuple[str, str], str] = {}
    for pair in set(zip(labels, true, strict=True)):
        missing = "unknown" if pair[1] == _keys.UNASSIGNED else _keys.UNASSIGNED if pair[0] == _keys.UNASSIGNED else ""
        found[pair] = missing or ontology.relation(*pair)
    return np.array([found[pair] for pair in zip(labels, true, strict=True)], dtype=object)


def _share_covered(sets: np.ndarray, true: np.ndarray, ontology: CellOntology) -> float:
    """Share of the cells whose set has a term that is the true one, above it or below it."""
    pairs = list(zip(sets, true, strict=True))
    covers = {
        (given, own): any(ontology.relation(term, own) != "other" for term in given.split(";"))
        for given, own in set(pairs)
    }
    return float(np.mean([covers[pair] for pair in pairs]))


def _notes(relations: np.ndarray) -> list[str]:
    kinds = {"finer": "finer than the truth", _keys.UNASSIGNED: _keys.UNASSIGNED, "unknown": "without a truth"}
    counts = {words: int((relations == kind).sum()) for kind, words in kinds.items()}
    parts = [f"{n:,} {words}" for words, n in counts.items() if n]
    return [f"left out: {', '.join(parts)}"] if parts else []


def _draw_diagonal(ax: Axes) -> None:
    ax.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle="--", zorder=1)
    ax.set_xlim(0, 1.02)
    ax.set_ylim(-_HISTOGRAM - _NUMBERS, 1.02)
    ax.set_yticks(np.linspace(0, 1, 6))
    ax.axhline(0, color="black", linewidth=0.6)
    ax.grid(color=FAINT, linewidth=0.4)
    ax.set_axisbelow(True)


def _draw_bins(ax: Axes, values: np.ndarray, right: np.ndarray, n_bins: int) -> None:
    """Draw the share of right labels in each bin of confidence, and the number of cells as bars below."""
    bins = np.clip((values * n_bins).astype(int), 0, n_bins - 1)
    cells = np.bincount(bins, minlength=n_bins)
    heights, bottom = _HISTOGRAM * cells / cells.max(), -_HISTOGRAM - _NUMBERS
    ax.bar((np.arange(n_bins) + 0.5) / n_bins, heights, 0.9 / n_bins, bottom=bottom, color=LIGHT, zorder=1)
    used = np.flatnonzero(cells)
    x = np.array([values[bins == b].mean() for b in used])
    share = np.array([right[bins == b].mean() for b in used])
    low, high = wilson(share, cells[used])
    style: dict[str, Any] = {"fmt": "o", "color": DARK, "markersize": 4, "elinewidth": 0.8, "capsize": 0, "zorder": 3}
    label = f"labels: {percent(float(right.mean()))} right, mean confidence {values.mean():.2f}"
    ax.errorbar(x, share, yerr=[share - low, high - share], label=label, **style)
    for b in used:
        style = {"fontsize": 5.5, "color": MUTED, "ha": "center", "va": "bottom"}
        ax.text((b + 0.5) / n_bins, bottom + heights[b], f"{cells[b]:,}", **style)


def wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95 % interval of a share of ``n`` (Wilson, JASA 1927)."""
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return np.minimum(middle - half, share), np.maximum(middle + half, share)
