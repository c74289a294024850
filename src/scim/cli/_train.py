"""``scim train``."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import _options as options
from ._files import check_out, read
from ._study_files import check_columns, read_studies

if TYPE_CHECKING:
    from anndata import AnnData


def train(
    files: options.Files,
    labels_key: options.LabelsKey,
    out: Annotated[Path, typer.Option(help="Folder to write the encoder to.")],
    batch_key: options.StudyKey = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Layer with counts or log1p values. Left out: X of one file; of several, the first place that holds "
            "them."
        ),
    ] = None,
    harmonize: options.Harmonize = False,
    max_epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of epochs. Left out: chosen by the number of cells.")
    ] = None,
    triplet_weight: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Weight of the triplet loss against reconstruction. A larger one mixes studies better."
        ),
    ] = None,
    check_labels: Annotated[
        bool,
        typer.Option(
            "--check-labels/--keep-labels",
            help="Ignore labels that contradict the neighbouring cells of the same study, or train on all labels.",
        ),
    ] = True,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu or mps.")] = "auto",
    model_out: Annotated[
        Path | None, typer.Option(help="Folder to write the scvi-tools model to as well, to train it further.")
    ] = None,
    overwrite: options.Overwrite = False,
    seed: options.Seed = 0,
) -> None:
    """Train an encoder on labelled studies."""
    check_out(out, overwrite=overwrite, marker="encoder.json", what="encoder")
    if model_out is not None:
        check_out(model_out, overwrite=overwrite, marker="model.pt", what="model of scvi-tools")
    adata, study = studies(files, labels_key=labels_key, study_key=batch_key, layer=layer)
    if harmonize:
        labels_key = harmonized(adata, labels_key)
    typer.echo(f"Training on {adata.n_obs:,} cells x {adata.n_vars:,} genes.")

    from .. import SCIM

    SCIM.setup_anndata(adata, labels_key=labels_key, batch_key=study, layer=layer if len(files) == 1 else None)
    model = SCIM(adata) if triplet_weight is None else SCIM(adata, triplet_weight=triplet_weight)
    # Standard output is for results, not for messages of the trainer.
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
    """Read the files, merge them if there are several, and return the cells and their obs column of studies."""
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
    """Add a column of terms, with the label of cells that have no term, and return its name."""
    from .. import pp

    name = f"scim_{labels_key}"
    pp.harmonize_labels(adata, labels_key, key_added=name)
    terms = adata.obs[f"{name}_ontology_term_id"].astype(object)
    adata.obs[name] = terms.where(terms.notna(), adata.obs[labels_key].astype(object))
    return name
