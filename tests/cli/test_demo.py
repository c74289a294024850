"""The demo on the data that ship in scanpy, and its parts on small input."""

from __future__ import annotations

import re
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import scim
from scim.cli import _demo, app


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Run the demo by its command; its folder and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "out"
    done = CliRunner().invoke(app, ["demo", "--out", str(out)])
    assert done.exit_code == 0, done.output
    return out, done.stdout


def share(text: str, words: str) -> float:
    """Percentage that the report gives for the words."""
    found = re.search(rf"([\d.]+)% {words}", text)
    assert found is not None, text
    return float(found[1])


def test_demo_says_how_often_it_agrees(run: tuple[Path, str]) -> None:
    _, text = run
    assert "200 cells x 16,727 genes" in text
    shares = [share(text, f"have {words}") for words in ("the same term", "a broader", "a finer", "another")]
    shares.append(share(text, "are unassigned"))
    assert sum(shares) == pytest.approx(100, abs=0.3)
    assert sum(shares[:3]) > 80 and shares[-1] < 5
    assert share(text, "of the cells are well represented") > 80
    monocytes = next(line for line in text.splitlines() if "CD14-positive monocyte   " in line)
    assert "LYZ" in monocytes and "S100A9" in monocytes


def test_demo_has_a_hard_case(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["demo", "--hard", "--data", "x.h5ad", "--out", str(tmp_path / "out")])
    assert done.exit_code != 0 and "--hard and --data were both given" in done.output
    done = CliRunner().invoke(app, ["demo", "--hard", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "700 cells x 765 genes" in done.stdout and "Compared" in done.stdout


def test_labels_in_other_words_are_compared_by_their_terms() -> None:
    obs = pd.DataFrame({"mine": ["B", "CD14+ Mono", "my own", None]}, index=list("abcd"))
    found = _demo.harmonized(anndata.AnnData(obs=obs), "mine")
    assert found.tolist()[:3] == ["CL:0000236", "CL:0001054", "my own"] and found.isna().tolist()[3]


def test_demo_labels_with_the_bundled_reference_and_trains_nothing(run: tuple[Path, str]) -> None:
    out, text = run
    annotated = anndata.read_h5ad(out / "annotated.h5ad")
    assert annotated.n_obs == 200
    assert annotated.uns["scim"]["annotate"]["reference"]["name"] == scim.Reference.open(None).path.name
    assert set(scim.get.hits(annotated)["query"].astype(str)) <= set(annotated.obs["scim_label"].astype(str))
    assert sorted(path.name for path in out.iterdir()) == ["annotated.h5ad", "umap.png"]
    assert "epochs" not in text


def test_demo_draws_a_figure(run: tuple[Path, str]) -> None:
    out, _ = run
    assert (out / "umap.png").read_bytes()[:4] == b"\x89PNG"
    assert (out / "umap.png").stat().st_size > 20_000


@pytest.mark.slow
def test_demo_takes_unlabelled_cells_of_ones_own(tmp_path: Path) -> None:
    cells = scim.datasets.pbmc68k()[:60].copy()
    del cells.obs["cell_type"]
    cells.write_h5ad(tmp_path / "mine.h5ad")
    done = CliRunner().invoke(app, ["demo", "--data", str(tmp_path / "mine.h5ad"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "mine.h5ad: 60 cells" in done.stdout
    assert "Compared" not in done.stdout
    assert (tmp_path / "out" / "umap.png").exists()


def test_compare_tells_broader_from_finer_and_leaves_missing_labels_out() -> None:
    ontology = scim.CellOntology.bundled()
    published = np.array(
        ["CL:0000236", "natural killer cell", "natural killer cell", "T cell", "my cell", "T cell", np.nan, "unknown"],
        dtype=object,
    )
    predicted = np.array(
        ["B cell", "CL:0000542", "unassigned", "naive T cell", "my cell", "B cell", "B cell", "B cell"], dtype=object
    )
    found = _demo.compare(predicted, published, ontology)
    assert found == {"same": 2, "broader": 1, "finer": 1, "unassigned": 1, "other": 1}
