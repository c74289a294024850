"""Files that the commands read and write, and the filters that they are given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import Result

import scim
from scim._disk import replace_file
from scim.cli import _files


def test_existing_output_is_kept_unless_asked(
    scim_command: Callable[..., Result],
    fails: Callable[..., None],
    files: Path,
    encoder: Path,
    reference: Path,
    tmp_path: Path,
) -> None:
    out = tmp_path / "labels.csv"
    out.write_text("mine")
    annotate = ("annotate", files / "new.h5ad", "--reference", reference, "--out", out)
    fails(scim_command(*annotate), "exists already", "--overwrite")
    assert out.read_text() == "mine"
    assert scim_command(*annotate, "--overwrite").exit_code == 0
    assert out.read_text() != "mine"
    fails(scim_command("train", files / "one.h5ad", "--labels-key", "cell_type", "--out", encoder), "exists already")


def test_files_of_other_kinds_are_told_how_to_become_h5ad(
    scim_command: Callable[..., Result], fails: Callable[..., None], tmp_path: Path
) -> None:
    for name, text in (
        ("x.h5", 'scanpy.read_10x_h5("'),
        ("matrix.mtx", f'scanpy.read_10x_mtx("{tmp_path}").write_h5ad("matrix.h5ad")'),
        ("x.tsv", 'scanpy.read("'),
    ):
        (tmp_path / name).write_text("")
        fails(scim_command("annotate", tmp_path / name, "--out", tmp_path / "o.csv"), "not an .h5ad file", text)


def test_broken_file_is_named(scim_command: Callable[..., Result], fails: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "broken.h5ad").write_bytes(b"no hdf5")
    fails(scim_command("info", tmp_path / "broken.h5ad"), "broken.h5ad", "cannot be read")
    (tmp_path / "table.txt").write_text("x")
    fails(scim_command("info", tmp_path / "table.txt"), "not an .h5ad file")


def test_a_folder_is_not_overwritten_by_a_file_or_by_another_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for marker in (None, "encoder.json"):
        with pytest.raises(FileExistsError, match="not overwritten"):
            _files.check_out(tmp_path / "mine", overwrite=True, marker=marker)
    (tmp_path / "mine" / "encoder.json").write_text("{}")
    _files.check_out(tmp_path / "mine", overwrite=True, marker="encoder.json")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        _files.check_out(tmp_path / "no" / "labels.csv", overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_write_leaves_nothing_half_written(tmp_path: Path) -> None:
    target = tmp_path / "x.csv"
    target.write_text("old")

    def fail(partial: Path) -> None:
        partial.write_text("ne")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        replace_file(target, fail)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_filters() -> None:
    assert _files.filters(None, option="--where") is None
    assert _files.filters(["a=1", "b=x=y", "a=2"], option="--where") == {"a": ["1", "2"], "b": ["x=y"]}
    with pytest.raises(ValueError, match="--exclude 'a=' must look like"):
        _files.filters(["a="], option="--exclude")


def test_caps() -> None:
    assert _files.caps(None, option="--max-per-group") is None
    assert _files.caps(["donor=50", "a=b=2"], option="--max-per-group") == {"donor": 50, "a=b": 2}
    for wrong in ("donor", "=5", "donor=", "donor=few", "donor=-1"):
        with pytest.raises(ValueError, match=f"--max-per-group '{wrong}' must look like COLUMN=NUMBER"):
            _files.caps([wrong], option="--max-per-group")
    with pytest.raises(ValueError, match="names 'donor' twice"):
        _files.caps(["donor=5", "donor=6"], option="--max-per-group")


def test_filters_find_numbers_and_booleans(
    scim_command: Callable[..., Result],
    fails: Callable[..., None],
    make_study: Callable[..., anndata.AnnData],
    reference: Path,
    files: Path,
    tmp_path: Path,
) -> None:
    study = make_study(3)
    study.obs["age"], study.obs["smoker"] = np.arange(60) % 3, np.arange(60) % 2 == 0
    encoder = scim.Reference.open(reference).encoder
    keys = {"labels_key": "cell_type", "study_key": "half", "obs_columns": ["age", "smoker", "tissue"]}
    study.obs["half"] = np.where(np.arange(60) < 30, "first", "second")
    made = scim.Reference.build(tmp_path / "r", study, encoder, **keys)
    given = {"age": ["2", "1.0"], "smoker": ["true"], "tissue": ["1"]}
    assert _files.as_stored(given, made) == {"age": [2, 1], "smoker": [True], "tissue": ["1"]}
    assert _files.as_stored({"age": ["old"], "aeg": ["1"]}, made) == {"age": ["old"], "aeg": ["1"]}
    assert _files.as_stored({"age": ["9", "1.5"]}, made) == {"age": [9, 1.5]}
    query = ("query", files / "new.h5ad", "--reference", made.path, "--k", 5, "--out", tmp_path / "hits.csv")
    done = scim_command(*query, "--where", "age=2")
    assert done.exit_code == 0, done.output
    assert set(pd.read_csv(tmp_path / "hits.csv")["age"]) == {2}
    fails(scim_command(*query, "--overwrite", "--where", "age=9"), "no cell has age=9. Available: 0, 1, 2.")
    fails(scim_command(*query, "--overwrite", "--where", "age=nan"), "age holds numbers, and 'nan' is text.")
