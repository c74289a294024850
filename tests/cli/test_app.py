"""What every command says: help, errors, warnings and interrupts."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import Result

import scim
from scim.cli import _references


@pytest.mark.parametrize(
    "command",
    ["demo", "train", "build", "add", "remove", "compact", "reindex", "annotate", "query", "push-reference", "info"],
)
def test_help_has_examples(scim_command: Callable[..., Result], command: str) -> None:
    done = scim_command(command, "--help")
    assert done.exit_code == 0
    assert f"Examples:\n    scim {command}" in done.stdout


def test_help_lists_references_and_version(scim_command: Callable[..., Result]) -> None:
    done = scim_command("--help")
    assert done.exit_code == 0
    assert "130 interrupted" in " ".join(done.stdout.split())
    assert scim_command("--version").stdout.strip() == f"scim-tools {scim.__version__}"


@pytest.mark.parametrize(
    ("command", "texts"),
    [
        ("annotate neww.h5ad --reference R --out x.csv", ["no file", "Did you mean 'new.h5ad'?"]),
        ("annotate new.h5ad --reference R --out x.cvs", ["--out", ".cvs", "Did you mean '.csv'?"]),
        ("annotate new.h5ad --reference R --out no/x.csv", ["no folder"]),
        ("annotate new.h5ad --reference R --out x.csv --where tissue", ["COLUMN=VALUE"]),
        ("annotate new.h5ad --reference R --out x.csv --where tisue=lung", ["'tissue'"]),
        ("annotate new.h5ad --reference R --out x.csv --where tissue=lnug", ["'lung'"]),
        ("annotate new.h5ad --reference R --out x.csv --layer count", ["count"]),
        ("annotate new.h5ad --reference R --out x.csv --alpha 0.9", ["alpha"]),
        ("annotate new.h5ad --reference nowhere.scim --out x.csv", ["nowhere.scim"]),
        ("annotate new.h5ad --reference R --out x.csv --by clusters", ["Did you mean 'cluster'?"]),
        ("annotate new.h5ad --reference R --out x.csv --vote calibated", ["Did you mean 'calibrated'?"]),
        ("annotate new.h5ad --reference R --out x.csv --label Bcell", ["Did you mean 'B cell'?"]),
        ("annotate new.h5ad --reference R --out x.csv --use-rep X_scvi", ["--use-rep='X_scvi'"]),
        ("query new.h5ad --reference R --out x.csv --groupby clusters", ["'cluster'"]),
        ("train one.h5ad --labels-key cell_type --out /proc/e", ["/proc/e cannot be made"]),
        ("train one.h5ad --labels-key celltype --out e", ["Did you mean 'cell_type'?"]),
        ("train one.h5ad two.h5ad --labels-key celltype --out e", ["Did you mean 'cell_type'?"]),
        ("train one.h5ad --labels-key cell_type --study-key tisue --out e", ["'tissue'"]),
        ("train one.h5ad one.h5ad --labels-key cell_type --out e", ["Two files"]),
        ("build one.h5ad --out r --labels-key cell_type --encoder nix", ["nix"]),
        ("build one.h5ad --out r --labels-key cell_type --encoder E --backend exct", ["exact"]),
        ("build one.h5ad --out r --labels-key cell_type --encoder E --obs-column tisue", ["'tissue'"]),
        ("info .", ["neither a reference"]),
        ("info made.txt", ["no file"]),
        ("annotate . --out x.csv", ['scanpy.read_10x_mtx(".")']),
        ("demo --labels-key cell_type", ["--data"]),
        ("demo --out one.h5ad", ["one.h5ad is not a folder"]),
        ("demo --data onee.h5ad", ["no file", "Did you mean 'one.h5ad'?"]),
        ("demo --data one.h5ad --labels-key celltype", ["Did you mean 'cell_type'?"]),
    ],
)
def test_user_errors_are_one_line(
    scim_command: Callable[..., Result],
    fails: Callable[..., None],
    files: Path,
    encoder: Path,
    reference: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    texts: Sequence[str],
) -> None:
    monkeypatch.chdir(files)
    before = sorted(files.iterdir())
    fails(scim_command(*[{"R": reference, "E": encoder}.get(a, a) for a in command.split()]), *texts)
    assert sorted(files.iterdir()) == before


def test_usage_errors_name_what_is_near(scim_command: Callable[..., Result]) -> None:
    done = scim_command("anotate")
    assert done.exit_code == 2
    assert "'annotate'" in done.stderr
    done = scim_command("annotate", "x.h5ad", "--referense", "r", "--out", "x.csv")
    assert done.exit_code == 2
    assert "--reference" in done.stderr


def test_debug_shows_the_error_itself(scim_command: Callable[..., Result], tmp_path: Path) -> None:
    done = scim_command("info", tmp_path / "nix.h5ad", "--debug")
    assert isinstance(done.exception, FileNotFoundError)


def test_interrupt_ends_with_130(
    scim_command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_references, "describe", interrupt)
    done = scim_command("info", tmp_path)
    assert done.exit_code == 130
    assert "interrupted; no incomplete results were left" in done.stderr


@pytest.mark.parametrize(("kind", "code"), [(KeyboardInterrupt, 130), (OSError, 1)])
def test_what_is_kept_of_a_build_is_said(
    scim_command: Callable[..., Result],
    kind: type[BaseException],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop(path: Path) -> None:
        error = kind("the disk is full")
        error.add_note("40,000 cells are done and kept: build it again to go on from there.")
        raise error

    monkeypatch.setattr(_references, "describe", stop)
    done = scim_command("info", tmp_path)
    assert done.exit_code == code and "no incomplete results" not in done.stderr
    assert "40,000 cells are done and kept" in done.stderr


def test_warnings_of_scim_are_one_line_and_others_are_silent(
    scim_command: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(path: Path) -> dict[str, object]:
        warnings.warn_explicit("few genes\nare shared", UserWarning, _references.__file__, 1)
        warnings.warn_explicit("noise", UserWarning, "elsewhere.py", 1)
        return {"kind": "noisy"}

    monkeypatch.setattr(_references, "describe", noisy)
    done = scim_command("info", tmp_path)
    assert done.stderr == "scim: warning: few genes are shared\n"
