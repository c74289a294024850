"""Errors and warnings of the package in words of the command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import anndata
import numpy as np
import pytest
import typer.main
from typer.testing import Result

import scim
from scim.cli import _messages, app
from scim.cli._messages import one_line, translated


def test_one_line() -> None:
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(KeyError("key 'x'")) == "key 'x'"
    assert one_line(ValueError()) == "ValueError"


def test_options_that_messages_name_are_there() -> None:
    commands = typer.main.get_command(app).commands.values()
    options = [option for command in commands for option in command.params]
    there = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    named = {name for text in _messages._HERE.values() for name in re.findall(r"--[a-z-]+", text)}
    assert named <= there


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Check them, or give check_labels=False.", "Check them, or give --keep-labels."),
        ("say with obs_columns= what to keep", "say with --obs-column what to keep"),
        ("obs_columns='x' is not in obs", "--obs-column='x' is not in obs"),
        ("more like labels that labels= leaves out, such as", "more like labels that --label leaves out, such as"),
        ("by='leidn' is not in adata.obs", "--by='leidn' is not in adata.obs"),
        ("There is no file my/labels_key.h5ad.", "There is no file my/labels_key.h5ad."),
        ("Available: 'batch_key', 'nearby='.", "Available: 'batch_key', 'nearby='."),
    ],
)
def test_arguments_become_options(text: str, expected: str) -> None:
    assert translated(text) == expected


def warnings_of(path: Path) -> Iterator[str]:
    """Yield what a file warns of, with a mark for what is put in."""

    def words(node: ast.expr) -> str:
        if isinstance(node, ast.BinOp):
            return words(node.left) + words(node.right)
        if isinstance(node, ast.JoinedStr):
            return "".join(map(words, node.values))
        return str(node.value) if isinstance(node, ast.Constant) else "\N{HORIZONTAL ELLIPSIS}"

    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("warnings.warn", "_warn"):
            yield words(node.args[0])


#: The commands give neither data in memory nor another word for unlabelled cells; these options are called so.
NOT_HERE = ("workers of client=", "unlabeled_category=", "in Python", "k=", "layer=")


def test_no_warning_names_what_is_of_python_alone() -> None:
    texts = [text for path in Path(scim.__file__).parent.rglob("*.py") for text in warnings_of(path)]
    assert len(texts) > 20
    python = r"\w*[a-z]_[a-z]\w*|(?<!-)\b\w+=|\bscim\.\w+\.\w+|\bReference\."
    said = [text for text in map(translated, texts) if not any(name in text for name in NOT_HERE)]
    wrong = [text for text in said if re.search(python, text)]
    assert not wrong, "\n".join(wrong)


def test_what_train_and_build_warn_of_is_to_be_done_here(
    scim_command: Callable[..., Result], make_study: Callable[..., anndata.AnnData], encoder: Path, tmp_path: Path
) -> None:
    study = make_study(0, n=300)
    labels = study.obs["cell_type"]
    study.obs["cell_type"] = np.where(np.arange(300) % 5 == 0, np.roll(labels, 1), labels)
    study.write_h5ad(tmp_path / "study.h5ad")
    given = (tmp_path / "study.h5ad", "--labels-key", "cell_type")
    done = scim_command("train", *given, "--max-epochs", 1, "--out", tmp_path / "one")
    assert done.exit_code == 0, done.output
    assert "Name the study of each cell with --study-key" in done.stderr
    assert "labels contradict those of the cells around them" in done.stderr and "or give --keep-labels." in done.stderr
    done = scim_command("train", *given, "--max-epochs", 1, "--out", tmp_path / "two", "--keep-labels")
    assert done.exit_code == 0 and "contradict" not in done.stderr
    done = scim_command("build", *given, "--encoder", encoder, "--out", tmp_path / "made.scim")
    assert done.exit_code == 0 and "Name the studies with --study-key" in done.stderr
