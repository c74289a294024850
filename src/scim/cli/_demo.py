"""``scim demo``: annotate real cells, compare the labels with published ones, search the reference, and draw."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import _keys
from .._validate import check_key, is_unlabeled
from ._files import check_out, read, write_adata

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from matplotlib.axes import Axes

    from ..ontology import CellOntology
    from ..reference import Reference

#: Hits of the query.
_HITS = 50
#: Labels that are listed, the most frequent first.
_SHOWN_LABELS = 12
#: Cells of a group that are enough to compare with: any share of a few cells would look like a finding.
_MIN_COMPARED_CELLS = 20
#: Length of a published label in the report, in characters.
_LABEL_CHARACTERS = 58

#: How a predicted term relates to the published one, and the words of the report.
_RELATIONS = {
    "same": "have the same term",
    "broader": "have a broader term: correct, but less specific",
    "finer": "have a finer term, a descendant",
    "other": "have another term",
    _keys.UNASSIGNED: f"are {_keys.UNASSIGNED}",
}


def demo(
    data: Annotated[
        Path | None,
        typer.Option(help="Your own .h5ad file with blood cells. Left out: the blood cells that come with scanpy."),
    ] = None,
    labels_key: Annotated[
        str | None, typer.Option(help="Column of obs in --data with cell types to compare with.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("scim-demo"),
) -> None:
    """Annotate real cells with the bundled reference of blood, and report the results.

    Without --data, these are the blood cells that come with scanpy: 700 cells of one donor with only 765 genes, which
    is a difficult case. No network is needed. The command compares the labels with the published ones, searches the
    reference for similar cells, and writes an annotated .h5ad file and a figure to --out.
    """
    check_out(out / "umap.png" if out.exists() else out, overwrite=True)
    if data is None and labels_key is not None:
        raise ValueError("--labels-key is a column of --data, which is missing. Give --data X.h5ad as well.")
    from ..reference import Reference

    started = time.monotonic()
    if data is None:
        from ..datasets import pbmc68k

        adata, name, labels_key = pbmc68k(), "pbmc68k_reduced of scanpy", "cell_type"
    else:
        adata, name = read(data), data.name
    if labels_key is not None:
        check_key(adata.obs, labels_key, argument="labels_key", where="obs")
    typer.echo(f"Data       {name}: {adata.n_obs:,} cells x {adata.n_vars:,} genes")
    reference = Reference.open(None)
    about = reference.info()
    typer.echo(f"Reference  blood, bundled: {about['cells']:,} cells of {len(about['studies'])} studies")
    _annotate(adata, reference)
    if labels_key is not None:
        _compare(adata, labels_key)
    if data is None:
        _look_closer(adata)
    _query(adata, reference)
    _write(adata, out, labels_key)
    typer.echo(f"Done       in {time.monotonic() - started:.0f} s")


def _annotate(adata: AnnData, reference: Reference) -> None:
    from ..tl import annotate

    started = time.monotonic()
    annotate(adata, reference)
    labels = adata.obs[_keys.obs_label()].astype(str)
    unassigned = int((labels == _keys.UNASSIGNED).sum())
    typer.echo(f"Annotated  in {time.monotonic() - started:.0f} s, {unassigned:,} cells {_keys.UNASSIGNED}:")
    for label, n in labels.value_counts().head(_SHOWN_LABELS).items():
        typer.echo(f"           {n:>6,} {label}")


def _compare(adata: AnnData, labels_key: str) -> None:
    from ..ontology import CellOntology

    given = adata.obs[_keys.obs_label()].astype(str)
    published = adata.obs[labels_key].astype(object)
    found = compare(given.to_numpy(object), published.to_numpy(), CellOntology.bundled())
    typer.echo(f"Compared   with obs[{labels_key!r}]: of {found.total():,} cells,")
    for relation, words in _RELATIONS.items():
        typer.echo(f"           {found[relation] / max(found.total(), 1):>6.1%} {words}")
    for label, mine in given[published.notna()].groupby(published[published.notna()].astype(str)):
        counts = mine.value_counts()
        shown = f"{label!s:.{_LABEL_CHARACTERS}}: mostly {counts.index[0]} ({counts.iloc[0]})"
        typer.echo(f"           {len(mine):>6,} {shown}")


def compare(predicted: np.ndarray, published: np.ndarray, ontology: CellOntology) -> Counter[str]:
    """Count the cells with each relation of the predicted to the published term, a key of :data:`_RELATIONS`.

    Both arrays hold ids or names of terms, or other labels. Cells without a published label are left out.
    """
    import pandas as pd

    known = ~is_unlabeled(pd.Series(published, dtype=object)).to_numpy()
    pairs = list(zip(predicted[known].astype(str), published[known].astype(str), strict=True))
    resolved = {label: ontology.resolve(label) or label for pair in pairs for label in pair}

    def is_above(term: str, other: str) -> bool:
        return term in ontology and other in ontology and term in ontology.ancestors(other)

    def relation(guess: str, truth: str) -> str:
        if guess in (truth, _keys.UNASSIGNED):
            return "same" if guess == truth else _keys.UNASSIGNED
        return "broader" if is_above(guess, truth) else "finer" if is_above(truth, guess) else "other"

    return Counter(relation(resolved[guess], resolved[truth]) for guess, truth in pairs)


def _look_closer(adata: AnnData) -> None:
    """Report how many of the cells with a disputed label express a gene that decides it."""
    measured = adata[:, "FCGR3A"].X.toarray().ravel() > 0
    label, published = (adata.obs[column].astype(str) for column in (_keys.obs_label(), "cell_type"))
    cd16, cd14 = "CD14-low, CD16-positive monocyte", "CD14-positive monocyte"
    disputed = ((label == cd16) & (published == cd14)).to_numpy()
    # The most closely related group that has enough cells.
    groups = {f"cells labelled {name}": (label == name).to_numpy() for name in (cd14, "mononuclear phagocyte")}
    groups["other cells"] = (label != cd16).to_numpy()
    large = [(words, cells) for words, cells in groups.items() if cells.sum() >= _MIN_COMPARED_CELLS]
    if disputed.any() and large:
        words, others = large[0]
        typer.echo(f"Look       {disputed.sum()} cells published as {cd14} are labelled")
        typer.echo(
            f"           {cd16}. FCGR3A, the gene of CD16, was counted in {measured[disputed].mean():.0%} of them,"
        )
        typer.echo(f"           and in {measured[others].mean():.0%} of the {others.sum()} {words}. (A published label")
        typer.echo("           is the most similar of ten sorted populations, and none of these are CD16 monocytes.)")


def _query(adata: AnnData, reference: Reference) -> None:
    from .. import get
    from ..tl import query

    labels = adata.obs[_keys.obs_label()].astype(str)
    named = labels[labels != _keys.UNASSIGNED]
    if named.empty:
        return
    largest = str(named.value_counts().index[0])
    query(adata, reference, groupby=_keys.obs_label(), k=_HITS)
    mine = get.hits(adata, query=largest)
    typer.echo(
        f"Queried    with the centroid of each label: the {len(mine)} reference cells nearest to {largest!r} are"
    )
    for column in ("label", "study"):
        counts = mine[column].astype(str).value_counts().head(3)
        typer.echo("           " + ", ".join(f"{n} {value}" for value, n in counts.items()))


def _write(adata: AnnData, out: Path, labels_key: str | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if "X_umap" not in adata.obsm:
        import scanpy as sc

        sc.pp.neighbors(adata, use_rep=_keys.obsm_embedding(), metric="cosine", random_state=0)
        sc.tl.umap(adata, random_state=0)
    draw(adata, out / "umap.png", labels_key)
    write_adata(adata, out / "annotated.h5ad")
    typer.echo(f"Written    {out / 'annotated.h5ad'}, {out / 'umap.png'}")


def draw(adata: AnnData, path: Path, labels_key: str | None) -> None:
    """Draw the UMAP of the cells with their published labels, if there are any, labels of scim, and confidence."""
    import numpy as np
    from matplotlib.figure import Figure

    points = np.asarray(adata.obsm["X_umap"])[:, :2]
    columns = {"published label": labels_key, "scim label": _keys.obs_label()}
    labels = {title: adata.obs[key].astype(str).to_numpy() for title, key in columns.items() if key is not None}
    # A Figure without pyplot opens no window and changes no global state.
    figure = Figure(figsize=(5 * (len(labels) + 1), 6.2), layout="constrained")
    axes = figure.subplots(1, len(labels) + 1)
    size = float(np.clip(10_000 / len(points), 1, 14))
    _draw_labels(axes, points, labels, size)
    confidence = adata.obs[_keys.obs_confidence()].to_numpy(dtype=float)
    drawn = axes[-1].scatter(*points.T, s=size, c=confidence, vmin=0, vmax=1, cmap="viridis", linewidths=0)
    axes[-1].set_title("confidence")
    figure.colorbar(drawn, ax=axes[-1], orientation="horizontal", shrink=0.6)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_frame_on(False)
    figure.savefig(path, dpi=150)


def _draw_labels(axes: Sequence[Axes], points: np.ndarray, labels: dict[str, np.ndarray], size: float) -> None:
    """Draw the points once for each kind of labels, the same label in the same colour."""
    from matplotlib import colormaps

    palette = colormaps["tab20"]
    names = sorted({name for values in labels.values() for name in values})
    colours = {name: palette(i % palette.N) for i, name in enumerate(names)}
    for axis, (title, values) in zip(axes, labels.items(), strict=False):
        for name in sorted(set(values)):
            x, y = points[values == name].T
            axis.scatter(x, y, s=size, color=colours[name], label=name, linewidths=0)
        axis.set_title(f"{title} of {len(points):,} cells")
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), fontsize=7, frameon=False, markerscale=2)
