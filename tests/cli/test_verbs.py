"""Cells labelled and searched by the commands, and what they say of files and references."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import Result

import scim


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
        *("--vote", "calibrated", "--novelty-fdr", 0, "--alpha", 0.2),
    )
    assert done.exit_code == 0, done.output
    assert "Groups of cluster:" in done.stdout
    table = pd.read_csv(out, index_col=0, keep_default_na=False)
    adata = anndata.read_h5ad(files / "new.h5ad")
    scim.tl.annotate(adata, reference, by="cluster", vote="calibrated", novelty_fdr=0, alpha=0.2)
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
    assert list(table.columns) == [f"mine_{name}" for name in ("label", "term_id", "confidence", "novelty", "set")]


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
    fails(scim_command(*again, tmp_path / "common.csv"), "--summary", "exists already", "--overwrite")
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
    none = scim_command(*asked, "--out", tmp_path / "no.csv", "--where", "tissue=lungs")
    fails(none, "--where: ")
    fails(scim_command(*asked, "--out", tmp_path / "no.csv", "--where", "tisue=lung"), "--where names the column")
    assert not (tmp_path / "no.csv").exists()


def test_info_of_all_kinds(scim_command: Callable[..., Result], files: Path, encoder: Path, reference: Path) -> None:
    for path, kind in ((encoder, "encoder"), (reference, "reference"), (files / "new.h5ad", "h5ad")):
        done = scim_command("info", path, "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["kind"] == kind
    assert "expression: X: counts" in scim_command("info", files / "new.h5ad").stdout


def test_info_finds_names_as_the_others_do(
    scim_command: Callable[..., Result], fails: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blood").mkdir()  # no reference
    done = scim_command("info", "blood", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["cells"] == 8_708
    fails(scim_command("info", "bloood"), "Did you mean 'blood'")


def test_info_of_a_scaled_file_says_so(
    scim_command: Callable[..., Result], make_study: Callable[..., anndata.AnnData], tmp_path: Path
) -> None:
    adata = make_study(0)
    adata.X = adata.X.toarray() - 5
    adata.write_h5ad(tmp_path / "scaled.h5ad")
    done = scim_command("info", tmp_path / "scaled.h5ad")
    assert done.exit_code == 0
    assert "expression: unusable" in done.stdout


def test_references_have_names(
    scim_command: Callable[..., Result],
    fails: Callable[..., None],
    reference: Path,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import shutil

    from scim._disk._checksums import sha256

    monkeypatch.setenv("SCIM_HOME", str(tmp_path / "home"))
    assert json.loads(scim_command("references", "--json").output)[0]["name"] == "blood"
    assert "cells: 8,708" in scim_command("info", "blood").output
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", reference.parent, reference.name)
    done = scim_command("install-reference", archive, "--sha256", sha256(Path(archive)), "--name", "mine")
    assert done.exit_code == 0 and "Installed mine" in done.output
    assert "mine" in scim_command("references").output
    out = tmp_path / "labels.csv"
    assert scim_command("annotate", files / "new.h5ad", "--reference", "mine", "--out", out).exit_code == 0
    assert out.exists()
    for options in ([], ["--quick"]):
        done = scim_command("verify", "mine", *options)
        assert done.exit_code == 0 and "Whole: " in done.output
    with open(tmp_path / "home" / "mine.scim" / "segments/0001/vectors.i16", "r+b") as file:
        file.write(b"xx")
    fails(scim_command("verify", "mine"), "vectors.i16 was changed")
    fails(scim_command("verify", "yours"), "yours")
    shutil.rmtree(tmp_path / "home" / "mine.scim")
    assert (
        scim_command("install-reference", archive, "--sha256", sha256(Path(archive)), "--name", "mine").exit_code == 0
    )
    again = ("install-reference", archive, "--sha256", sha256(Path(archive)), "--name", "mine")
    fails(scim_command(*again), "exists already", "pass --overwrite")
    assert scim_command(*again, "--overwrite").exit_code == 0
    fails(scim_command("install-reference", archive, "--sha256", "0" * 64), "Nothing was unpacked")
    fails(scim_command("annotate", files / "new.h5ad", "--reference", "mime", "--out", tmp_path / "x.csv"), "'mine'")
