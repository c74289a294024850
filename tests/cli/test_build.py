"""References made and changed by the commands: many files in bounded memory, killed and gone on with."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import Result

import scim
from scim.cli import _build as _building
from scim.genes import GeneSpace
from scim.reference.store import _manifest

KEYS = ("--labels-key", "cell_type")
GENES = list(scim.datasets.pbmc68k().var_names[:80])


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of random weights does where cells are stored, not told apart."""
    matrix = np.random.default_rng(0).normal(size=(8, len(GENES))).astype(np.float32)
    made = scim.Encoder(GeneSpace(GENES), {"output.weight": matrix, "output.bias": np.zeros(8)})
    path = tmp_path_factory.mktemp("encoder") / "made.encoder"
    made.save(path)
    return path


@pytest.fixture
def studies(make_study: Callable[..., anndata.AnnData], tmp_path: Path) -> Path:
    """A folder of four studies, one of them zarr."""
    folder = tmp_path / "meine Studien"
    folder.mkdir()
    for i in range(3):
        make_study(i, tissue=["blood", "lung", "gut"][i]).write_h5ad(folder / f"s{i}.h5ad")
    make_study(3).write_zarr(folder / "s3.zarr")
    return folder


@pytest.fixture
def built(scim_command: Callable[..., Result], studies: Path, encoder: Path, tmp_path: Path) -> Path:
    done = scim_command("build", studies, *KEYS, "--encoder", encoder, "--out", tmp_path / "made.scim")
    assert done.exit_code == 0, done.output
    return tmp_path / "made.scim"


def contents(path: Path) -> dict[str, str]:
    return {name: facts["sha256"] for name, facts in _manifest.read_manifest(path)["files"].items()}


def test_build_of_a_folder_is_that_of_python(built: Path, studies: Path, encoder: Path, tmp_path: Path) -> None:
    paths = {f"s{i}": studies / f"s{i}.{'zarr' if i == 3 else 'h5ad'}" for i in range(4)}
    loaded = scim.Encoder.load(encoder)
    expected = scim.Reference.build(tmp_path / "python.scim", paths, loaded, labels_key="cell_type")
    assert contents(built) == contents(expected.path)
    assert expected.info()["studies"] == ["s0", "s1", "s2", "s3"]


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
    assert made._manifest["recall"] == 0.9 and made.landmarks is None
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
    monkeypatch: pytest.MonkeyPatch,
    data: list[str],
    texts: list[str],
) -> None:
    monkeypatch.chdir(studies.parent)
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


SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
from scim.cli import main
from scim.reference.build import _journal, _parts
_parts.STAGE, _journal.WORTH_KEEPING = 20, 20
real = _parts.PartWriter._note
def note(self, *about):
    real(self, *about)
    print("noted", flush=True)
    time.sleep({seconds})
_parts.PartWriter._note = note
sys.argv = ["scim", *sys.argv[1:]]
main()
"""


def start(*args: object, seconds: float = 0.0) -> subprocess.Popen[str]:
    """Begin a command in a process of its own that notes every 20 cells and then waits."""
    command = [sys.executable, "-c", SLOW.format(seconds=seconds), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("stop", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_build_goes_on_where_it_was_stopped(
    built: Path, studies: Path, encoder: Path, tmp_path: Path, stop: signal.Signals, status: int
) -> None:
    out = tmp_path / "again.scim"
    command = ("build", studies, *KEYS, "--encoder", encoder, "--out", out)
    with start(*command, seconds=60) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "noted\n"
        running.send_signal(stop)
        _, said = running.communicate(timeout=60)
    assert running.returncode == status
    assert not out.exists()
    assert (tmp_path / ".again.scim.building").is_dir()
    if stop is signal.SIGINT:
        assert "cells are done and kept: build it again to go on from there" in said
    with start(*command) as running:
        printed, said = running.communicate(timeout=120)
    assert running.returncode == 0, said
    assert "Going on with a build of again.scim that was interrupted" in said
    assert "--fresh begins afresh" in said
    assert "Reference of 240 cells with 3 labels" in printed
    assert contents(out) == contents(built)
    assert not (tmp_path / ".again.scim.building").exists()


def test_add_that_is_killed_changes_nothing(
    scim_command: Callable[..., Result], make_study: Callable[..., anndata.AnnData], built: Path, tmp_path: Path
) -> None:
    study = make_study(9)
    study.write_h5ad(tmp_path / "more.h5ad")
    before = contents(built)
    with start("add", built, tmp_path / "more.h5ad", seconds=60) as running:
        assert running.stdout is not None
        running.stdout.readline()
        os.kill(running.pid, signal.SIGKILL)
    assert contents(built) == before
    assert scim_command("verify", built).exit_code == 0
    done = scim_command("add", built, tmp_path / "more.h5ad")
    assert done.exit_code == 0, done.output
    assert "Added 60 cells; 300 are in" in done.stdout
    assert scim_command("verify", built).exit_code == 0
    assert "more" in scim.Reference.open(built).info()["studies"]


def test_two_writers(
    scim_command: Callable[..., Result],
    fails: Callable[..., None],
    make_study: Callable[..., anndata.AnnData],
    built: Path,
    tmp_path: Path,
) -> None:
    make_study(9).write_h5ad(tmp_path / "more.h5ad")
    with start("add", built, tmp_path / "more.h5ad", seconds=60) as running:
        assert running.stdout is not None
        running.stdout.readline()
        fails(scim_command("remove", built, "--where", "tissue=gut"), "add", str(running.pid))
        running.kill()
    deadline = time.monotonic() + 20  # the lock goes with the process
    while scim_command("remove", built, "--where", "tissue=gut").exit_code and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(scim.Reference.open(built)) == 180


def test_change(scim_command: Callable[..., Result], fails: Callable[..., None], built: Path, tmp_path: Path) -> None:
    done = scim_command("remove", built, "--where", "tissue=lung", "--where", "tissue=gut")
    assert done.exit_code == 0, done.output
    assert "Removed 120 cells; 120 are left" in done.stdout
    done = scim_command("compact", built)
    assert done.exit_code == 0, done.output
    assert "120 cells in" in done.stdout
    assert scim.Reference.open(built).n_rows == 120
    done = scim_command("reindex", built)
    assert done.exit_code == 0, done.output
    assert "Indexed 120 cells (exact search)" in done.stdout
    fails(scim_command("remove", built), "--where COLUMN=VALUE")
    fails(scim_command("remove", built, "--where", "tissue=lugn"), "lugn")
    fails(scim_command("remove", built, "--where", "tissue=blood"), "No labelled cell")
    fails(scim_command("compact", tmp_path / "made.scmi"), "made.scim")
    fails(scim_command("add", built, tmp_path / "meine Studien" / "s1.h5ad", *("--labels-key", "kind")), "'cell_type'")


def test_what_comes_with_scim_is_not_changed(scim_command: Callable[..., Result], fails: Callable[..., None]) -> None:
    path = scim.Reference.open(None).path
    fails(scim_command("remove", path, "--where", "label=B cell"), "comes with scim")
    fails(scim_command("compact", "blood"), "is the name of the reference in", "cp -r")
    scim.Reference.open(path).verify()


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


def test_workers_of_dask(
    scim_command: Callable[..., Result], built: Path, studies: Path, encoder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("distributed", reason="needs dask.distributed: pip install 'scim-tools[dask]'")
    out = tmp_path / "dask.scim"
    done = scim_command("build", studies, *KEYS, "--encoder", encoder, "--out", out, "--workers", 1)
    assert done.exit_code == 0, done.output
    assert contents(out) == contents(built)


def test_workers_of_dask_search(
    scim_command: Callable[..., Result], built: Path, studies: Path, tmp_path: Path
) -> None:
    def opened() -> list[str]:
        from scim.reference.serving import _exact as _distributed

        return list(_distributed._opened)

    distributed = pytest.importorskip("distributed", reason="needs dask.distributed: pip install 'scim-tools[dask]'")
    query = ("query", studies / "s0.h5ad", "--reference", built, "--k", 7)
    annotate = ("annotate", studies / "s0.h5ad", "--reference", built, "--vote", "ontology")
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        for name, command in (("hits", query), ("labels", annotate)):
            one, other = tmp_path / f"{name}.csv", tmp_path / f"{name}-dask.csv"
            assert scim_command(*command, "--out", one).exit_code == 0
            done = scim_command(*command, "--out", other, "--scheduler", cluster.scheduler_address)
            assert done.exit_code == 0, done.output
            pd.testing.assert_frame_equal(pd.read_csv(one), pd.read_csv(other))
        with distributed.Client(cluster) as client:
            (held,) = client.run(opened).values()
        assert str(built) in held  # the worker did search


def test_scheduler_that_is_not_there(
    scim_command: Callable[..., Result], fails: Callable[..., None], built: Path, studies: Path, tmp_path: Path
) -> None:
    pytest.importorskip("distributed", reason="needs dask.distributed: pip install 'scim-tools[dask]'")
    import dask

    command = ("query", studies / "s0.h5ad", "--reference", built, "--out", tmp_path / "hits.csv")
    with dask.config.set({"distributed.comm.timeouts.connect": "200ms"}):
        fails(scim_command(*command, "--scheduler", "tcp://127.0.0.1:1"), "--scheduler tcp://127.0.0.1:1", "Start one")
    assert not (tmp_path / "hits.csv").exists()


def test_one_kind_of_workers(
    scim_command: Callable[..., Result],
    fails: Callable[..., None],
    studies: Path,
    encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    command = ("build", studies, *KEYS, "--encoder", encoder, "--out", tmp_path / "made.scim", "--workers", 2)
    fails(scim_command(*command, "--scheduler", "tcp://127.0.0.1:1"), "--workers", "--scheduler")
    monkeypatch.setitem(sys.modules, "distributed", None)
    fails(scim_command(*command), "pip install 'scim-tools[dask]'")
    assert not (tmp_path / "made.scim").exists()


def test_a_file_that_is_named_twice_is_one(studies: Path) -> None:
    file = str(studies / "s0.h5ad")
    assert _building.expand([file, str(studies), file]) == _building.expand([str(studies)])
