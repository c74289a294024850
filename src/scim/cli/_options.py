"""Options that several commands share. This file imports no other room, so that ``scim --help`` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# Data.
Cells = Annotated[Path, typer.Argument(metavar="DATA.h5ad", help="File with the cells.")]
Files = Annotated[
    list[Path], typer.Argument(metavar="DATA.h5ad...", help="One file or several. Of several, each is a study.")
]
Data = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA...",
        help="Files (.h5ad or .zarr), folders of files, or patterns in quotes ('data/*/counts.h5ad'). Files are read "
        "in blocks, one file after the other. Each file is a study, named after the file, unless --study-key names a "
        "column.",
    ),
]
LabelsKey = Annotated[
    str, typer.Option(help="Column of obs with the cell types: names or CL ids. Missing values are allowed.")
]
StudyKey = Annotated[
    str | None,
    typer.Option("--study-key", help="Column of obs with the study of each cell. Left out: each file is a study."),
]
ObsColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--obs-column",
        help="Column of obs to keep as metadata; may be repeated. Left out: donor, sample, assay, tissue, disease and "
        "batch, if the data have them.",
    ),
]
Layer = Annotated[
    str | None,
    typer.Option(help="Where the counts are: a layer, X or raw. Left out: the first of these that holds counts."),
]
GeneColumn = Annotated[
    str | None,
    typer.Option(help="Column of var with the genes. Left out: var_names, or the column with the most known genes."),
]
Organism = Annotated[
    str,
    typer.Option(help="Organism of the cells: human, mouse, or auto (recognised by the genes)."),
]
Harmonize = Annotated[
    bool,
    typer.Option(
        "--harmonize", help="Map labels to terms of the Cell Ontology; labels without a term stay as they are."
    ),
]

# References.
Folder = Annotated[Path, typer.Argument(metavar="NAME.scim", help="Folder of the reference to change.")]
ReferencePath = Annotated[
    str | None,
    typer.Option(
        "--reference",
        help="Folder that `scim build` wrote, or a name that `scim references` lists. Left out: the bundled reference "
        "of blood.",
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN=VALUE",
        help="Only reference cells with this value in their metadata. May be repeated: cells with any of the values of "
        "a column, in all columns. A tissue also means its parts, and a disease its kinds.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE", help="No reference cells with this value in their metadata; may be repeated."),
]
Recall = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Share of the true nearest neighbours that the search should find in a large reference. Left out: the "
        "share that the reference was built for.",
    ),
]

# Results.
UseRep = Annotated[
    str | None,
    typer.Option(
        help="Embedding in obsm. Left out: that of the encoder of the reference (X_KEY_ADDED or X_scim), or the cells "
        "are embedded."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
