"""Encoders trained by the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
from typer.testing import Result

import scim
from scim.cli import _train


def test_train_writes_an_encoder_and_a_model(scim_command: Callable[..., Result], files: Path, tmp_path: Path) -> None:
    done = scim_command(
        *("train", files / "one.h5ad", "--labels-key", "cell_type", "--max-epochs", 1, "--triplet-weight", 0.5),
        *("--out", tmp_path / "e", "--model-out", tmp_path / "m"),
    )
    assert done.exit_code == 0, done.output
    assert "Training on 60 cells x 200 genes" in done.stdout
    assert len(scim.Encoder.load(tmp_path / "e").genes) == 200
    assert (tmp_path / "m" / "model.pt").exists()


def test_several_files_are_a_study_each_unless_a_column_says_more(files: Path) -> None:
    paths = [files / "one.h5ad", files / "two.h5ad"]
    adata, key = _train.studies(paths, labels_key="cell_type", study_key=None, layer=None)
    assert adata.obs[key].astype(str).value_counts().to_dict() == {"one": 60, "two": 60}
    adata, key = _train.studies(paths, labels_key="cell_type", study_key="tissue", layer=None)
    assert adata.obs[key].astype(str).value_counts().to_dict() == {"blood": 60, "lung": 60}


def test_labels_in_other_words_meet_by_harmonizing(
    scim_command: Callable[..., Result], make_study: Callable[..., anndata.AnnData], files: Path, tmp_path: Path
) -> None:
    adata = make_study(5)
    adata.write_h5ad(tmp_path / "a.h5ad")
    words = {"B cell": "B cells", "T cell": "T-cells", "monocyte": "Monocytes"}
    adata.obs["cell_type"] = adata.obs["cell_type"].map(words)
    adata.write_h5ad(tmp_path / "b.h5ad")
    two = (tmp_path / "a.h5ad", tmp_path / "b.h5ad", "--labels-key", "cell_type")
    done = scim_command("train", *two, "--out", tmp_path / "plain", "--max-epochs", 1)
    assert done.exit_code == 0
    assert "not terms of the Cell Ontology" in done.stderr
    assert "No label occurs in two studies" in done.stderr
    assert "--harmonize finds" in done.stderr
    done = scim_command("train", *two, "--harmonize", "--out", tmp_path / "enc", "--max-epochs", 1)
    assert done.exit_code == 0, done.output
    assert "Cell Ontology" not in done.stderr and "No label occurs" not in done.stderr
    done = scim_command("build", *two, "--harmonize", "--encoder", tmp_path / "enc", "--out", tmp_path / "r.scim")
    assert done.exit_code == 0, done.output
    assert len(scim.Reference.open(tmp_path / "r.scim").terms.labels) == 3
