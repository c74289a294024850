"""References made and changed by the commands: in bounded memory, killed and continued."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anndata
import pytest
from typer.testing import Result

import scim
from scim.reference.build import _journal, _parts
from scim.reference.store import read_manifest

KEYS = ("--labels-key", "cell_type")


def contents(path: Path) -> dict[str, str]:
    return {name: facts["sha256"] for name, facts in read_manifest(path)["files"].items()}


def test_build_of_a_folder_is_that_of_python(built: Path, studies: Path, encoder: Path, tmp_path: Path) -> None:
    paths = {f"s{i}": studies / f"s{i}.{'zarr' if i == 3 else 'h5ad'}" for i in range(4)}
    loaded = scim.Encoder.load(encoder)
    expected = scim.Reference.build(tmp_path / "python.scim", paths, loaded, labels_key="cell_type")
    assert contents(built) == contents(expected.path)
    assert expected.info()["studies"] == ["s0", "s1", "s2", "s3"]


WAITS = """
import sys, time
from scim.cli import main
from scim.reference.build import _journal, _parts
_parts.STAGE, _journal.WORTH_KEEPING = 20, 20
real = _parts.PartWriter._note
def note(self, *about):
    real(self, *about)
    print("noted", flush=True)
    time.sleep(60)
_parts.PartWriter._note = note
sys.argv = ["scim", *sys.argv[1:]]
main()
"""


def start(*args: object) -> subprocess.Popen[str]:
    """Start a command in another process, which notes 20 cells, says so, and then waits."""
    command = [sys.executable, "-c", WAITS, *map(str, args)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout is not None
    assert running.stdout.readline() == "noted\n"
    return running


@pytest.fixture
def note_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note what is done every 20 cells."""
    monkeypatch.setattr(_parts, "STAGE", 20)
    monkeypatch.setattr(_journal, "WORTH_KEEPING", 20)


def goes_on(scim_command: Callable[..., Result], command: Sequence[object], out: Path, expected: Path) -> None:
    """Assert that the command continues a build, and makes the expected reference."""
    assert not out.exists()
    scratch = out.with_name(f".{out.name}.building")
    assert scratch.is_dir()
    done = scim_command(*command)
    assert done.exit_code == 0, done.output
    assert f"Continuing a build of {out.name} that was interrupted" in done.stderr
    assert "--fresh starts again" in done.stderr
    assert "Reference of 240 cells with 3 labels" in done.stdout
    assert contents(out) == contents(expected)
    assert not scratch.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("note_often")
def test_build_that_was_killed_goes_on(
    scim_command: Callable[..., Result], built: Path, studies: Path, encoder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again.scim"
    command = ("build", studies, *KEYS, "--encoder", encoder, "--out", out)
    with start(*command) as running:
        running.kill()
    assert running.returncode == -signal.SIGKILL
    goes_on(scim_command, command, out, built)


@pytest.mark.usefixtures("note_often")
def test_build_that_was_interrupted_goes_on(
    scim_command: Callable[..., Result],
    built: Path,
    studies: Path,
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "again.scim"
    command = ("build", studies, *KEYS, "--encoder", encoder, "--out", out)
    note = _parts.PartWriter._note

    def interrupt(*about: Any) -> None:
        note(*about)
        signal.raise_signal(signal.SIGINT)

    # A shell starts background jobs with SIGINT ignored, and then Python does not handle it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(_parts.PartWriter, "_note", interrupt)
            done = scim_command(*command)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.exit_code == 130
    assert "cells are done and kept. Build it again to continue from there" in done.stderr
    goes_on(scim_command, command, out, built)


@pytest.mark.slow
def test_add_keeps_other_writers_out_and_changes_nothing_when_killed(
    scim_command: Callable[..., Result],
    fails: Callable[..., None],
    make_study: Callable[..., anndata.AnnData],
    built: Path,
    tmp_path: Path,
) -> None:
    make_study(9).write_h5ad(tmp_path / "more.h5ad")
    before = contents(built)
    with start("add", built, tmp_path / "more.h5ad") as running:
        fails(scim_command("remove", built, "--where", "tissue=gut"), "add", str(running.pid))
        running.kill()
    assert contents(built) == before
    assert scim_command("verify", built).exit_code == 0
    deadline = time.monotonic() + 20  # seconds; the lock goes with the process
    while (done := scim_command("add", built, tmp_path / "more.h5ad")).exit_code and time.monotonic() < deadline:
        time.sleep(0.1)
    assert done.exit_code == 0, done.output
    assert "Added 60 cells" in done.stdout and "has 300 cells now" in done.stdout
    assert scim_command("verify", built).exit_code == 0
    assert "more" in scim.Reference.open(built).info()["studies"]


def test_change(
    scim_command: Callable[..., Result], fails: Callable[..., None], built: Path, studies: Path, tmp_path: Path
) -> None:
    done = scim_command("remove", built, "--where", "tissue=lung", "--where", "tissue=gut")
    assert done.exit_code == 0, done.output
    assert "Removed 120 cells" in done.stdout and "has 120 cells now" in done.stdout
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
    fails(scim_command("add", built, studies / "s1.h5ad", *("--labels-key", "kind")), "'cell_type'")


def test_what_comes_with_scim_is_not_changed(scim_command: Callable[..., Result], fails: Callable[..., None]) -> None:
    path = scim.Reference.open(None).path
    fails(scim_command("remove", path, "--where", "label=B cell"), "comes with scim")
    fails(scim_command("compact", "blood"), "is the name of the installed reference in", "cp -r")
    scim.Reference.open(path).verify()
