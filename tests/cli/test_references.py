"""References listed, installed and checked by the commands, and files described."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import pytest
from typer.testing import Result

from scim._disk import sha256


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
