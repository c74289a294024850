"""``scim references``, ``install-reference``, ``push-reference``, ``verify`` and ``info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import _options as options
from ._files import read

#: Values of one list that `scim info` prints.
SHOWN_VALUES = 12


def references(as_json: options.AsJson = False) -> None:
    """List the references that have a name: bundled with scim, or installed."""
    from .. import references as listed

    table = listed()
    if as_json:
        typer.echo(table.to_json(orient="records", indent=2))
    elif table.empty:
        typer.echo("No reference has a name. `scim install-reference` installs one.")
    else:
        typer.echo(table.drop(columns="path").to_string(index=False))


def install_reference(
    source: Annotated[
        str,
        typer.Argument(
            metavar="URL|PATH|hf://USER/NAME@COMMIT",
            help="Archive of a reference (.zip, .tar, .tar.gz), or a repository on the Hugging Face Hub.",
        ),
    ],
    sha256: Annotated[
        str | None,
        typer.Option(
            help="SHA-256 of the archive. An archive with another one is not unpacked. For the Hub: SHA-256 of "
            "manifest.json, not needed with a full commit hash."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the reference. Left out: that of its folder in the archive, or of the repository."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an installed reference of the same name.")
    ] = False,
) -> None:
    """Install a reference, so that commands find it by its name."""
    from .. import install_reference as install

    path = install(source, sha256=sha256, name=name, overwrite=overwrite)
    typer.echo(f"Installed {path.stem} in {path}. Use it with: --reference {path.stem}")


def push_reference(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="PATH|NAME", help="Folder that `scim build` wrote, or a name that `scim references` lists."
        ),
    ],
    repo_id: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository on the Hugging Face Hub.")],
    public: Annotated[
        bool,
        typer.Option("--public", help="Let everybody read the repository, if it is new. Left out: only you."),
    ] = False,
    message: Annotated[str | None, typer.Option(help="Message of the commit.")] = None,
) -> None:
    """Publish a reference on the Hugging Face Hub. Log in first, with `hf auth login`."""
    from .. import push_reference as push

    source = push(reference, repo_id, private=not public, message=message)
    typer.echo(f"Pushed. Others install it with: scim install-reference {source}")


def verify(
    path: Annotated[str, typer.Argument(metavar="PATH|NAME", help="Folder of a reference, or its name.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Check only the size and some blocks of large files, not all of them.")
    ] = False,
) -> None:
    """Check that no file of a reference is damaged or changed."""
    from .. import Reference

    reference = Reference.open(path)
    reference.verify("sample" if quick else "full")
    size = reference.info()["bytes"]
    typer.echo(f"Whole: {len(reference):,} cells in {size / 1e6:,.1f} MB at {reference.path}")


def info(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH|NAME", help="A reference (its folder or name), a folder of an encoder, or an .h5ad file."
        ),
    ],
    as_json: options.AsJson = False,
) -> None:
    """Describe a reference, an encoder or an .h5ad file."""
    facts = describe(path)
    if as_json:
        typer.echo(json.dumps(facts, indent=2, default=str))
        return
    for line in _lines(facts):
        typer.echo(line)


def describe(path: Path) -> dict[str, Any]:
    """Return facts about a reference, an encoder or an .h5ad file."""
    from ..reference.store import looks_like_name, path_of

    if looks_like_name(str(path)) and not path.suffix and not (path / "encoder.json").exists():
        path = path_of(path)
    if not path.is_dir():
        return _describe_h5ad(path)
    if (path / "manifest.json").exists():
        from .. import Reference

        return {"kind": "reference", "path": str(path), **Reference.open(path).info()}
    if (path / "encoder.json").exists():
        return _describe_encoder(path)
    raise ValueError(
        f"{path} is neither a reference (no manifest.json) nor an encoder (no encoder.json). "
        "Make them with `scim build` and `scim train`."
    )


def _describe_encoder(path: Path) -> dict[str, Any]:
    from .. import Encoder

    encoder = Encoder.load(path)
    return {
        "kind": "encoder",
        "path": str(path),
        "id": encoder.id,
        "genes": len(encoder.genes),
        "gene_ids": encoder.genes.id_kind,
        "latent": encoder.n_latent,
        "provenance": dict(encoder.provenance),
    }


def _describe_h5ad(path: Path) -> dict[str, Any]:
    from ..counts import find_counts, place_name

    adata = read(path)
    facts: dict[str, Any] = {"kind": "h5ad", "path": str(path), "cells": adata.n_obs, "genes": adata.n_vars}
    try:
        found = find_counts(adata)
        if adata.raw is not None and not found.use_raw and adata.raw.n_vars > adata.n_vars:
            facts["raw"] = f"{adata.raw.n_vars:,} genes; embedded instead if it has more genes of the encoder"
        facts["expression"] = f"{place_name(found.place)}: {found.kind.kind} ({found.kind.detail})"
    except ValueError as error:
        facts["expression"] = f"unusable: {' '.join(str(error).split())}"
    facts["obs"] = {str(c): f"{adata.obs[c].nunique()} values" for c in adata.obs}
    facts["obsm"] = [str(key) for key in adata.obsm]
    return facts


def _lines(facts: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif isinstance(value, list | tuple | set):
            shown = [str(v) for v in value]
            more = f" and {len(shown) - SHOWN_VALUES} more" if len(shown) > SHOWN_VALUES else ""
            lines.append(f"{indent}{key}: {'; '.join(shown[:SHOWN_VALUES]) or 'none'}{more}")
        else:
            lines.append(f"{indent}{key}: {value:,}" if isinstance(value, int) else f"{indent}{key}: {value}")
    return lines
