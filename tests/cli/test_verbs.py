"""Cells annotated and searched by the commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from _made import as_mouse
from typer.testing import Result

import scim
from scim import _keys


@pytest.mark.parametrize("end", [".h5ad", ".parquet", ".csv", ".csv.gz"])
def test_annotate_writes_by_extension(
    scim_command: Callable[..., Result], files: Path, reference: Path, tmp_path: Path, end: str
) -> None:
    out = tmp_path / f"labels{end}"
    done = scim_command("annotate", files / "new.h5ad", "--reference", reference, "--out", out)
    assert done.exit_code == 0, done.output
    assert "Annotated 30 cells" in done.stdout
    if end == ".h5ad":
        table = anndata.read_h5ad(out).obs
        assert "cell_type" in table
    elif end == ".parquet":
        table = pd.read_parquet(out)
    else:
        table = pd.read_csv(out, index_col=0)
    assert list(table.index) == [f"c{i}" for i in range(30)]
    assert {"scim_label", "scim_term_id", "scim_confidence", "scim_novelty"} <= set(table.columns)
    assert list(tmp_path.iterdir()) == [out]


def test_annotate_does_what_the_verb_does(
    scim_command: Callable[..., Result], files: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels.h5ad"
    done = scim_command(
        *("annotate", files / "new.h5ad", "--reference", reference, "--out", out, "--k", 10),
        *("--where", "tissue=lung", "--key-added", "mine"),
    )
    assert done.exit_code == 0, done.output
    written = anndata.read_h5ad(out)
    adata = anndata.read_h5ad(files / "new.h5ad")
    scim.tl.annotate(adata, reference, k=10, where={"tissue": ["lung"]})
    assert list(written.obs["mine_label"].astype(str)) == list(adata.obs["scim_label"].astype(str))
    np.testing.assert_allclose(written.obsm["X_mine"], adata.obsm["X_scim"], atol=1e-6)


def test_annotate_labels_groups(
    scim_command: Callable[..., Result], files: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels.csv"
    done = scim_command(
        *("annotate", files / "new.h5ad", "--reference", reference, "--out", out, "--by", "cluster"),
        *("--vote", "calibrated", "--max-novelty", 1, "--alpha", 0.2),
    )
    assert done.exit_code == 0, done.output
    assert "Groups of cluster:" in done.stdout
    table = pd.read_csv(out, index_col=0, keep_default_na=False)
    adata = anndata.read_h5ad(files / "new.h5ad")
    scim.tl.annotate(adata, reference, by="cluster", vote="calibrated", max_novelty=1, alpha=0.2)
    for column in ("scim_label", "scim_cluster_label", "scim_cluster_term_id"):
        assert list(table[column]) == list(adata.obs[column].astype(str))
    for row in scim.get.clusters(adata).itertuples():
        assert any(line.split()[0] == row.group and row.label in line for line in done.stdout.splitlines()[-4:-1])


def test_annotate_votes_and_labels_are_passed_on(
    scim_command: Callable[..., Result], files: Path, reference: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels.h5ad"
    done = scim_command(
        *("annotate", files / "new.h5ad", "--reference", reference, "--out", out, "--vote", "majority"),
        *("--label", "B cell", "--label", "T cell", "--k", 7, "--recall", 0.9),
    )
    assert done.exit_code == 0, done.output
    written = anndata.read_h5ad(out)
    assert set(written.obs["scim_label"].astype(str)) <= {"B cell", "T cell"}
    params = written.uns["scim"]["annotate"]["params"]
    assert params["vote"] == "majority" and params["k"] == 7 and list(params["labels"]) == ["B cell", "T cell"]
    assert params["recall"] == 0.9
    again = tmp_path / "again.csv"
    base = ("annotate", out, "--reference", reference, "--out", again, "--key-added", "mine")
    assert scim_command(*base, "--use-rep", "X_scim").exit_code == 0
    table = pd.read_csv(again, index_col=0)
    assert list(table.columns) == list(_keys.obs_labelling("mine"))


def test_annotate_says_which_tissue_the_labels_look_like(
    scim_command: Callable[..., Result],
    make_study: Callable[..., anndata.AnnData],
    files: Path,
    reference: Path,
    encoder: Path,
    tmp_path: Path,
) -> None:
    def study(seed: int, tissue: str, without: str, n: int = 120) -> anndata.AnnData:
        cells = make_study(seed, n=n, tissue=tissue)
        return cells[(cells.obs["cell_type"] != without).to_numpy()].copy()

    known = {"one": study(0, "bone marrow", "monocyte"), "two": study(1, "lung", "T cell")}
    known |= {"three": study(2, "red bone marrow", "monocyte"), "four": study(3, "lung", "T cell")}
    path = tmp_path / "two.scim"
    scim.Reference.build(path, known, scim.Encoder.load(encoder), labels_key="cell_type", obs_columns=["tissue"])
    study(4, "unknown", "monocyte", n=330).write_h5ad(tmp_path / "marrow.h5ad")
    done = scim_command("annotate", tmp_path / "marrow.h5ad", "--reference", path, "--out", tmp_path / "one.csv")
    assert done.exit_code == 0, done.output
    assert "The labels look like those of bone marrow (" in done.stdout
    assert "). --tissue 'bone marrow' uses only its cells." in done.stdout
    # Few cells get no guess, and neither do cells whose tissue was given.
    done = scim_command("annotate", files / "new.h5ad", "--reference", reference, "--out", tmp_path / "two.csv")
    assert done.exit_code == 0 and "look like" not in done.stdout
    given = ("annotate", tmp_path / "marrow.h5ad", "--reference", path, "--tissue", "marrow")
    done = scim_command(*given, "--out", tmp_path / "three.csv")
    assert done.exit_code == 0 and "look like" not in done.stdout, done.output


@pytest.mark.parametrize("end", [".h5ad", ".parquet", ".csv"])
def test_query_writes_by_extension(
    scim_command: Callable[..., Result], files: Path, reference: Path, tmp_path: Path, end: str
) -> None:
    out = tmp_path / f"hits{end}"
    done = scim_command(
        *("query", files / "new.h5ad", "--reference", reference, "--out", out, "--groupby", "cluster"),
        *("--k", 7, "--recall", 0.9),
    )
    assert done.exit_code == 0, done.output
    assert "21 hits for 3 queries among 120 reference cells" in done.stdout
    if end == ".h5ad":
        hits = scim.get.hits(anndata.read_h5ad(out))
    else:
        hits = (pd.read_parquet(out) if end == ".parquet" else pd.read_csv(out, index_col=0)).reset_index()
    assert hits["query"].astype(str).value_counts().to_dict() == {"0": 7, "1": 7, "2": 7}
    assert "distance" in hits


def test_query_says_what_the_hits_have_in_common(
    scim_command: Callable[..., Result], fails: Callable[..., None], files: Path, reference: Path, tmp_path: Path
) -> None:
    asked = ("query", files / "new.h5ad", "--reference", reference, "--k", 20, "--out", tmp_path / "hits.csv")
    done = scim_command(*asked, "--groupby", "cluster", "--summary", tmp_path / "common.csv")
    assert done.exit_code == 0, done.output
    assert "coherence" in done.stdout and "B cell" in done.stdout
    table = pd.read_csv(tmp_path / "common.csv")
    assert set(table["query"]) == {0, 1, 2} and table.loc[table["column"] == "label", "n_cells"].sum() == 60
    again = (*asked[:-1], tmp_path / "no.csv", "--summary")
    fails(scim_command(*again, tmp_path / "common.csv"), "common.csv exists already", "--overwrite")
    fails(scim_command(*again, tmp_path / "common.h5ad"), "--summary", "must end in one of .parquet, .csv, .csv.gz")
    assert not (tmp_path / "no.csv").exists()


def test_query_takes_so_many_of_a_group(
    scim_command: Callable[..., Result], fails: Callable[..., None], files: Path, reference: Path, tmp_path: Path
) -> None:
    asked = ("query", files / "new.h5ad", "--reference", reference, "--groupby", "cluster", "--k", 20)
    done = scim_command(*asked, "--out", tmp_path / "hits.csv", "--max-per-group", "study=3")
    assert done.exit_code == 0, done.output
    hits = pd.read_csv(tmp_path / "hits.csv")
    assert hits.groupby(["query", "study"]).size().max() == 3
    wrong = scim_command(*asked, "--out", tmp_path / "no.csv", "--max-per-group", "studdy=3")
    fails(wrong, "--max-per-group='studdy'", "Did you mean 'study'")
    none = scim_command(*asked, "--out", tmp_path / "no.csv", "--where", "tissue=lugn")
    fails(none, "--where: ")
    fails(scim_command(*asked, "--out", tmp_path / "no.csv", "--where", "tisue=lung"), "--where names the column")
    assert not (tmp_path / "no.csv").exists()


def test_organism_of_the_cells(
    scim_command: Callable[..., Result], fails: Callable[..., None], files: Path, reference: Path, tmp_path: Path
) -> None:
    as_mouse(anndata.read_h5ad(files / "new.h5ad")).write_h5ad(tmp_path / "mouse.h5ad")
    for command in ("annotate", "query"):
        out = tmp_path / f"{command}.h5ad"
        given = (command, tmp_path / "mouse.h5ad", "--reference", reference, "--out", out)
        assert scim_command(*given).exit_code == 0
        assert anndata.read_h5ad(out).uns["scim"]["embed"]["genes"]["organism"] == "mouse"
        fails(scim_command(*given, "--overwrite", "--organism", "human"), "not human", "--organism")
