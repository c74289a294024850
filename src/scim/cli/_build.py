"""``scim build``, ``scim add``, ``scim remove``, ``scim compact`` and ``scim reindex``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from . import _options as options
from ._files import as_stored, check_out, filters
from ._workers import Scheduler, Workers, dask_client

if TYPE_CHECKING:
    from ..labels import LandmarkKind
    from ..reference import Reference


def build(
    data: options.Data,
    encoder: Annotated[Path, typer.Option(help="Folder of the encoder that `scim train` wrote.")],
    labels_key: options.LabelsKey,
    out: Annotated[Path, typer.Option(help="Folder to write the reference to, usually NAME.scim.")],
    study_key: options.StudyKey = None,
    obs_columns: options.ObsColumns = None,
    layer: options.Layer = None,
    gene_column: options.GeneColumn = None,
    harmonize: options.Harmonize = False,
    landmarks: Annotated[
        str,
        typer.Option(
            help="Counts to store, so that data that lack genes can be annotated: cells (counts of real cells), "
            "simulated (for sharing) or none."
        ),
    ] = "cells",
    backend: Annotated[str, typer.Option(help="Kind of index: auto, exact, faiss or pynndescent.")] = "auto",
    recall: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the true nearest neighbours that searches should find.")
    ] = 0.98,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Continue an interrupted build, or start again.")
    ] = True,
    workers: Workers = None,
    scheduler: Scheduler = None,
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
) -> None:
    """Embed labelled cells and store them as a reference.

    The memory needed does not grow with the number of cells. Progress is saved: after an interruption, the same command
    continues the build. The folder appears when the reference is complete.
    """
    check_out(out, overwrite=overwrite, marker="manifest.json", what="reference")
    from .. import Encoder, Reference
    from ._study_files import check_all, expand, harmonized

    loaded = Encoder.load(encoder)
    paths = expand(data)
    check_all(paths, labels_key, study_key, obs_columns)
    with dask_client(scheduler, workers) as client:
        reference = Reference.build(
            out,
            paths,
            loaded,
            labels_key=labels_key,
            study_key=study_key,
            obs_columns=obs_columns,
            layer=layer,
            gene_column=gene_column,
            ontology=harmonized(paths, labels_key) if harmonize else None,
            landmarks=cast("LandmarkKind", landmarks),  # checked by build
            backend=backend,
            recall=recall,
            overwrite=overwrite,
            resume=resume,
            seed=seed,
            client=client,
        )
    typer.echo(f"Reference of {len(reference):,} cells with {len(reference.terms.labels)} labels, in {out}")


def add(
    path: options.Folder,
    data: options.Data,
    labels_key: Annotated[
        str | None, typer.Option(help="Column of obs with the cell types. Left out: the column of the build.")
    ] = None,
    study_key: Annotated[
        str | None, typer.Option(help="Column of obs with the study of each cell. Left out: as in the build.")
    ] = None,
    obs_columns: options.ObsColumns = None,
    layer: options.Layer = None,
    gene_column: options.GeneColumn = None,
    harmonize: options.Harmonize = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Embed more cells and add them to a reference.

    The reference changes in a single step at the end, and an interrupted command changes nothing.
    """
    from ._study_files import check_all, expand, harmonized

    reference = _open(path)
    facts = reference.info()
    key, study = labels_key or str(facts["labels_key"]), study_key or facts["study_key"]
    paths = expand(data)
    check_all(paths, key, study, obs_columns)
    before = len(reference)
    with dask_client(scheduler, workers) as client:
        reference.add(
            paths,
            labels_key=key,
            study_key=study,
            obs_columns=obs_columns,
            layer=layer,
            gene_column=gene_column,
            ontology=harmonized(paths, key) if harmonize else None,
            client=client,
        )
    typer.echo(f"Added {len(reference) - before:,} cells; {path} has {len(reference):,} cells now.")


def remove(path: options.Folder, where: options.Where = None, exclude: options.Exclude = None) -> None:
    """Remove the cells that pass the filters from a reference.

    Searches no longer find these cells. `scim compact` deletes them from the files.
    """
    chosen, barred = filters(where, option="--where"), filters(exclude, option="--exclude")
    if chosen is None and barred is None:
        raise ValueError("No filter says which cells to remove. Give --where COLUMN=VALUE, or --exclude.")
    reference = _open(path)
    n = reference.remove(where=as_stored(chosen, reference), exclude=as_stored(barred, reference))
    typer.echo(f"Removed {n:,} cells; {path} has {len(reference):,} cells now.")


def compact(path: options.Folder) -> None:
    """Rewrite a reference without the removed cells, and build its index again."""
    reference = _open(path)
    before = reference.info()["bytes"]
    reference.compact()
    size = reference.info()["bytes"]
    typer.echo(f"{len(reference):,} cells in {size / 1e6:,.1f} MB (before: {before / 1e6:,.1f} MB), in {path}")


def reindex(path: options.Folder) -> None:
    """Build the index of a reference again, from all its cells."""
    reference = _open(path)
    reference.reindex()
    typer.echo(f"Indexed {len(reference):,} cells ({reference.info()['backend']} search), in {path}")


def _open(path: Path) -> Reference:
    """Open a reference to change it. It must be given by its folder: installed references stay as they are."""
    from .. import Reference
    from ..reference.store import looks_like_name, named_path_or_none

    try:
        return Reference.open(path)
    except FileNotFoundError as error:
        there = named_path_or_none(str(path)) if looks_like_name(str(path)) else None
        if there is None:
            raise
        raise ValueError(
            f"{path} is the name of the installed reference in {there}, which cannot be changed. Change a copy of it: "
            f"cp -r {there} {path}.scim."
        ) from error
