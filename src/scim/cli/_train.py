"""``scim demo`` and ``scim train``."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from anndata import AnnData

Files = Annotated[
    list[Path], typer.Argument(metavar="DATA.h5ad...", help="One file, or several: then each is a study of its own.")
]
LabelsKey = Annotated[str, typer.Option(help="Column of obs with the cell types: names or CL ids, missing allowed.")]
StudyKey = Annotated[
    str | None,
    typer.Option(help="Column of obs that tells studies apart. Left out: all one, or with several files one a file."),
]
Layer = Annotated[
    str | None,
    typer.Option(help="Layer with counts or log1p values. Left out: X, or what holds them in several files."),
]
Harmonize = Annotated[
    bool,
    typer.Option("--harmonize", help="Find Cell Ontology terms for the labels; those without one stay as they are."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is at --out.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random choice.")]


def demo(
    data: Annotated[
        Path | None, typer.Option(help="Your own .h5ad, of blood. Left out: blood cells that ship in scanpy.")
    ] = None,
    labels_key: Annotated[
        str | None, typer.Option(help="With --data: column of obs with cell types to compare with.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("scim-demo"),
) -> None:
    """Label real cells with the bundled reference of blood, and report how it went.

    Without --data these are the blood cells that ship inside scanpy: 700 cells of one donor with 765 genes, a hard case
    that needs no network. It prints how the labels compare with the published ones, searches the reference for
    similar cells, and writes an annotated .h5ad and a figure into --out.
    """
    from ._demo import run_demo
    from ._files import check_target, read

    if out.exists() and not out.is_dir():
        raise FileExistsError(f"--out {out} is a file. Name a folder.")
    check_target(out / "umap.png" if out.is_dir() else out, overwrite=True)
    if data is None and labels_key is not None:
        raise ValueError("--labels-key describes --data, which is missing. Give --data X.h5ad as well.")
    adata, name = (None, None) if data is None else (read(data), data.name)
    run_demo(out, adata=adata, name=name, labels_key=labels_key, echo=typer.echo)


def train(
    files: Files,
    labels_key: LabelsKey,
    out: Annotated[Path, typer.Option(help="Folder for the encoder.")],
    study_key: StudyKey = None,
    layer: Layer = None,
    harmonize: Harmonize = False,
    max_epochs: Annotated[int | None, typer.Option(min=1, help="Left out: chosen from the size of the data.")] = None,
    triplet_weight: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Weight of triplets against reconstruction: more mixes studies better."),
    ] = None,
    check_labels: Annotated[
        bool,
        typer.Option(
            "--check-labels/--keep-labels",
            help="Leave out labels that contradict the cells around them in their own study, or train on all.",
        ),
    ] = True,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu or mps.")] = "auto",
    model_out: Annotated[
        Path | None, typer.Option(help="Also save the scvi-tools model, to go on training it, in this folder.")
    ] = None,
    overwrite: Overwrite = False,
    seed: Seed = 0,
) -> None:
    """Train an encoder from labelled studies."""
    from ._files import check_target

    check_target(out, overwrite=overwrite)
    if model_out is not None:
        check_target(model_out, overwrite=overwrite, option="--model-out")
    adata, study = studies(files, labels_key=labels_key, study_key=study_key, layer=layer)
    if harmonize:
        labels_key = harmonized(adata, labels_key)
    typer.echo(f"Training on {adata.n_obs:,} cells x {adata.n_vars:,} genes.")

    from .. import SCIM

    SCIM.setup_anndata(adata, labels_key=labels_key, batch_key=study, layer=layer if len(files) == 1 else None)
    model = SCIM(adata) if triplet_weight is None else SCIM(adata, triplet_weight=triplet_weight)
    # What trainers print is no result.
    with redirect_stdout(sys.stderr):
        model.train(
            max_epochs,
            accelerator=accelerator,
            check_labels=check_labels,
            seed=seed,
            enable_progress_bar=sys.stderr.isatty(),
        )
    encoder = model.to_encoder()
    encoder.save(out, overwrite=overwrite)
    if model_out is not None:
        model.save(str(model_out), overwrite=overwrite)
    typer.echo(f"Encoder {encoder.id}: {len(encoder.genes):,} genes -> {encoder.n_latent} numbers, in {out}")


def studies(
    files: list[Path], *, labels_key: str, study_key: str | None, layer: str | None
) -> tuple[AnnData, str | None]:
    """Read the files, merged into one object if there are several, and say which obs column tells studies apart."""
    from ._files import check_columns, read, read_studies

    if len(files) == 1:
        adata = read(files[0])
        check_columns(adata.obs, files[0], labels_key, study_key)
        return adata, study_key
    from .. import pp

    parts = read_studies(files)
    for name, part in parts.items():
        check_columns(part.obs, f"{name}.h5ad", labels_key, study_key)
    merged = pp.merge_studies(parts, study_key="file", labels_key=labels_key, layer=layer)
    return merged, study_key or "file"


def harmonized(adata: AnnData, labels_key: str) -> str:
    """Add a column of terms, or of the labels that have none, and return its name."""
    from .. import pp

    name = f"scim_{labels_key}"
    pp.harmonize_labels(adata, labels_key, key_added=name)
    terms = adata.obs[f"{name}_ontology_term_id"].astype(object)
    adata.obs[name] = terms.where(terms.notna(), adata.obs[labels_key].astype(object))
    return name
