"""The demo on the data that ship in scanpy, and its parts on small input."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import scim
from scim import _demo
from scim.cli import app


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run a short demo by its command; its folder and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    done = CliRunner().invoke(app, ["demo", "--out", str(out), "--max-epochs", "15"])
    assert done.exit_code == 0, done.output
    return out, done.stdout


def test_demo_says_how_often_it_agrees(run: tuple[Path, str]) -> None:
    _, text = run
    assert "700 cells x 765 genes" in text
    share = float(text.split("% agree, or name an ancestor")[0].split()[-1])
    assert share > 60


def test_demo_writes_annotated_cells_that_it_never_saw(run: tuple[Path, str]) -> None:
    out, _ = run
    annotated = anndata.read_h5ad(out / "annotated.h5ad")
    reference = scim.Reference.open(out / "reference.scim")
    assert {"scim_label", "scim_confidence"} <= set(annotated.obs)
    assert annotated.n_obs + len(reference) == 700
    assert not set(annotated.obs_names) & set(reference.obs["cell_id"].astype(str))
    assert scim.Encoder.load(out / "encoder").id == reference.encoder.id


def test_demo_draws_a_figure(run: tuple[Path, str]) -> None:
    out, _ = run
    assert (out / "umap.png").read_bytes()[:4] == b"\x89PNG"
    assert (out / "umap.png").stat().st_size > 20_000


def make_obs(studies: list[str], labels: list[str]) -> anndata.AnnData:
    obs = pd.DataFrame({"study": studies, "label": labels}, index=[str(i) for i in range(len(labels))])
    return anndata.AnnData(X=np.ones((len(obs), 2), dtype=np.float32), obs=obs)


def test_whole_studies_are_held_out_of_three_or_more() -> None:
    adata = make_obs(["a"] * 20 + ["b"] * 20 + ["c"] * 20 + ["d"] * 20, ["x"] * 80)
    held = _demo.choose_held_out(adata, holdout=0.25, labels_key="label", study_key="study", seed=0)
    assert held.sum() == 20
    assert adata.obs["study"][held].nunique() == 1


@pytest.mark.parametrize("study_key", [None, "study"])
def test_a_share_of_every_label_is_held_out_of_fewer(study_key: str | None) -> None:
    adata = make_obs(["a"] * 20 + ["b"] * 20, (["x"] * 12 + ["y"] * 8) * 2)
    held = _demo.choose_held_out(adata, holdout=0.25, labels_key="label", study_key=study_key, seed=1)
    assert adata.obs["label"][held].value_counts().to_dict() == {"x": 6, "y": 4}
    assert held.sum() == 10


def test_too_few_cells_to_hold_any_out() -> None:
    with pytest.raises(ValueError, match="too few"):
        _demo.choose_held_out(make_obs(["a"], ["x"]), holdout=0.2, labels_key="label", study_key=None, seed=0)


def test_compare_counts_ancestors_and_leaves_missing_labels_out() -> None:
    ontology = scim.CellOntology.bundled()
    published = np.array(["CL:0000236", "natural killer cell", "natural killer cell", "my cell", np.nan], dtype=object)
    predicted = np.array(["B cell", "CL:0000542", "unassigned", "my cell", "B cell"], dtype=object)
    found = _demo.compare(predicted, published, ontology)
    assert found == _demo.Agreement(n_cells=4, exact=0.5, on_path=0.75, unassigned=0.25)


def test_a_wrong_relative_is_not_on_the_path() -> None:
    ontology = scim.CellOntology.bundled()
    found = _demo.compare(np.array(["naive T cell"], dtype=object), np.array(["T cell"], dtype=object), ontology)
    assert found.on_path == 0
