"""The guide in the docs runs as it stands: merge, train, build, embed, UMAP, annotate, query."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[1] / "docs" / "counts-to-labels.md"


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the blocks of the page one after another, as a notebook would, and return the names they left."""
    blocks = code_blocks(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) >= 8, "the page has lost its code"
    names: dict[str, Any] = {"__name__": "guide"}
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("guide")
        patch.chdir(folder)
        patch.setenv("MPLBACKEND", "agg")
        for i, block in enumerate(blocks):
            exec(compile(block, f"{PAGE.name}, block {i + 1}", "exec"), names)
    names["folder"] = folder
    return names


def test_labels_are_mostly_right(notebook: dict[str, Any]) -> None:
    import scim

    new = notebook["new"]
    ontology = scim.CellOntology.bundled()
    truth = [scim.datasets.PBMC68K_TERMS[label][0] for label in notebook["published"]]
    given = [ontology.resolve(str(label)) for label in new.obs["scim_label"]]
    related = [g is not None and (g == t or g in ontology.ancestors(t)) for g, t in zip(given, truth, strict=True)]
    assert np.mean(related) > 0.6


def test_result_is_whole_and_reads_back(notebook: dict[str, Any]) -> None:
    back = anndata.read_h5ad(notebook["folder"] / "annotated.h5ad")
    assert back.obsm["X_scim"].shape == (notebook["new"].n_obs, notebook["encoder"].n_latent)
    np.testing.assert_allclose(np.linalg.norm(back.obsm["X_scim"], axis=1), 1, atol=1e-4)
    assert back.obsm["X_umap"].shape[1] == 2
    assert back.obs["scim_confidence"].between(0, 1).all()


def test_query_has_hits_for_every_group(notebook: dict[str, Any]) -> None:
    groups = set(notebook["new"].obs["scim_label"].astype(str))
    hits = notebook["hits"]
    assert set(hits["query"].astype(str)) == groups
    assert hits["distance"].between(0, 2).all()


def test_reference_can_be_opened_again(notebook: dict[str, Any]) -> None:
    import scim

    opened = scim.Reference.open(notebook["folder"] / "blood.scim")
    assert len(opened) == notebook["studies"].n_obs
    assert opened.encoder.id == notebook["encoder"].id
