"""``scim build``, ``scim add``, ``scim remove``, ``scim compact`` and ``scim reindex``."""

from __future__ import annotations

import glob
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from .. import _keys
from .._validate import did_you_mean
from .._warn import warn
from ._files import as_stored, check_columns, filters
from ._train import Harmonize, LabelsKey, Overwrite, Seed, StudyKey
from ._verbs import Exclude, Where
from ._workers import Scheduler, Workers, dask_client

if TYPE_CHECKING:
    from ..labels import LandmarkKind
    from ..ontology import CellOntology
    from ..reference import Reference

Data = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help="Files (.h5ad or .zarr), folders of them, or patterns in quotes ('data/*/counts.h5ad'). They are read in "
        "blocks, one after the other, and each is a study of its name unless --study-key says more.",
    ),
]
ObsColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--obs-column",
        help="Column of obs to keep as metadata; may be repeated. Left out: donor, sample, assay, tissue, disease and "
        "batch, where they are there.",
    ),
]
Layer = Annotated[
    str | None, typer.Option(help="Where the counts are: a layer, X or raw. Left out: the first that holds counts.")
]
GeneColumn = Annotated[str | None, typer.Option(help="Column of var with the genes. Left out: found by itself.")]
Folder = Annotated[Path, typer.Argument(metavar="NAME.scim", help="Folder of the reference, which is changed.")]


def build(
    data: Data,
    encoder: Annotated[Path, typer.Option(help="Folder of the encoder that `scim train` wrote.")],
    labels_key: LabelsKey,
    out: Annotated[Path, typer.Option(help="Folder for the reference, NAME.scim by custom.")],
    study_key: StudyKey = None,
    obs_columns: ObsColumns = None,
    layer: Layer = None,
    gene_column: GeneColumn = None,
    harmonize: Harmonize = False,
    landmarks: Annotated[
        str, typer.Option(help="Counts to keep, for queries that lack genes: cells, simulated (to share) or none.")
    ] = "cells",
    backend: Annotated[str, typer.Option(help="How it is searched: auto, exact, faiss or pynndescent.")] = "auto",
    recall: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the true neighbours that a search is to find.")
    ] = 0.98,
    resume: Annotated[
        bool, typer.Option("--resume/--fresh", help="Go on with a build that was interrupted, or begin afresh.")
    ] = True,
    workers: Workers = None,
    scheduler: Scheduler = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
) -> None:
    """Store embedded, labelled cells as a reference.

    Memory does not grow with the cells, and what is done is noted: if it is interrupted or killed, the same command
    goes on from there. The folder appears when it is whole.
    """
    from ._files import check_target

    check_target(out, overwrite=overwrite)
    from .. import Encoder, Reference

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
    path: Folder,
    data: Data,
    labels_key: Annotated[
        str | None, typer.Option(help="Column of obs with the cell types. Left out: as when it was built.")
    ] = None,
    study_key: StudyKey = None,
    obs_columns: ObsColumns = None,
    layer: Layer = None,
    gene_column: GeneColumn = None,
    harmonize: Harmonize = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> None:
    """Embed more cells and append them to a reference.

    They are found at once. The reference changes in a single step at the end; what is interrupted changes nothing.
    """
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
    typer.echo(f"Added {len(reference) - before:,} cells; {len(reference):,} are in {path}")


def remove(path: Folder, where: Where = None, exclude: Exclude = None) -> None:
    """Remove the cells that pass filters from a reference.

    No search finds them from now on; `scim compact` takes them out of the files.
    """
    chosen, barred = filters(where, option="--where"), filters(exclude, option="--exclude")
    if chosen is None and barred is None:
        raise ValueError("Nothing says which cells to remove. Give --where COLUMN=VALUE, or --exclude.")
    reference = _open(path)
    n = reference.remove(where=as_stored(chosen, reference), exclude=as_stored(barred, reference))
    typer.echo(f"Removed {n:,} cells; {len(reference):,} are left in {path}")


def compact(path: Folder) -> None:
    """Rewrite a reference without the cells that were removed, as one segment, and index it anew."""
    reference = _open(path)
    before = reference.info()["bytes"]
    reference.compact()
    size = reference.info()["bytes"]
    typer.echo(f"{len(reference):,} cells in {size / 1e6:,.1f} MB (before: {before / 1e6:,.1f} MB), in {path}")


def reindex(path: Folder) -> None:
    """Build the index of a reference anew, of all its cells."""
    reference = _open(path)
    reference.reindex()
    typer.echo(f"Indexed {len(reference):,} cells ({reference.info()['backend']} search), in {path}")


def _open(path: Path) -> Reference:
    """Open what is to be changed: a folder, for what has a name was installed as somebody else made it.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such folder, or it is the name of a reference.
    """
    from .. import Reference
    from ..reference.store import looks_like_name, named_path_or_none

    try:
        return Reference.open(path)
    except FileNotFoundError as error:
        there = named_path_or_none(str(path)) if looks_like_name(str(path)) else None
        if there is None:
            raise
        raise ValueError(
            f"{path} is the name of the reference in {there}, which is kept as it was installed. Change a copy of it: "
            f"cp -r {there} {path}.scim."
        ) from error


def expand(data: Sequence[str]) -> dict[str, Path]:
    """Names of studies and their files, of files, folders of files, and patterns.

    Files of one name are called by their folder too, ``folder/name``.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file, a pattern fits none, or two have the same name in folders of the same name.
    """
    from ..reference.build import ZARR, files_in, is_store

    paths: list[Path] = []
    for text in data:
        path = Path(text).expanduser()
        if path.is_dir() and path.suffix != ZARR and not is_store(path):
            found = files_in(path)
        elif path.exists():
            found = [path]
        elif glob.has_magic(text):
            found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
            if not found:
                raise FileNotFoundError(f"No file fits the pattern {text}. Try it with ls.")
        else:
            there = sorted(p.name for p in path.parent.glob(f"*{path.suffix}")) if path.parent.is_dir() else []
            raise FileNotFoundError(f"There is no file {path}. {did_you_mean(path.name, there)}")
        paths += found
    paths = list(dict.fromkeys(path.absolute() for path in paths))
    often = Counter(path.stem for path in paths)
    names = [path.stem if often[path.stem] == 1 else f"{path.parent.name}/{path.stem}" for path in paths]
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise ValueError(
            f"Two files are named {twice[0]}, and studies are named after their files. Rename one, or its folder."
        )
    return dict(zip(names, paths, strict=True))


def check_all(
    paths: Mapping[str, Path], labels_key: str, study_key: str | None, obs_columns: Sequence[str] | None
) -> None:
    """Look for the columns in all files before any is embedded, which can take hours.

    Raises
    ------
    KeyError, ValueError
        A file lacks one, or cannot be read.
    """
    from ..reference.build import columns_of

    for path in paths.values():
        check_columns(columns_of(path), path, labels_key, study_key, obs_columns)


def harmonized(paths: Mapping[str, Path], labels_key: str) -> CellOntology:
    """Look the labels of all files up, and return an ontology that knows them."""
    import pandas as pd
    from anndata import AnnData

    from .. import CellOntology, pp
    from ..reference.build import list_parts

    seen: dict[str, None] = {}
    for part in list_parts(paths, frozenset()):
        with part.open() as adata:
            seen |= dict.fromkeys(adata.obs[labels_key].dropna().astype(str).unique())
    rows = list(seen)
    labels = AnnData(obs=pd.DataFrame({labels_key: rows}, index=[str(i) for i in range(len(rows))]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of as many cells as there are labels here
        pp.harmonize_labels(labels, labels_key)
    report = labels.uns[_keys.PREPROCESSING]["harmonize"]
    if len(unmapped := report.loc[report["method"] == "unmapped", "label"]):
        shown = ", ".join(map(repr, unmapped))
        warn(
            f"{len(unmapped)} of {len(report)} labels have no term of the Cell Ontology and stay as they are: {shown}."
        )
    found = report[report["term_id"] != ""]
    return CellOntology.bundled().with_synonyms(dict(zip(found["label"], found["term_id"], strict=True)))
