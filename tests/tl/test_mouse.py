"""Mouse cells in the verbs: labelled and searched as human cells are, and as a reference."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
from _made import as_mouse, shared_with

import scim


def test_mouse_cells_get_the_labels_of_human_ones(new: anndata.AnnData, reference: scim.Reference) -> None:
    mouse = as_mouse(new)
    human = shared_with(mouse, new)
    for adata in (human, mouse):
        scim.tl.annotate(adata, reference)
    assert (mouse.obs["scim_label"].astype(str) == human.obs["scim_label"].astype(str)).all()
    np.testing.assert_allclose(mouse.obs["scim_novelty"], human.obs["scim_novelty"], atol=1e-4)
    assert mouse.uns["scim"]["embed"]["genes"]["organism"] == "mouse"
    assert mouse.uns["scim"]["annotate"]["novelty"] == "expression"
    # The record says that the embedding is of mouse genes: a second call finds their values again.
    again = mouse.obs["scim_novelty"].copy()
    scim.tl.annotate(mouse, reference)
    np.testing.assert_allclose(mouse.obs["scim_novelty"], again, atol=1e-5)
    with pytest.warns(UserWarning, match=r"organism='human' is not used, because .* was made from genes of mouse"):
        scim.tl.annotate(mouse, reference, organism="human")
    with pytest.raises(ValueError, match="organism='rat' is not known"):
        scim.tl.annotate(mouse, reference, organism="rat")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["joost2016_epidermis", "matsushita2023_bm_stroma", "mca_stomach_intestine"])
@pytest.mark.filterwarnings("ignore:Only .* well represented", "ignore:.* labelled cells have a label")
def test_real_mouse_sets_are_annotated(shared_data: Path, name: str) -> None:
    mouse = anndata.read_h5ad(shared_data / "mouse" / f"mouse_{name}.h5ad")
    scim.tl.annotate(mouse)
    genes = mouse.uns["scim"]["embed"]["genes"]
    assert genes["organism"] == "mouse" and genes["share_expression_mapped"] > 0.9 and genes["fraction"] > 0.7
    if name == "mca_stomach_intestine":
        for label, term in (("T cell", "T cell"), ("Plasmacytoid dendritic cell", "plasmacytoid dendritic cell")):
            finest = mouse.obs["scim_finest_label"][mouse.obs["cell_type"] == label].astype(str)
            assert finest.str.contains(term).mean() > 0.5


@pytest.mark.filterwarnings("ignore:Most hits")
def test_mouse_cells_and_groups_are_searched(new: anndata.AnnData, reference: scim.Reference) -> None:
    mouse = as_mouse(new)
    hits = []
    for adata in (new, mouse):
        scim.tl.query(adata, reference, groupby="cell_type", k=20)
        hits.append(scim.get.hits(adata))
    for query, found in hits[1].groupby("query", observed=True):
        expected = hits[0][hits[0]["query"] == query]
        assert len(set(found["row"]) & set(expected["row"])) > 12
    # Of an object with the vectors, the record tells the organism for the pooled counts.
    scim.tl.query(mouse, reference, groupby="cell_type", k=20)
    assert scim.get.hits(mouse)["row"].tolist() == hits[1]["row"].tolist()


def test_a_reference_of_mouse_cells_is_searched_with_human_ones(
    blood: anndata.AnnData, held_out: np.ndarray, encoder: scim.Encoder, tmp_path: Path
) -> None:
    mouse, human = as_mouse(blood[~held_out]), blood[held_out].copy()
    made = scim.Reference.build(tmp_path / "mouse.scim", mouse, encoder, labels_key="cell_type", study_key="study")
    scim.tl.query(human, made, groupby="cell_type", cells=human.obs["cell_type"] == "B cell", k=20)
    assert scim.get.hits(human)["label"].value_counts().index[0] == "B cell"
    made.add({"third": human}, labels_key="cell_type")
    assert len(made) == blood.n_obs
    scim.tl.annotate(human, made, exclude={"study": "third"})
    given = human.obs["scim_finest_label"].astype(str) == human.obs["cell_type"].astype(str)
    assert given.mean() > 0.6
