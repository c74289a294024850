"""``scim demo``: annotate real cells, compare the labels with published ones, search the reference, and draw."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .. import _keys
from .._validate import check_key, is_unlabeled
from ._files import check_out, read, write_adata

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anndata import AnnData

    from ..ontology import CellOntology
    from ..reference import Reference

#: Hits of the query.
_HITS = 50
#: Labels that are listed, the most frequent first.
_SHOWN_LABELS = 12
#: Smallest number of cells of a label with marker genes, and number of these genes.
_MIN_MARKED_CELLS, _MARKERS = 5, 4
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
        typer.Option(help="Your own .h5ad file with blood cells. Left out: 200 blood cells that come with scim."),
    ] = None,
    labels_key: Annotated[
        str | None, typer.Option(help="Column of obs in --data with cell types to compare with.")
    ] = None,
    hard: Annotated[
        bool, typer.Option("--hard", help="Label a difficult case: 700 blood cells of scanpy with only 765 genes.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("scim-demo"),
) -> None:
    """Annotate real blood cells with the bundled reference of the human body, and report the results.

    Without --data, these are 200 blood cells with counts of all genes, whose published labels are gates of surface
    proteins. The reference was not made from them. No network is needed. The command compares the labels with the
    published ones, lists marker genes of each label, searches the reference for similar cells, and writes an annotated
    .h5ad file and a figure to --out.
    """
    check_out(out / "umap.png" if out.exists() else out, overwrite=True)
    if data is None and labels_key is not None:
        raise ValueError("--labels-key is a column of --data, which is missing. Give --data X.h5ad as well.")
    if data is not None and hard:
        raise ValueError("--hard and --data were both given. Give one of them.")
    from .. import datasets
    from ..reference import Reference

    started = time.monotonic()
    if data is not None:
        adata, name = read(data), data.name
    elif hard:
        adata, name, labels_key = datasets.pbmc68k(), "pbmc68k_reduced of scanpy", "cell_type"
    else:
        adata, name, labels_key = datasets.pbmc10k_protein(), "10x PBMC 10k with proteins, a sample", "cell_type"
    if labels_key is not None:
        check_key(adata.obs, labels_key, argument="labels_key", where="obs")
    typer.echo(f"Data       {name}: {adata.n_obs:,} cells x {adata.n_vars:,} genes")
    reference = Reference.open(None)
    about = reference.info()
    typer.echo(
        f"Reference  {reference.path.stem}, bundled: {about['cells']:,} cells of {len(about['studies'])} studies, "
        "limited to blood"
    )
    _annotate(adata, reference)
    if labels_key is not None:
        _compare(adata, labels_key)
    _query(adata, reference)
    _write(adata, out, labels_key)
    typer.echo(f"Done       in {time.monotonic() - started:.0f} s")


def _annotate(adata: AnnData, reference: Reference) -> None:
    from ..tl import annotate

    started = time.monotonic()
    annotate(adata, reference, tissue="blood")
    labels = adata.obs[_keys.obs_label()].astype(str)
    unassigned = int((labels == _keys.UNASSIGNED).sum())
    typer.echo(
        f"Annotated  in {time.monotonic() - started:.0f} s, {unassigned:,} cells {_keys.UNASSIGNED}. "
        "Labels, mean confidence, and marker genes:"
    )
    confidence, markers = adata.obs[_keys.obs_confidence()].groupby(labels).mean(), marker_genes(adata, labels)
    for label, n in labels.value_counts().head(_SHOWN_LABELS).items():
        typer.echo(
            f"           {n:>6,} {label!s:<{_LABEL_CHARACTERS}} {confidence[label]:.2f}  {markers.get(label, '')}"
        )
    represented = adata.uns[_keys.DEFAULT]["annotate"]["well_represented"]
    typer.echo(f"           {represented:.0%} of the cells are well represented in the reference")


def marker_genes(adata: AnnData, labels: pd.Series) -> dict[str, str]:
    """Find the genes that are most typical of each label with enough cells, joined by ``", "``."""
    import anndata
    import pandas as pd
    import scanpy as sc
    from scipy.sparse import csr_matrix

    from ..counts import find_counts

    sizes = labels.value_counts()
    groups = [label for label in sizes.index if sizes[label] >= _MIN_MARKED_CELLS and label != _keys.UNASSIGNED]
    if len(groups) < 2:
        return {}
    found = find_counts(adata)
    genes = adata.raw.var_names if found.use_raw else adata.var_names
    cells = anndata.AnnData(
        csr_matrix(found.X, dtype="float32"), obs=pd.DataFrame({"label": labels.astype("category")})
    )
    cells.var_names = genes
    if found.kind.kind == "counts":
        sc.pp.normalize_total(cells, target_sum=1e4)
        sc.pp.log1p(cells)
    sc.tl.rank_genes_groups(cells, "label", groups=groups, n_genes=_MARKERS)
    names = cells.uns["rank_genes_groups"]["names"]
    return {label: ", ".join(names[label]) for label in groups}


def _compare(adata: AnnData, labels_key: str) -> None:
    from ..ontology import CellOntology

    given = adata.obs[_keys.obs_label()].astype(str)
    published, terms = adata.obs[labels_key].astype(object), harmonized(adata, labels_key)
    found = compare(given.to_numpy(object), terms.to_numpy(), CellOntology.bundled())
    typer.echo(f"Compared   with obs[{labels_key!r}]: of {found.total():,} cells,")
    for relation, words in _RELATIONS.items():
        typer.echo(f"           {found[relation] / max(found.total(), 1):>6.1%} {words}")
    for label, mine in given[published.notna()].groupby(published[published.notna()].astype(str)):
        counts = mine.value_counts()
        shown = f"{label!s:.{_LABEL_CHARACTERS}}: mostly {counts.index[0]} ({counts.iloc[0]})"
        typer.echo(f"           {len(mine):>6,} {shown}")


def harmonized(adata: AnnData, labels_key: str) -> pd.Series:
    """Find the Cell Ontology terms of published labels such as "B" or "CD4 T"; a label without a term stays."""
    import anndata

    from ..pp import harmonize_labels

    labels = adata.obs[[labels_key]].copy()
    plain = anndata.AnnData(obs=labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # labels without a term are compared as they are
        harmonize_labels(plain, labels_key, key_added="found")
    terms = plain.obs["found_ontology_term_id"].astype(object)
    return terms.where(terms.notna() & (terms.astype(str) != ""), labels[labels_key].astype(object))


def compare(predicted: np.ndarray, published: np.ndarray, ontology: CellOntology) -> Counter[str]:
    """Count the cells with each relation of the predicted to the published term, a key of :data:`_RELATIONS`.

    Both arrays hold ids or names of terms, or other labels. Cells without a published label are left out.
    """
    import pandas as pd

    known = ~is_unlabeled(pd.Series(published, dtype=object)).to_numpy()
    pairs = zip(predicted[known].astype(str), published[known].astype(str), strict=True)
    return Counter(
        _keys.UNASSIGNED if guess == _keys.UNASSIGNED else ontology.relation(guess, truth) for guess, truth in pairs
    )


def _query(adata: AnnData, reference: Reference) -> None:
    from .. import get
    from ..tl import query

    labels = adata.obs[_keys.obs_label()].astype(str)
    named = labels[labels != _keys.UNASSIGNED]
    if named.empty:
        return
    largest = str(named.value_counts().index[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that most hits come from one of few studies
        query(adata, reference, groupby=_keys.obs_label(), k=_HITS, where={"tissue": "blood"})
    mine = get.hits(adata, query=largest)
    typer.echo(f"Queried    with the centroid of each label: the {len(mine)} blood cells nearest to {largest!r} are")
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
    """Draw the UMAP of the cells with the labels of scim, and with published labels, if there are any."""
    from matplotlib.figure import Figure

    from .. import pl

    columns = {"label of scim": None} | ({} if labels_key is None else {"published label": labels_key})
    # A Figure without pyplot opens no window and changes no global state. 1,500 pixels are wide enough for a slide.
    figure = Figure(figsize=(7.5 * len(columns), 7.5), dpi=200 / len(columns), layout="constrained")
    for axis, (title, column) in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns.items(), strict=True):
        pl.labels(adata, column=column, title=title, ax=axis)
    figure.savefig(path)
