"""Files and patterns of studies, their columns and their labels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import pytest
from typer.testing import Result

import scim
from scim.cli import _study_files

KEYS = ("--labels-key", "cell_type")


def test_build_of_patterns_and_files_of_one_name(
    scim_command: Callable[..., Result], studies: Path, encoder: Path, tmp_path: Path
) -> None:
    for i in range(3):
        (tmp_path / f"run{i}").mkdir()
        shutil.copy(studies / f"s{i}.h5ad", tmp_path / f"run{i}" / "counts.h5ad")
    args = (*KEYS, "--encoder", encoder, "--out", tmp_path / "made.scim", "--obs-column", "tissue")
    options = ("--recall", 0.9, "--landmarks", "none", "--fresh")
    done = scim_command("build", f"{tmp_path}/run*/counts.h5ad", studies / "s3.zarr", *args, *options)
    assert done.exit_code == 0, done.output
    made = scim.Reference.open(tmp_path / "made.scim")
    assert made.info()["studies"] == ["run0/counts", "run1/counts", "run2/counts", "s3"]
    assert made._now.manifest["recall"] == 0.9 and made.landmarks is None
    assert set(made.metadata(columns="tissue")["tissue"]) == {"blood", "lung", "gut"}


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (["nix.h5ad"], ["no file", "nix.h5ad"]),
        (["meine Studien/s00.h5ad"], ["Did you mean 's0.h5ad'?"]),
        (["*.loom"], ["No file fits the pattern *.loom"]),
        (["empty"], ["holds no .h5ad or .zarr files", "in quotes"]),
        (["text.h5ad"], ["text.h5ad", "cannot be read"]),
        (["meine Studien", "other.h5ad"], ["--labels-key='cell_type'", "other.h5ad", "Did you mean 'celltype'?"]),
        (["one/x/s.h5ad", "two/x/s.h5ad"], ["Two files are named x/s", "Rename"]),
    ],
)
def test_data_that_cannot_be_built_from(
    scim_command: Callable[..., Result],
    fails: Callable[..., None],
    studies: Path,
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    data: list[str],
    texts: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("meine Studien").symlink_to(studies)
    Path("empty").mkdir()
    Path("text.h5ad").write_text("no file of HDF5")
    other = anndata.read_h5ad(studies / "s0.h5ad")
    other.obs = other.obs.rename(columns={"cell_type": "celltype"})
    other.write_h5ad("other.h5ad")
    for name in ("one", "two"):
        Path(name, "x").mkdir(parents=True)
        shutil.copy(studies / "s0.h5ad", Path(name, "x", "s.h5ad"))
    fails(scim_command("build", *data, *KEYS, "--encoder", encoder, "--out", "made.scim"), *texts)
    assert not Path("made.scim").exists() and not list(Path().glob(".made*"))


def test_labels_in_other_words(
    scim_command: Callable[..., Result],
    make_study: Callable[..., anndata.AnnData],
    studies: Path,
    encoder: Path,
    tmp_path: Path,
) -> None:
    words = {"B cell": "B cells", "T cell": "T-cells", "monocyte": "Monocytes"}
    more = make_study(7)
    more.obs["cell_type"] = more.obs["cell_type"].map(words)
    more.write_h5ad(tmp_path / "more.h5ad")
    args = (*KEYS, "--harmonize", "--encoder", encoder, "--out", tmp_path / "made.scim")
    done = scim_command("build", studies, tmp_path / "more.h5ad", *args)
    assert done.exit_code == 0, done.output
    assert "with 3 labels" in done.stdout and "no term" not in done.stderr
    more.write_h5ad(tmp_path / "later.h5ad")
    assert scim_command("add", tmp_path / "made.scim", tmp_path / "later.h5ad", "--harmonize").exit_code == 0
    made = scim.Reference.open(tmp_path / "made.scim")
    assert (len(made.terms.labels), len(made)) == (3, 360)
    more.obs["cell_type"] = "cluster 7"
    more.write_h5ad(tmp_path / "odd.h5ad")
    done = scim_command("add", tmp_path / "made.scim", tmp_path / "odd.h5ad", "--harmonize")
    assert "1 of 1 labels have no Cell Ontology term and stay as they are: 'cluster 7'" in done.stderr


def test_a_file_that_is_named_twice_is_one(studies: Path) -> None:
    file = str(studies / "s0.h5ad")
    assert _study_files.expand([file, str(studies), file]) == _study_files.expand([str(studies)])
