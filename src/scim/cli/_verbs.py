"""``scim annotate``, ``scim query``, ``scim verify`` and ``scim info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from .. import _keys
from ._files import H5AD, TABLES, as_stored, caps, filters, output_kind, read, write_adata, write_table
from ._workers import SearchScheduler, dask_client

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from ..labels import Vote
    from ..reference import Reference

Data = Annotated[Path, typer.Argument(metavar="DATA.h5ad", help="The cells to work on.")]
ReferencePath = Annotated[
    str | None,
    typer.Option(
        "--reference", help="Folder that `scim build` wrote, or a name of `scim references`. Left out: bundled blood."
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE", help="Search only reference cells with this metadata; may be repeated."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN=VALUE", help="Leave reference cells with this metadata out; may be repeated."),
]
Layer = Annotated[
    str | None, typer.Option(help="Where the counts are: a layer, X or raw. Left out: the first that holds counts.")
]
Recall = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Share of the true neighbours that hits, or votes, are to be of in a large reference. Left out: what it "
        "was built for.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file at --out.")]


def annotate(
    data: Data,
    out: Annotated[Path, typer.Option(help="Result: .h5ad (all of it), or .parquet, .csv, .csv.gz (what scim adds).")],
    reference: ReferencePath = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Tolerated error; a label gets broader to keep to it. [default: 0.1; 0.3 for ontology votes]"
        ),
    ] = None,
    novelty_fdr: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Cells unlike anything, at this false discovery rate, are unassigned; 0: none for that."
        ),
    ] = 0.05,
    vote: Annotated[
        str,
        typer.Option(
            help="calibrated (sets that hold the label), ontology, majority or weighted (votes of neighbours), or auto."
        ),
    ] = "auto",
    k: Annotated[int, typer.Option(min=1, help="Reference cells that vote, where they do.")] = 50,
    by: Annotated[
        str | None, typer.Option(help="Column of obs with groups, such as leiden, that get a label too.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="Consider only this term (name or id) and those below it; may be repeated."),
    ] = None,
    use_rep: Annotated[
        str | None,
        typer.Option(help="Embedding in obsm to start from. Left out: X_KEY_ADDED, made where it is missing."),
    ] = None,
    where: Where = None,
    exclude: Exclude = None,
    recall: Recall = None,
    layer: Layer = None,
    key_added: Annotated[str, typer.Option(help="Prefix of the columns that are added.")] = _keys.DEFAULT,
    scheduler: SearchScheduler = None,
    overwrite: Overwrite = False,
) -> None:
    """Label every cell from a reference."""
    kind = output_kind(out, overwrite=overwrite)
    adata, opened, passing = _opened(data, reference, where, exclude)

    from .. import get, tl

    with dask_client(scheduler) as client:
        tl.annotate(
            adata,
            opened,
            use_rep=use_rep or _keys.obsm_embedding(key_added),
            alpha=alpha,
            novelty_fdr=novelty_fdr,
            vote=cast("Vote", vote),  # checked by annotate
            k=k,
            by=by,
            labels=label,
            recall=recall,
            layer=layer,
            key_added=key_added,
            client=client,
            **passing,
        )
    if kind == H5AD:
        write_adata(adata, out)
    else:
        added = [column for column in _keys.obs_annotation(key_added) if column in adata.obs]
        write_table(adata.obs[added].rename_axis("cell"), out, kind)

    labels = adata.obs[_keys.obs_label(key_added)].astype(str)
    typer.echo(f"Annotated {adata.n_obs:,} cells, {(labels == _keys.UNASSIGNED).sum():,} of them {_keys.UNASSIGNED}:")
    for name, n in labels.value_counts().head(20).items():
        typer.echo(f"  {n:>8,}  {name}")
    if by is not None:
        typer.echo(f"Groups of {by}:")
        columns = ["group", "cells", "label", "confidence", "agreement", "novel", "runner_up"]
        typer.echo(get.clusters(adata, key_added)[columns].round(2).to_string(index=False))
    typer.echo(f"Written: {out}")


def query(
    data: Data,
    out: Annotated[Path, typer.Option(help="Hits: .parquet, .csv or .csv.gz (one row a hit), or .h5ad (all of it).")],
    reference: ReferencePath = None,
    groupby: Annotated[
        str | None, typer.Option(help="Column of obs: search with the centroid of each group. Left out: every cell.")
    ] = None,
    k: Annotated[int, typer.Option(min=1, help="Hits for each cell or group.")] = 1000,
    max_distance: Annotated[float | None, typer.Option(min=0, max=2, help="Largest cosine distance of a hit.")] = None,
    where: Where = None,
    exclude: Exclude = None,
    max_per_group: Annotated[
        list[str] | None,
        typer.Option(help="Most hits of one group: COLUMN=NUMBER, such as donor=50; may be repeated."),
    ] = None,
    recall: Recall = None,
    summary: Annotated[
        Path | None,
        typer.Option(help="Also write what the hits have in common, by enrichment: .parquet, .csv or .csv.gz."),
    ] = None,
    layer: Layer = None,
    scheduler: SearchScheduler = None,
    overwrite: Overwrite = False,
) -> None:
    """Find the reference cells most like given ones."""
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
            client=client,
            **passing,
        )
    hits = get.hits(adata)
    if kind == H5AD:
        write_adata(adata, out)
    else:
        write_table(hits.set_index(hits.columns[0]), out, kind)
    if summary is not None:
        write_table(get.summary(adata).set_index("query"), summary, summary_kind)
    typer.echo(f"{len(hits):,} hits for {hits.iloc[:, 0].nunique():,} queries among {len(opened):,} reference cells.")
    if groupby is not None and len(hits):
        typer.echo(f"Groups of {groupby}, by the label that most of their hits have:")
        typer.echo(_first_labels(adata).round(3).to_string(index=False))
    typer.echo(f"Written: {out}" + ("" if summary is None else f", {summary}"))


def _first_labels(adata: AnnData) -> pd.DataFrame:
    """Say of each group that was searched with what most of its hits are, and whether its centroid speaks for it."""
    from .. import get

    found = get.summary(adata)
    first = found[found["column"] == "label"].drop_duplicates("query").rename(columns={"value": "label"})
    shown = first[["query", "label", "fraction", "enrichment", "fdr"]]
    return get.coherence(adata)[["query", "coherence"]].merge(shown, on="query", how="left")


def _opened(
    data: Path, reference: str | None, where: list[str] | None, exclude: list[str] | None
) -> tuple[AnnData, Reference, dict[str, Any]]:
    """Read the cells, open the reference, and bring the filters to the values that it holds."""
    chosen, barred = filters(where, option="--where"), filters(exclude, option="--exclude")
    adata = read(data)
    from .. import Reference

    opened = Reference.open(reference)
    return adata, opened, {"where": as_stored(chosen, opened), "exclude": as_stored(barred, opened)}


def references(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the references that have a name: bundled with scim, or installed."""
    from ..reference import references as listed

    table = listed()
    if as_json:
        typer.echo(table.to_json(orient="records", indent=2))
    elif table.empty:
        typer.echo("There are none. `scim install-reference` adds one.")
    else:
        typer.echo(table.drop(columns="path").to_string(index=False))


def install_reference(
    source: Annotated[
        str,
        typer.Argument(
            metavar="URL|PATH|hf://USER/NAME@COMMIT",
            help="Archive of a reference (.zip, .tar, .tar.gz), or a repository of the Hugging Face Hub.",
        ),
    ],
    sha256: Annotated[
        str | None,
        typer.Option(
            help="SHA-256 of the archive: nothing is unpacked from one that differs. From the Hub, that of "
            "manifest.json; not needed with a whole commit hash."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call it. Left out: as its folder in the archive, or the repository.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an installed one of that name.")] = False,
) -> None:
    """Install a reference, so that it can be used by its name."""
    from ..reference import install_reference as install

    path = install(source, sha256=sha256, name=name, overwrite=overwrite)
    typer.echo(f"Installed {path.stem}: --reference {path.stem} uses it. In {path}")


def push_reference(
    reference: Annotated[str, typer.Argument(help="Folder that `scim build` wrote, or a name of `scim references`.")],
    repo_id: Annotated[str, typer.Argument(metavar="USER/NAME", help="Repository of the Hugging Face Hub.")],
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody read a repository that is made now. Left out: only you.")
    ] = False,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
) -> None:
    """Publish a reference on the Hugging Face Hub; log in before, with `hf auth login`."""
    from ..reference import push_reference as push

    source = push(reference, repo_id, private=not public, message=message)
    typer.echo(f"Pushed. Others install it with: scim install-reference {source}")


def verify(
    path: Annotated[str, typer.Argument(metavar="PATH|NAME", help="A reference: its folder, or its name.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Of large files, look at their size and at some blocks, not at all of them.")
    ] = False,
) -> None:
    """Compare every file of a reference with what was written."""
    from .. import Reference

    reference = Reference.open(path)
    reference.verify("sample" if quick else "full")
    size = reference.info()["bytes"]
    typer.echo(f"Whole: {len(reference):,} cells in {size / 1e6:,.1f} MB at {reference.path}")


def info(
    path: Annotated[Path, typer.Argument(help="A reference (folder or name), an encoder folder, or an .h5ad file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a reference, an encoder or an .h5ad file holds."""
    facts = describe(path)
    if as_json:
        typer.echo(json.dumps(facts, indent=2, default=str))
        return
    for line in _lines(facts):
        typer.echo(line)


def describe(path: Path) -> dict[str, Any]:
    """Return what there is to know of a file or folder, as a dict.

    Raises
    ------
    FileNotFoundError
        There is nothing at ``path``.
    ValueError
        It is none of the three kinds.
    """
    from ..reference.store import looks_like_name, path_of

    if looks_like_name(str(path)) and not path.suffix and not (path / "encoder.json").exists():
        path = path_of(path)
    if not path.is_dir():
        return _describe_h5ad(path)
    if (path / "manifest.json").exists():
        from .. import Reference

        return {"kind": "reference", "path": str(path), **Reference.open(path).info()}
    if (path / "encoder.json").exists():
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
    raise ValueError(
        f"{path} is neither a reference (no manifest.json) nor an encoder (no encoder.json). "
        "Make them with `scim build` and `scim train`."
    )


def _describe_h5ad(path: Path) -> dict[str, Any]:
    from ..counts import find_counts, place_name

    adata = read(path)
    facts: dict[str, Any] = {"kind": "h5ad", "path": str(path), "cells": adata.n_obs, "genes": adata.n_vars}
    try:
        place, _, kind, _ = find_counts(adata)
        if adata.raw is not None and place != "raw" and adata.raw.n_vars > adata.n_vars:
            facts["raw"] = f"{adata.raw.n_vars:,} genes, and embedded where more of the encoder's are among them"
        facts["expression"] = f"{place_name(place)}: {kind.kind} ({kind.detail})"
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
            more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
            lines.append(f"{indent}{key}: {'; '.join(shown[:12]) or 'none'}{more}")
        else:
            lines.append(f"{indent}{key}: {value:,}" if isinstance(value, int) else f"{indent}{key}: {value}")
    return lines
