"""What scim does with real cells, in one run: annotate, compare with published labels, search, and draw."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import _keys
from .._validate import check_key, is_unlabeled

if TYPE_CHECKING:
    from anndata import AnnData

    from ..ontology import CellOntology
    from ..reference import Reference

Echo = Callable[[str], object]
#: Hits of each query.
_HITS = 50
#: Cells that a group must have to be compared with.
_LEAST_COMPARED = 20


@dataclass(frozen=True)
class Agreement:
    """How predicted terms compare with published labels, as shares of the cells.

    Attributes
    ----------
    n_cells
        Cells with a published label.
    same
        The predicted term is the published one.
    broader
        It is an ancestor of the published one: right, but less specific.
    finer
        It is a descendant of the published one, which says nothing against it.
    unassigned
        There is none.
    """

    n_cells: int
    same: float
    broader: float
    finer: float
    unassigned: float

    @property
    def other(self) -> float:
        """The predicted term is none of these."""
        return max(0.0, 1 - self.same - self.broader - self.finer - self.unassigned)


def run_demo(
    out: Path,
    *,
    adata: AnnData | None = None,
    name: str | None = None,
    labels_key: str | None = None,
    echo: Echo = print,
) -> Agreement | None:
    """Annotate cells with the bundled reference, search it with them, say what came out, and write it to ``out``.

    Parameters
    ----------
    out
        Folder for ``annotated.h5ad`` and ``umap.png``.
    adata, name, labels_key
        Data of the user with their name and, where there is one, the obs column of their labels;
        :func:`scim.datasets.pbmc68k` when left out.
    echo
        Called with every line of the report.

    Returns
    -------
    How the labels compare with those in ``labels_key``, if that is given.
    """
    from ..reference import Reference
    from ._files import write_adata

    started = time.monotonic()
    ours = adata is None
    if adata is None:
        from ..datasets import pbmc68k

        adata, name, labels_key = pbmc68k(), "pbmc68k_reduced, which ships in scanpy", "cell_type"
    if labels_key is not None:
        check_key(adata.obs, labels_key, argument="labels_key", where="obs")
    reference = Reference.open(None)
    echo(f"Data       {name or 'given'}: {adata.n_obs:,} cells x {adata.n_vars:,} genes")
    about = reference.info()
    echo(f"Reference  blood, bundled: {about['cells']:,} cells of {len(about['studies'])} studies")
    _annotate(adata, reference, echo=echo)
    agreement = None if labels_key is None else _compare(adata, labels_key, echo=echo)
    if ours:
        _look_closer(adata, echo=echo)
    _query(adata, reference, echo=echo)
    out.mkdir(parents=True, exist_ok=True)
    if "X_umap" not in adata.obsm:
        _add_umap(adata)
    draw(adata, out / "umap.png", labels_key=labels_key)
    write_adata(adata, out / "annotated.h5ad")
    echo(f"Written    {out / 'annotated.h5ad'}, {out / 'umap.png'}")
    echo(f"Done       in {time.monotonic() - started:.0f} s")
    return agreement


def compare(predicted: np.ndarray, published: np.ndarray, ontology: CellOntology) -> Agreement:
    """Compare predicted with published term ids (or names, or labels), cell by cell.

    Parameters
    ----------
    predicted, published
        Ids, names or labels (n_cells,); a missing published label leaves the cell out.
    ontology
        What decides which term is an ancestor of which.
    """
    import pandas as pd

    known = ~is_unlabeled(pd.Series(published, dtype=object)).to_numpy()
    pairs = list(zip(predicted[known].astype(str), published[known].astype(str), strict=True))
    resolved = {label: ontology.resolve(label) or label for pair in pairs for label in pair}

    def is_above(term: str, other: str) -> bool:
        return term in ontology and other in ontology and term in ontology.ancestors(other)

    same = broader = finer = unassigned = 0
    for guess, truth in ((resolved[p], resolved[t]) for p, t in pairs):
        same += guess == truth
        broader += guess != truth and is_above(guess, truth)
        finer += guess != truth and is_above(truth, guess)
        unassigned += guess == _keys.UNASSIGNED
    n = max(len(pairs), 1)
    return Agreement(len(pairs), same / n, broader / n, finer / n, unassigned / n)


def _annotate(adata: AnnData, reference: Reference, *, echo: Echo) -> None:
    from ..tl import annotate

    started = time.monotonic()
    annotate(adata, reference)
    labels = adata.obs[_keys.obs_label()].astype(str)
    unassigned = int((labels == _keys.UNASSIGNED).sum())
    echo(f"Annotated  in {time.monotonic() - started:.0f} s, {unassigned:,} cells are {_keys.UNASSIGNED}:")
    for label, n in labels.value_counts().head(12).items():
        echo(f"           {n:>6,} {label}")


def _compare(adata: AnnData, labels_key: str, *, echo: Echo) -> Agreement:
    from ..ontology import CellOntology

    given = adata.obs[_keys.obs_label()].astype(str)
    published = adata.obs[labels_key].astype(object)
    found = compare(given.to_numpy(object), published.to_numpy(), CellOntology.bundled())
    echo(f"Compared   with obs[{labels_key!r}], of {found.n_cells:,} cells the label is")
    for share, words in (
        (found.same, "the same term"),
        (found.broader, "a broader one: right, but less specific"),
        (found.finer, "a finer one, below it"),
        (found.other, "another one"),
        (found.unassigned, _keys.UNASSIGNED),
    ):
        echo(f"           {share:>6.1%} {words}")
    for label, mine in given[published.notna()].groupby(published[published.notna()].astype(str)):
        counts = mine.value_counts()
        echo(f"           {len(mine):>6,} {label!s:.58}: mostly {counts.index[0]} ({counts.iloc[0]})")
    return found


def _look_closer(adata: AnnData, *, echo: Echo) -> None:
    """Say what a gene tells of cells that are labelled otherwise than in the data that ship in scanpy."""
    measured = np.asarray(adata[:, "FCGR3A"].X.todense()).ravel() > 0
    label, published = (adata.obs[column].astype(str) for column in (_keys.obs_label(), "cell_type"))
    cd16, cd14 = "CD14-low, CD16-positive monocyte", "CD14-positive monocyte"
    disputed = ((label == cd16) & (published == cd14)).to_numpy()
    # The nearest kin that are enough to compare with: next to a handful of cells, any share would look like a finding.
    groups = {f"cells that are called {name}": (label == name).to_numpy() for name in (cd14, "mononuclear phagocyte")}
    groups["other cells"] = (label != cd16).to_numpy()
    large = [(words, cells) for words, cells in groups.items() if cells.sum() >= _LEAST_COMPARED]
    if disputed.any() and large:
        words, others = large[0]
        echo(f"Look       {disputed.sum()} cells that were published as {cd14} are called")
        echo(f"           {cd16}. FCGR3A, the gene of CD16, was counted in {measured[disputed].mean():.0%} of them,")
        echo(f"           and in {measured[others].mean():.0%} of the {others.sum()} {words}. (The published")
        echo("           labels are the most alike of some sorted populations, none of them CD16 monocytes.)")


def _query(adata: AnnData, reference: Reference, *, echo: Echo) -> None:
    from .. import get
    from ..tl import query

    labels = adata.obs[_keys.obs_label()].astype(str)
    named = labels[labels != _keys.UNASSIGNED]
    if named.empty:
        return
    largest = str(named.value_counts().index[0])
    query(adata, reference, groupby=_keys.obs_label(), k=_HITS)
    mine = get.hits(adata, query=largest)
    echo(f"Queried    with the centroid of every label: the {len(mine)} reference cells most like {largest!r} are")
    for column in ("label", "study"):
        counts = mine[column].astype(str).value_counts().head(3)
        echo("           " + ", ".join(f"{n} {value}" for value, n in counts.items()))


def _add_umap(adata: AnnData) -> None:
    import scanpy as sc

    sc.pp.neighbors(adata, use_rep=_keys.obsm_embedding(), metric="cosine", random_state=0)
    sc.tl.umap(adata, random_state=0)


def draw(adata: AnnData, path: Path, *, labels_key: str | None) -> None:
    """Draw the cells with scim's labels and confidence, beside the published labels if there are any.

    Parameters
    ----------
    adata
        Annotated cells with ``obsm["X_umap"]``.
    path
        File to write, its extension says the format.
    labels_key
        ``obs`` column of the published labels.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    points = np.asarray(adata.obsm["X_umap"])[:, :2]
    columns = {"published label": labels_key, "scim label": _keys.obs_label()}
    labels = {title: adata.obs[key].astype(str).to_numpy() for title, key in columns.items() if key is not None}
    names = sorted({name for values in labels.values() for name in values})
    palette = colormaps["tab20"]
    colours = {name: palette(i % palette.N) for i, name in enumerate(names)}
    # A Figure of its own, not pyplot: no window, no global state, no backend to choose.
    figure = Figure(figsize=(5 * (len(labels) + 1), 6.2), layout="constrained")
    axes = figure.subplots(1, len(labels) + 1)
    size = float(np.clip(10_000 / len(points), 1, 14))
    for axis, (title, values) in zip(axes, labels.items(), strict=False):
        for name in dict.fromkeys(sorted(values)):
            axis.scatter(*points[values == name].T, s=size, color=colours[name], label=name, linewidths=0)
        axis.set_title(f"{title} of {adata.n_obs:,} cells")
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), fontsize=7, frameon=False, markerscale=2)
    confidence = adata.obs[_keys.obs_confidence()].to_numpy(dtype=float)
    drawn = axes[-1].scatter(*points.T, s=size, c=confidence, vmin=0, vmax=1, cmap="viridis", linewidths=0)
    axes[-1].set_title("confidence")
    figure.colorbar(drawn, ax=axes[-1], orientation="horizontal", shrink=0.6)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_frame_on(False)
    figure.savefig(path, dpi=150)
