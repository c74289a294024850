"""``scim annotate`` and ``scim query``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from .. import _keys
from . import _options as options
from ._files import H5AD, TABLES, as_stored, caps, filters, output_kind, read, write_adata, write_table
from ._workers import SearchScheduler, dask_client

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ..genes import OrganismChoice
    from ..labels import Vote
    from ..reference import Reference

#: Labels that `scim annotate` prints, the most frequent first.
SHOWN_LABELS = 20


def annotate(
    data: options.Cells,
    out: Annotated[
        Path,
        typer.Option(help="File to write: .h5ad (the data with labels), or .parquet, .csv or .csv.gz (the labels)."),
    ],
    reference: options.ReferencePath = None,
    min_probability: Annotated[
        float,
        typer.Option(
            min=0.5,
            max=1,
            help="Smallest probability of a label. With more, fewer labels are wrong, and more are broad.",
        ),
    ] = 0.5,
    alpha: Annotated[float, typer.Option(help="Tolerated error of the prediction sets.")] = 0.1,
    max_novelty: Annotated[
        float,
        typer.Option(min=0, max=1, help="Leave cells with more novelty unassigned. 1: label all cells."),
    ] = 0.75,
    vote: Annotated[
        str,
        typer.Option(
            help="How labels are chosen: calibrated (a head), ontology, majority or weighted (votes of "
            "neighbours), or auto."
        ),
    ] = "auto",
    k: Annotated[int, typer.Option(min=1, help="Number of nearest reference cells that vote.")] = 50,
    by: Annotated[str | None, typer.Option(help="Column of obs with groups, such as leiden, to label as well.")] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option("--label", help="Use only this term (name or id) and its descendants; may be repeated."),
    ] = None,
    tissue: Annotated[
        list[str] | None,
        typer.Option(
            help="Tissue of the cells (name, synonym or UBERON id); may be repeated. Only reference cells of this "
            "tissue or a part of it are used."
        ),
    ] = None,
    consensus: Annotated[
        int, typer.Option(min=0, help="Number of nearest cells of the data to average probabilities with.")
    ] = 0,
    use_rep: options.UseRep = None,
    where: options.Where = None,
    exclude: options.Exclude = None,
    recall: options.Recall = None,
    layer: options.Layer = None,
    organism: options.Organism = "auto",
    key_added: Annotated[str, typer.Option(help="Prefix of the new columns of obs.")] = _keys.DEFAULT,
    scheduler: SearchScheduler = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Label each cell with its type, from a reference."""
    kind = output_kind(out, overwrite=overwrite)
    adata, opened, passing = _opened(data, reference, where, exclude)

    from .. import tl

    with dask_client(scheduler) as client:
        tl.annotate(
            adata,
            opened,
            use_rep=use_rep,
            min_probability=min_probability,
            alpha=alpha,
            max_novelty=max_novelty,
            vote=cast("Vote", vote),  # checked by annotate
            k=k,
            by=by,
            labels=labels,
            tissue=tissue,
            consensus=consensus,
            recall=recall,
            layer=layer,
            organism=cast("OrganismChoice", organism),  # checked by the verb
            key_added=key_added,
            client=client,
            **passing,
        )
    if kind == H5AD:
        write_adata(adata, out)
    else:
        added = [column for column in _keys.obs_annotation(key_added) if column in adata.obs]
        write_table(adata.obs[added].rename_axis("cell"), out, kind)
    _report_labels(adata, key_added, by=by)
    typer.echo(f"Written: {out}")


def _report_labels(adata: AnnData, key: str, *, by: str | None) -> None:
    """Print the number of cells of the most frequent labels, and the labels of the groups."""
    from .. import get

    labels = adata.obs[_keys.obs_label(key)].astype(str)
    typer.echo(f"Annotated {adata.n_obs:,} cells, {(labels == _keys.UNASSIGNED).sum():,} of them {_keys.UNASSIGNED}:")
    for name, n in labels.value_counts().head(SHOWN_LABELS).items():
        typer.echo(f"  {n:>8,}  {name}")
    if (share := adata.uns[key]["annotate"].get("well_represented")) is not None:
        typer.echo(f"Well represented in the reference: {share:.0%} of the cells")
    if tissue := adata.uns[key]["annotate"].get("tissue_guess"):
        share = adata.uns[key]["annotate"]["tissue_guess_share"]
        typer.echo(
            f"The labels look like those of {tissue} ({share:.0%}). --tissue {shlex.quote(tissue)} uses only its cells."
        )
    if by is not None:
        typer.echo(f"Groups of {by}:")
        columns = ["group", "cells", "label", "confidence", "agreement", "novel", "runner_up"]
        typer.echo(get.clusters(adata, key)[columns].round(2).to_string(index=False))


def query(
    data: options.Cells,
    out: Annotated[
        Path,
        typer.Option(help="File to write: .parquet, .csv or .csv.gz (one row per hit), or .h5ad (the data with hits)."),
    ],
    reference: options.ReferencePath = None,
    groupby: Annotated[
        str | None,
        typer.Option(
            help="Column of obs with groups: search with the centroid of each group. Left out: search with each cell."
        ),
    ] = None,
    k: Annotated[int, typer.Option(min=1, help="Number of hits for each cell or group.")] = 1000,
    max_distance: Annotated[float | None, typer.Option(min=0, max=2, help="Largest cosine distance of a hit.")] = None,
    where: options.Where = None,
    exclude: options.Exclude = None,
    max_per_group: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=NUMBER", help="Maximum of hits from one group, such as donor=50; may be repeated."
        ),
    ] = None,
    recall: options.Recall = None,
    summary: Annotated[
        Path | None,
        typer.Option(help="File for the metadata enriched among the hits: .parquet, .csv or .csv.gz."),
    ] = None,
    layer: options.Layer = None,
    organism: options.Organism = "auto",
    use_rep: options.UseRep = None,
    key_added: Annotated[str, typer.Option(help="Name of the result in uns.")] = _keys.QUERY,
    scheduler: SearchScheduler = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Find the reference cells that are most similar to given cells or groups."""
    kind, most = output_kind(out, overwrite=overwrite), caps(max_per_group, option="--max-per-group")
    if summary is not None:
        summary_kind = output_kind(summary, overwrite=overwrite, option="--summary", kinds=TABLES)
    adata, opened, passing = _opened(data, reference, where, exclude)

    from .. import get, tl

    with dask_client(scheduler) as client:
        tl.query(
            adata,
            opened,
            groupby=groupby,
            k=k,
            max_distance=max_distance,
            max_per_group=most,
            recall=recall,
            layer=layer,
            organism=cast("OrganismChoice", organism),  # checked by the verb
            use_rep=use_rep,
            key_added=key_added,
            client=client,
            **passing,
        )
    hits = get.hits(adata, key_added)
    if kind == H5AD:
        write_adata(adata, out)
    else:
        write_table(hits.set_index(hits.columns[0]), out, kind)
    if summary is not None:
        write_table(get.summary(adata, key_added).set_index("query"), summary, summary_kind)
    typer.echo(f"{len(hits):,} hits for {hits.iloc[:, 0].nunique():,} queries among {len(opened):,} reference cells.")
    if groupby is not None and len(hits):
        typer.echo(f"Groups of {groupby}, with the most frequent label of their hits:")
        typer.echo(_first_labels(adata, key_added).round(3).to_string(index=False))
    typer.echo(f"Written: {out}" + ("" if summary is None else f", {summary}"))


def _first_labels(adata: AnnData, key: str) -> pd.DataFrame:
    """Return the most frequent label of the hits of each group, and the coherence of the group."""
    from .. import get

    found = get.summary(adata, key)
    first = found[found["column"] == "label"].drop_duplicates("query").rename(columns={"value": "label"})
    shown = first[["query", "label", "fraction", "enrichment", "fdr"]]
    return get.coherence(adata, key)[["query", "coherence"]].merge(shown, on="query", how="left")


def _opened(
    data: Path, reference: str | None, where: list[str] | None, exclude: list[str] | None
) -> tuple[AnnData, Reference, dict[str, Any]]:
    """Read the cells, open the reference, and convert the filters to the types of its columns."""
    chosen, barred = filters(where, option="--where"), filters(exclude, option="--exclude")
    adata = read(data)
    from .. import Reference

    opened = Reference.open(reference)
    return adata, opened, {"where": as_stored(chosen, opened), "exclude": as_stored(barred, opened)}
