"""The whole path in one run: train, build a reference, annotate and query cells that training never saw."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import _keys
from ._validate import check_fraction, check_key

if TYPE_CHECKING:
    from anndata import AnnData

    from .ontology import CellOntology
    from .reference import Reference

Echo = Callable[[str], object]


@dataclass(frozen=True)
class Agreement:
    """How predicted terms compare with published labels.

    Attributes
    ----------
    n_cells
        Held-out cells with a published label.
    exact
        Share of them whose predicted term is the published one.
    on_path
        Share whose predicted term is the published one or an ancestor of it: right, but perhaps less specific.
    unassigned
        Share that got no label.
    """

    n_cells: int
    exact: float
    on_path: float
    unassigned: float


def run_demo(
    out: Path,
    *,
    adata: AnnData | None = None,
    name: str | None = None,
    labels_key: str | None = None,
    study_key: str | None = None,
    holdout: float = 0.25,
    max_epochs: int | None = None,
    seed: int = 0,
    echo: Echo = print,
) -> Agreement:
    """Train, build, annotate and query; say what is done, and write the results to ``out``.

    Parameters
    ----------
    out
        Folder for ``annotated.h5ad`` (the held-out cells), ``umap.png``, ``encoder`` and ``reference.scim``.
    adata, name, labels_key, study_key
        Data of the user with their name and obs columns; :func:`scim.datasets.pbmc68k` when left out.
    holdout
        Share of the cells that training and the reference never see. With three studies or more, whole studies.
    max_epochs
        Training epochs; chosen from the size of the data when left out.
    seed
        Seed of the split and of the training.
    echo
        Called with every line of the report.
    """
    started = time.monotonic()
    check_fraction(holdout, argument="holdout", low=0.05, high=0.9)
    if adata is None:
        from .datasets import pbmc68k

        adata, name, labels_key, study_key = pbmc68k(), "pbmc68k_reduced (ships in scanpy)", "cell_type", "channel"
    if labels_key is None:
        raise ValueError("labels_key is missing: name the column of obs with the cell types.")
    check_key(adata.obs, labels_key, argument="labels_key", where="obs")
    if study_key is not None:
        check_key(adata.obs, study_key, argument="study_key", where="obs")
    held = choose_held_out(adata, holdout=holdout, labels_key=labels_key, study_key=study_key, seed=seed)
    out.mkdir(parents=True, exist_ok=True)

    echo(f"Data       {name or 'given'}: {adata.n_obs:,} cells x {adata.n_vars:,} genes")
    echo(f"           {adata.obs[labels_key].nunique()} labels in obs[{labels_key!r}]" + _study_words(adata, study_key))
    train, test = adata[~held].copy(), adata[held].copy()
    what = _held_words(test, study_key, train)
    echo(f"Held out   {test.n_obs:,} cells that training and the reference never see{what}")

    reference = _train_and_build(
        train, out, labels_key=labels_key, study_key=study_key, max_epochs=max_epochs, seed=seed, echo=echo
    )
    agreement = _annotate(test, reference, labels_key=labels_key, echo=echo)
    _query(test, reference, labels_key=labels_key, echo=echo)
    _write(test, reference, out, labels_key=labels_key, seed=seed)
    echo(f"Written    {out / 'annotated.h5ad'}, {out / 'umap.png'}, {out / 'encoder'}, {out / 'reference.scim'}")
    echo(f"Done       in {time.monotonic() - started:.0f} s")
    return agreement


def choose_held_out(adata: AnnData, *, holdout: float, labels_key: str, study_key: str | None, seed: int) -> np.ndarray:
    """Choose which cells to hold out: whole studies where there are three or more, else a share of every label.

    Returns
    -------
    bool array (n_cells,)
        True for held-out cells. At least one cell of either kind.
    """
    rng = np.random.default_rng(seed)
    held = np.zeros(adata.n_obs, dtype=bool)
    studies = adata.obs[study_key].astype(str).to_numpy() if study_key else np.zeros(adata.n_obs, dtype=str)
    names, sizes = np.unique(studies, return_counts=True)
    if len(names) >= 3:
        for i in rng.permutation(len(names)):
            # The first always goes out; others while the share stays nearer to what was asked for.
            grown = held.sum() + sizes[i]
            if not held.any() or grown <= holdout * adata.n_obs * 1.05:
                held |= studies == names[i]
    else:
        labels = adata.obs[labels_key].astype(str).to_numpy()
        for label in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == label))
            held[rows[: round(holdout * len(rows))]] = True
    if not 0 < held.sum() < adata.n_obs:
        raise ValueError(f"{adata.n_obs} cells are too few to hold {holdout:.0%} of them out. Give more cells.")
    return held


def compare(predicted: np.ndarray, published: np.ndarray, ontology: CellOntology) -> Agreement:
    """Compare predicted with published term ids (or labels), cell by cell.

    Parameters
    ----------
    predicted, published
        Ids, names or labels (n_cells,); a missing published label leaves the cell out.
    ontology
        What decides which term is an ancestor of which.
    """
    resolved = {str(x): ontology.resolve(str(x)) or str(x) for x in {*predicted, *published}}
    known = np.array([x is not None and x == x and str(x) not in ("", "nan") for x in published], dtype=bool)
    exact = on_path = unassigned = 0
    for p, t in zip(predicted[known], published[known], strict=True):
        guess, truth = resolved[str(p)], resolved[str(t)]
        exact += guess == truth
        on_path += guess == truth or (truth in ontology and guess in ontology.ancestors(truth))
        unassigned += guess == _keys.UNASSIGNED
    n = max(int(known.sum()), 1)
    return Agreement(int(known.sum()), exact / n, on_path / n, unassigned / n)


def _study_words(adata: AnnData, study_key: str | None) -> str:
    return f", {adata.obs[study_key].nunique()} studies in obs[{study_key!r}]" if study_key else ""


def _held_words(test: AnnData, study_key: str | None, train: AnnData) -> str:
    if study_key is None:
        return " (a share of every label)"
    studies = sorted(set(test.obs[study_key].astype(str)) - set(train.obs[study_key].astype(str)))
    return f": all of {study_key} {', '.join(studies)}" if studies else " (a share of every label)"


def _train_and_build(
    train: AnnData,
    out: Path,
    *,
    labels_key: str,
    study_key: str | None,
    max_epochs: int | None,
    seed: int,
    echo: Echo,
) -> Reference:
    from .model import SCIM
    from .reference import Reference

    echo(f"Training   on {train.n_obs:,} cells ...")
    started = time.monotonic()
    SCIM.setup_anndata(train, labels_key=labels_key, batch_key=study_key)
    model = SCIM(train)
    # A bar is for a person to watch; in a log it would be a line for every step. And stdout is for the report.
    with redirect_stdout(sys.stderr):
        model.train(max_epochs, seed=seed, enable_progress_bar=sys.stderr.isatty())
    encoder = model.to_encoder()
    encoder.save(out / "encoder", overwrite=True)
    echo(f"           {encoder.provenance.get('epochs')} epochs in {time.monotonic() - started:.0f} s")
    echo(f"Encoder    {encoder.id}: {len(encoder.genes):,} genes -> {encoder.n_latent} numbers")
    reference = Reference.build(
        out / "reference.scim", train, encoder, labels_key=labels_key, study_key=study_key, overwrite=True, seed=seed
    )
    echo(f"Reference  {len(reference):,} cells with {len(reference.terms.labels)} labels")
    return reference


def _annotate(test: AnnData, reference: Reference, *, labels_key: str, echo: Echo) -> Agreement:
    from .ontology import CellOntology
    from .tl import annotate

    # A small reference has labels with fewer cells than the usual number of voters.
    annotate(test, reference, k=int(np.clip(len(reference) ** 0.5, 10, 50)))
    predicted = test.obs[_keys.obs_term_id()].astype(object).to_numpy()
    predicted = np.where(
        test.obs[_keys.obs_label()].astype(str) == _keys.UNASSIGNED, _keys.UNASSIGNED, predicted
    ).astype(object)
    published = test.obs[labels_key].astype(object).to_numpy()
    agreement = compare(predicted, published, CellOntology.bundled())
    echo(f"Annotated  {test.n_obs:,} held-out cells; {agreement.unassigned:.1%} unassigned")
    echo(f"           {agreement.exact:.1%} agree exactly with the published label")
    echo(f"           {agreement.on_path:.1%} agree, or name an ancestor of it")
    table = test.obs.groupby(labels_key, observed=True)[_keys.obs_label()]
    for label, given in table:
        counts = given.astype(str).value_counts()
        echo(f"           {len(given):>5} {label!s:<40.40} mostly {counts.index[0]} ({counts.iloc[0]})")
    return agreement


def _query(test: AnnData, reference: Reference, *, labels_key: str, echo: Echo) -> None:
    from . import get
    from .tl import query

    largest = str(test.obs[labels_key].value_counts().index[0])
    k = min(50, len(reference))
    query(test, reference, groupby=labels_key, k=k)
    hits = get.hits(test)
    mine = hits[hits["query"].astype(str) == largest]
    counts = mine["label"].astype(str).value_counts()
    echo(f"Queried    with the centroid of every group: the {len(mine)} reference cells most like {largest!r} are")
    for label, n in counts.head(3).items():
        echo(f"           {n:>5} {label}")


def _write(test: AnnData, reference: Reference, out: Path, *, labels_key: str, seed: int) -> None:
    import anndata
    import scanpy as sc

    vectors = np.vstack([test.obsm[_keys.obsm_embedding()], reference.vectors()])
    both = anndata.AnnData(obsm={_keys.obsm_embedding(): vectors})
    sc.pp.neighbors(both, use_rep=_keys.obsm_embedding(), metric="cosine", random_state=seed)
    sc.tl.umap(both, random_state=seed)
    points = np.asarray(both.obsm["X_umap"])
    test.obsm["X_umap"] = points[: test.n_obs]
    test.write_h5ad(out / "annotated.h5ad", compression="gzip")
    draw(test, points[test.n_obs :], out / "umap.png", labels_key=labels_key)


def draw(test: AnnData, background: np.ndarray, path: Path, *, labels_key: str) -> None:
    """Draw the held-out cells over the reference: published labels, scim's labels, and its confidence.

    Parameters
    ----------
    test
        Annotated cells with ``obsm["X_umap"]``.
    background
        UMAP coordinates of the reference cells (n, 2), drawn in grey.
    path
        File to write, its extension says the format.
    labels_key
        ``obs`` column of the published labels.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    points = np.asarray(test.obsm["X_umap"])
    published = test.obs[labels_key].astype(str).to_numpy()
    predicted = test.obs[_keys.obs_label()].astype(str).to_numpy()
    names = sorted({*published, *predicted})
    palette = colormaps["tab20"]
    colours = {name: palette(i % palette.N) for i, name in enumerate(names)}
    # A Figure of its own, not pyplot: no window, no global state, no backend to choose.
    figure = Figure(figsize=(15, 6.2), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, title, values in zip(axes, ("published label", "scim label"), (published, predicted), strict=False):
        axis.scatter(*background.T, s=4, c="0.88", linewidths=0)
        for name in names:
            mine = values == name
            if mine.any():
                axis.scatter(*points[mine].T, s=14, color=colours[name], label=name, linewidths=0)
        axis.set_title(f"{title} of {test.n_obs:,} held-out cells")
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), fontsize=7, frameon=False)
    axes[2].scatter(*background.T, s=4, c="0.88", linewidths=0)
    confidence = test.obs[_keys.obs_confidence()].to_numpy(dtype=float)
    drawn = axes[2].scatter(*points.T, s=14, c=confidence, vmin=0, vmax=1, cmap="viridis", linewidths=0)
    axes[2].set_title("confidence")
    figure.colorbar(drawn, ax=axes[2], orientation="horizontal", shrink=0.6)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_frame_on(False)
    figure.savefig(path, dpi=150)
