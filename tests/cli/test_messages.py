"""Errors and warnings of the package in words of the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest
import typer.main
from typer.testing import Result

from scim.cli import app
from scim.cli._messages import Words


@pytest.fixture(scope="module")
def words() -> Words:
    return Words(typer.main.get_command(app).commands)


def test_errors_are_one_line(words: Words) -> None:
    error = ValueError("a\n  b")
    assert words.one_line(error) == "a b"
    error.add_note("Give labels_key=.")
    assert words.one_line(error) == "a b Give --labels-key."
    assert words.one_line(KeyError("key 'x'")) == "key 'x'"
    assert words.one_line(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("labels_key='x' is not in obs.", "--labels-key='x' is not in obs."),
        ("Name the study of each cell with batch_key, or not", "Name the study of each cell with --study-key, or not"),
        ("Choose another path, or pass overwrite=True.", "Choose another path, or pass --overwrite."),
        ("Check them, or give check_labels=False.", "Check them, or give --keep-labels."),
        ("resume=False begins again", "--fresh begins again"),
        ("say with obs_columns= what to keep", "say with --obs-column what to keep"),
        ("more like labels that labels= leaves out", "more like labels that --label leaves out"),
        ("Ask for fewer hits (k=), or groups (groupby=).", "Ask for fewer hits (--k), or groups (--groupby)."),
        ("by='leidn' is not in adata.obs", "--by='leidn' is not in adata.obs"),
        ('Name it with layer=, such as layer="raw".', 'Name it with --layer, such as --layer="raw".'),
        ("where: no cell has age=9.", "--where: no cell has age=9."),
        ("alpha must lie from 0 to 0.5", "--alpha must lie from 0 to 0.5"),
    ],
)
def test_arguments_become_options(words: Words, text: str, expected: str) -> None:
    assert words.translated(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Reference.reindex() writes it.", "`scim reindex` writes it."),
        ("Make one with Reference.build.", "Make one with `scim build`."),
        ('Reference.build(landmarks="simulated")', '`scim build --landmarks="simulated"`'),
        ("scim.references() lists them", "`scim references` lists them"),
        ("scim.push_reference makes one", "`scim push-reference` makes one"),
        ("Run scim.tl.annotate first.", "Run `scim annotate` first."),
        ("scim.pp.harmonize_labels finds their terms.", "--harmonize finds their terms."),
    ],
)
def test_functions_become_commands(words: Words, text: str, expected: str) -> None:
    assert words.translated(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "There is no file my/labels_key.h5ad.",
        "Available: 'batch_key', 'nearby='.",
        "The seed and the layer where it stands",
        "Give min_cells= or client=.",
        "scim.tl.embed(adata, reference) and Reference.open(path)",
        "my.scim.query is a file",
    ],
)
def test_other_words_stay(words: Words, text: str) -> None:
    assert words.translated(text) == text


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
    assert "--study-key" in done.stderr and "--keep-labels" in done.stderr
    done = scim_command("train", *given, "--max-epochs", 1, "--out", tmp_path / "two", "--keep-labels")
    assert done.exit_code == 0 and "--keep-labels" not in done.stderr
    done = scim_command("build", *given, "--encoder", encoder, "--out", tmp_path / "made.scim")
    assert done.exit_code == 0 and "--study-key" in done.stderr
