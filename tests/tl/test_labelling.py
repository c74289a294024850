"""scim.tl.annotate with calibrated sets: what they hold, what covers them, and cells unlike anything."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

import scim
from scim.labels import _panels
from scim.labels._scale import Scale
from scim.tl import _cells
from scim.tl._cells import NewCells


@pytest.fixture
def annotated(new: anndata.AnnData, reference: scim.Reference) -> anndata.AnnData:
    scim.tl.annotate(new, reference)
    return new


def sets_of(adata: anndata.AnnData) -> list[set[str]]:
    return [set(text.split(";")) for text in adata.obs["scim_set"].astype(str)]


def test_record_says_how(annotated: anndata.AnnData) -> None:
    record = annotated.uns["scim"]["annotate"]
    assert record["params"]["vote"] == "calibrated" and record["params"]["alpha"] == 0.1
    assert record["head"] == "cross-study" and record["novelty"] == "expression"
    assert record["panel_matched"] is False and record["panel_labels"] == ""


def test_record_names_labels_without_scores_of_their_own(annotated: anndata.AnnData, reference: scim.Reference) -> None:
    head = reference.label_model.matched().calibration.head
    assert head is not None
    counts = np.bincount(head.alone.labels, minlength=len(reference.terms.labels))
    names = reference.terms.term_names[reference.terms.label_term]
    few = [str(names[i]) for i in head.classes if counts[i] < 20]
    assert few and annotated.uns["scim"]["annotate"]["pooled_labels"].split(";") == few


def test_labels_of_which_no_two_studies_share_one(
    new: anndata.AnnData, blood: anndata.AnnData, encoder: scim.Encoder, tmp_path: Path
) -> None:
    cells = blood.copy()
    cells.obs["study"] = np.where(cells.obs["cell_type"].str.contains("T|NK|killer"), "first", "second")
    made = scim.Reference.build(tmp_path / "r.scim", cells, encoder, labels_key="cell_type", study_key="study")
    with pytest.warns(UserWarning, match="label that could not be tested, such as .* no two studies of r.scim have it"):
        scim.tl.annotate(new, made)
    assert new.obs["scim_confidence"].max() <= 0.9 + 1e-6
    assert len(new.uns["scim"]["annotate"]["pooled_labels"].split(";")) == len(made.terms.labels)


def test_label_is_the_most_specific_term_that_is_more_probable_than_not(
    annotated: anndata.AnnData, reference: scim.Reference
) -> None:
    terms, rank = reference.terms, reference.terms.specificity()
    scores = annotated.obsm["scim_scores"].to_numpy()
    generic = np.array([scim.CellOntology.bundled().is_generic(t) for t in terms.terms])
    for row, label in zip(scores, annotated.obs["scim_term_id"].astype(str), strict=True):
        enough = np.flatnonzero((row >= 0.5 - 1e-5) & ~generic)
        # Terms that are a label come before those that only the ontology has.
        best = terms.terms[min(enough, key=lambda t: (t not in terms.label_term, rank[t]))] if len(enough) else ""
        assert label in (best, "")  # or a cell of no kind


def test_scores_are_probabilities_summed_up_the_ontology(annotated: anndata.AnnData) -> None:
    scores = scim.get.scores(annotated)
    assert (scores.to_numpy() >= 0).all() and (scores.to_numpy() <= 1).all()
    assert (scores["lymphocyte"] >= scores["B cell"] - 1e-6).all()
    assert (scores["T cell"] >= scores["CD8-positive, alpha-beta T cell"] - 1e-6).all()


def test_sets_grow_as_less_error_is_tolerated(new: anndata.AnnData, reference: scim.Reference) -> None:
    found = {}
    for alpha in (0.02, 0.1, 0.4):
        scim.tl.annotate(new, reference, alpha=alpha)
        found[alpha] = sets_of(new)
    assert all(a >= b >= c for a, b, c in zip(found[0.02], found[0.1], found[0.4], strict=True))
    assert sum(map(len, found[0.02])) > sum(map(len, found[0.4]))


def test_sets_hold_the_published_label(annotated: anndata.AnnData) -> None:
    truth = annotated.obs["cell_type"].astype(str)
    assert np.mean([t in s for t, s in zip(truth, sets_of(annotated), strict=True)]) > 0.8


def test_cells_of_no_kind_are_unassigned_unless_that_is_switched_off(
    new: anndata.AnnData, reference: scim.Reference
) -> None:
    mixed = new.X.toarray()[:, np.random.default_rng(1).permutation(new.n_vars)]
    strange = anndata.AnnData(mixed, obs=new.obs[[]].copy(), var=new.var[[]].copy())
    with pytest.warns(UserWarning, match="95 % of comparable cells do. \\d+ are unassigned as novel"):
        scim.tl.annotate(strange, reference)
    assert (strange.obs["scim_label"] == "unassigned").mean() > 0.95
    assert strange.uns["scim"]["annotate"]["n_novel"] > 95
    with pytest.warns(UserWarning, match="0 are unassigned as novel"):
        scim.tl.annotate(strange, reference, max_novelty=1)
    assert strange.uns["scim"]["annotate"]["n_novel"] == 0
    with pytest.raises(ValueError, match="max_novelty"):
        scim.tl.annotate(strange, reference, max_novelty=2)


@pytest.mark.parametrize(
    "asked", [{"vote": "ontology"}, {"exclude": {"study": "first"}}, {"where": {"study": "first"}}]
)
def test_cells_of_no_kind_are_unassigned_by_a_vote_and_under_a_filter_too(
    new: anndata.AnnData, reference: scim.Reference, asked: dict
) -> None:
    mixed = new.X.toarray()[:, np.random.default_rng(1).permutation(new.n_vars)]
    strange = anndata.AnnData(mixed, obs=new.obs[[]].copy(), var=new.var[[]].copy())
    with pytest.warns(UserWarning, match="cells are well represented"):
        scim.tl.annotate(strange, reference, **asked)
    assert (strange.obs["scim_label"] == "unassigned").mean() > 0.95
    record = strange.uns["scim"]["annotate"]
    assert record["novelty"] == "expression" and record["n_novel"] > 95
    with pytest.warns(UserWarning, match="0 are unassigned as novel"):
        scim.tl.annotate(strange, reference, max_novelty=1, **asked)
    assert strange.uns["scim"]["annotate"]["n_novel"] == 0
    scim.tl.annotate(strange, reference, vote="majority")  # as SCimilarity, without a warning
    assert (strange.obs["scim_label"] != "unassigned").all()
    scim.tl.annotate(new, reference, **asked)
    assert new.uns["scim"]["annotate"]["n_novel"] < 10


def test_a_filter_fits_the_head_again(
    new: anndata.AnnData, blood: anndata.AnnData, reference: scim.Reference, encoder: scim.Encoder, tmp_path: Path
) -> None:
    scim.tl.annotate(new, reference, where={"study": "first"})
    record = new.uns["scim"]["annotate"]
    assert record["params"]["vote"] == "calibrated" and record["head"] == "within-study"
    assert new.obs["scim_confidence"].max() <= 0.9 + 1e-6
    # As a reference of these cells alone.
    only = blood[(blood.obs["study"] == "first").to_numpy() & ~np.isin(blood.obs_names, new.obs_names)]
    with pytest.warns(UserWarning, match="one study"):
        alone = scim.Reference.build(tmp_path / "one", only, encoder, labels_key="cell_type", study_key="study")
    same = scim.tl.annotate(new, alone, copy=True)
    agree = same.obs["scim_label"].astype(str).to_numpy() == new.obs["scim_label"].astype(str).to_numpy()
    assert agree.mean() > 0.8
    with pytest.raises(ValueError, match="Did you mean 'calibrated'"):
        scim.tl.annotate(new, reference, vote="calibated")


def test_a_filter_takes_the_vote_of_neighbours_without_landmarks(
    new: anndata.AnnData, blood: anndata.AnnData, encoder: scim.Encoder, tmp_path: Path
) -> None:
    made = scim.Reference.build(
        tmp_path / "r", blood, encoder, labels_key="cell_type", study_key="study", landmarks="none"
    )
    scim.tl.annotate(new, made, where={"study": "first"})
    assert new.uns["scim"]["annotate"]["params"]["vote"] == "ontology"
    with pytest.raises(ValueError, match="at least two labels among the landmarks"):
        scim.tl.annotate(new, made, where={"study": "first"}, vote="calibrated")


@pytest.mark.filterwarnings("ignore:.*labels that labels= leaves out")
def test_listed_labels_share_all_the_probability(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.annotate(new, reference, labels=["B cell", "natural killer cell"])
    scores = scim.get.scores(new)
    np.testing.assert_allclose(scores["B cell"] + scores["natural killer cell"], 1, atol=1e-5)
    assert set().union(*sets_of(new)) <= {"B cell", "natural killer cell"}


def test_cells_of_labels_that_are_not_listed_are_warned_of(new: anndata.AnnData, reference: scim.Reference) -> None:
    plain = scim.tl.annotate(new, reference, copy=True)
    is_b = (new.obs["cell_type"] == "B cell").to_numpy()
    with pytest.warns(UserWarning, match=r"of 100 cells are more like labels .* such as dendritic cell \(\d+\)"):
        scim.tl.annotate(new, reference, labels=["B cell"])
    n_others = new.uns["scim"]["annotate"]["n_of_other_labels"]
    assert n_others == pytest.approx((~is_b).sum(), abs=5)
    assert set(new.obs["scim_label"]) <= {"B cell", "unassigned"}
    # What is listed says nothing of what is unlike all of the reference.
    np.testing.assert_array_equal(new.obs["scim_novelty"], plain.obs["scim_novelty"])
    only = new[is_b].copy()
    scim.tl.annotate(only, reference, labels=["B cell"])  # without a warning
    assert only.uns["scim"]["annotate"]["n_of_other_labels"] <= 1


def test_cells_of_no_kind_are_novel_whatever_is_listed(new: anndata.AnnData, reference: scim.Reference) -> None:
    mixed = new.X.toarray()[:, np.random.default_rng(1).permutation(new.n_vars)]
    strange = anndata.AnnData(mixed, obs=new.obs[[]].copy(), var=new.var[[]].copy())
    with pytest.warns(UserWarning, match="well represented"):
        scim.tl.annotate(strange, reference, labels=["B cell"])
    assert (strange.obs["scim_label"] == "unassigned").mean() > 0.95


def test_fewer_genes_are_matched_by_landmarks(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.annotate(new, reference)
    whole = new.obs["scim_term_id"].astype(str).to_numpy()
    few = new[:, ::2].copy()
    del few.obsm["X_scim"], few.uns["scim"]
    scim.tl.annotate(few, reference)
    record = few.uns["scim"]["annotate"]
    assert record["panel_matched"] is True and record["n_novel"] < 10
    ontology = scim.CellOntology.bundled()
    above = [
        a == b or a in ontology.ancestors(b) or b in ontology.ancestors(a)
        for a, b in zip(few.obs["scim_term_id"].astype(str), whole, strict=True)
        if a and b
    ]
    assert np.mean(above) > 0.7


def test_what_an_embedding_without_a_record_was_made_of_is_found_out(
    new: anndata.AnnData, reference: scim.Reference
) -> None:
    few = new[:, ::2].copy()
    parts = [few[:40].copy(), few[40:].copy()]
    for part in parts:
        scim.tl.embed(part, reference)
    joined = anndata.concat(parts)  # drops uns, and so the record
    with pytest.warns(UserWarning, match="has no record of its encoder"):
        scim.tl.annotate(joined, reference)
    scim.tl.annotate(few, reference)
    record, own = joined.uns["scim"]["annotate"], few.uns["scim"]["annotate"]
    assert own["panel_matched"] and record["panel_matched"] and record["n_genes"] == own["n_genes"]
    assert joined.obs["scim_label"].astype(str).tolist() == few.obs["scim_label"].astype(str).tolist()
    # With other genes than before, the values no longer tell; nor do such that are none to embed.
    other = joined[:, : joined.n_vars // 2].copy()
    del other.uns["scim"]
    with pytest.warns(UserWarning, match="has no record of its encoder"):
        scim.tl.annotate(other, reference)
    assert other.uns["scim"]["annotate"]["panel_matched"] is False
    other.X = np.full(other.shape, 12.5, dtype="f4")
    del other.uns["scim"]
    with pytest.warns(UserWarning, match="has no record of its encoder"):
        cells = NewCells.read(other, reference, use_rep="X_scim", key="scim", layer=None)
    assert cells.origin.agreement == "unknown"


def test_genes_dropped_after_embedding_do_not_make_cells_novel(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.embed(new, reference)
    whole = scim.tl.annotate(new, reference, copy=True)
    few = new[:, ::4].copy()
    scim.tl.annotate(few, reference)
    record = few.uns["scim"]["annotate"]
    assert record["novelty"] == "expression" and record["n_novel"] < 10
    # The embedding is still that of all genes; only the similarity of expression is measured in fewer.
    assert record["panel_matched"] is False
    same = few.obs["scim_term_id"].astype(str) == whole.obs["scim_term_id"].astype(str)
    assert same[~(few.obs["scim_label"] == "unassigned")].mean() > 0.9


def test_genes_filtered_for_want_of_counts_are_measured(new: anndata.AnnData, reference: scim.Reference) -> None:
    counted = new.copy()
    depth = 400 / np.asarray(new.X.expm1().sum(axis=1))
    counted.X = sparse.csr_matrix(np.random.default_rng(0).poisson(new.X.expm1().toarray() * depth).astype("f4"))
    filtered = counted[:, np.asarray((counted.X > 0).sum(axis=0)).ravel() >= 3].copy()
    assert filtered.n_vars < 0.9 * counted.n_vars
    for adata in (counted, filtered):
        scim.tl.annotate(adata, reference)
    assert filtered.uns["scim"]["annotate"]["panel_matched"] is False
    same = filtered.obs["scim_term_id"].astype(str) == counted.obs["scim_term_id"].astype(str)
    assert same.mean() > 0.95


def test_without_values_novelty_is_told_by_distance(annotated: anndata.AnnData, reference: scim.Reference) -> None:
    alone = anndata.AnnData(np.full((100, 3), 0.5, dtype="f4"), obsm={"X_scim": annotated.obsm["X_scim"]})
    # The record names genes that are not in var, as after the matrix was replaced.
    genes = {"source": "var_names", "n_matched": 10, "n_encoder": 765}
    record = {"encoder_id": reference.encoder_id, "input": {"layer": "X"}, "genes": genes}
    for embed in ({"encoder_id": reference.encoder_id}, record):
        alone.uns["scim"] = {"embed": embed}
        scim.tl.annotate(alone, reference)
        assert alone.uns["scim"]["annotate"]["novelty"] == "distance"
    assert alone.obs[["scim_novelty", "scim_novelty_pvalue"]].stack().between(0, 1).all()


def test_one_study_does_not_tell_how_far_another_is(
    new: anndata.AnnData, blood: anndata.AnnData, encoder: scim.Encoder, tmp_path: Path
) -> None:
    only = blood[(blood.obs["study"] == "first").to_numpy()]
    with pytest.warns(UserWarning, match="one study"):
        made = scim.Reference.build(tmp_path / "one", only, encoder, labels_key="cell_type", study_key="study")
    mixed = new.X.toarray()[:, np.random.default_rng(1).permutation(new.n_vars)]
    strange = anndata.AnnData(mixed, obs=new.obs[[]].copy(), var=new.var[[]].copy())
    with pytest.warns(UserWarning, match="0 are unassigned as novel"):
        scim.tl.annotate(strange, made)
    assert strange.uns["scim"]["annotate"]["novelty"] == "distance"


def test_blocks_do_not_matter(new: anndata.AnnData, reference: scim.Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    one = scim.tl.annotate(new, reference, copy=True)
    monkeypatch.setattr(_cells, "_BLOCK_CELLS", 7)
    two = scim.tl.annotate(new, reference, copy=True)
    np.testing.assert_array_equal(one.obs["scim_novelty"], two.obs["scim_novelty"])


def test_the_bundled_reference_is_the_default(new: anndata.AnnData) -> None:
    assert {"blood", "human"} <= set(scim.references()["name"])
    with pytest.warns(UserWarning, match="of the encoder's 14,292 genes"):
        scim.tl.annotate(new)
    record = new.uns["scim"]["annotate"]
    assert record["reference"]["name"] == "human.scim" and record["panel_matched"] is True
    ontology = scim.CellOntology.bundled()
    pairs = zip(new.obs["cell_type"].astype(str), new.obs["scim_term_id"].astype(str), strict=True)
    # 654 variable genes of 14,292: many labels are wrong, as the warning says.
    fits = [given != "" and ontology.comparable(ontology.resolve(truth), given) for truth, given in pairs]
    assert np.mean(fits) > 0.6


@pytest.mark.parametrize("layer", ["counts", "it's mine"])
def test_values_of_a_layer_are_found_again(new: anndata.AnnData, reference: scim.Reference, layer: str) -> None:
    plain = scim.tl.annotate(new, reference, copy=True)
    new.layers[layer] = new.X.copy()
    new.X = new.X.toarray() - 1  # scaled, as it often is
    scim.tl.embed(new, reference, layer=layer)
    assert new.uns["scim"]["embed"]["input"]["layer"] == layer
    scim.tl.annotate(new, reference)
    assert new.uns["scim"]["annotate"]["novelty"] == "expression"
    np.testing.assert_allclose(new.obs["scim_novelty"], plain.obs["scim_novelty"], rtol=1e-5)


def test_a_label_that_only_a_panel_has_is_found_with_all_genes(
    encoder: scim.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_panels, "_MIN_GENES", 100)
    rng, genes = np.random.default_rng(0), np.asarray(encoder.genes.names).astype(str)
    kinds = {"T cell": 0, "B cell": 1, "natural killer cell": 2}
    profiles = rng.gamma(0.3, 2.0, (3, len(genes)))

    def study(names: list[str], columns: np.ndarray) -> anndata.AnnData:
        labels = np.repeat(names, 60)
        counts = rng.poisson(5 * profiles[[kinds[name] for name in labels]])[:, columns]
        made = anndata.AnnData(counts.astype("f4"))
        made.obs["label"], made.var_names = labels, genes[columns]
        return made

    panel = np.arange(len(genes)) % 4 == 0
    studies = {
        "all": study(["T cell", "B cell"], np.full(len(genes), True)),
        "few": study([*kinds], panel),
        "other": study(["T cell", "B cell"], np.full(len(genes), True)),
    }
    reference = scim.Reference.build(tmp_path / "r.scim", studies, encoder, labels_key="label")
    query = study([*kinds], np.full(len(genes), True))
    scim.tl.annotate(query, reference, max_novelty=1)
    record = query.uns["scim"]["annotate"]
    assert record["panel_labels"] == "natural killer cell" and record["panel_matched"] is False
    assert (query.obs["scim_finest_label"].astype(str) == query.obs["label"]).mean() > 0.95
    assert (query.obs["scim_label"].astype(str) == query.obs["label"]).mean() > 0.9
    np.testing.assert_allclose(query.obsm["X_scim"], encoder.embed(query), atol=1e-6)  # which stays as it is
    # Nothing but the embedding: it has to do.
    alone = anndata.AnnData(np.full((180, 2), 0.5, dtype="f4"), obsm={"X_scim": query.obsm["X_scim"]})
    alone.uns["scim"] = {"embed": {"encoder_id": reference.encoder_id}}
    with pytest.warns(
        UserWarning, match="rarely be labelled natural killer cell: only studies of r.scim that measured few genes"
    ):
        scim.tl.annotate(alone, reference, max_novelty=1)
    assert alone.uns["scim"]["annotate"]["n_genes"] == len(genes)
    # Scaled, or cut to variable genes, as cells are while one works: what was kept aside will do.
    for keep in ("counts", "raw"):
        worked = query.copy()
        if keep == "raw":
            worked.raw = worked.copy()
        else:
            worked.layers["counts"] = worked.X.copy()
        worked.X = worked.X - worked.X.mean(axis=0)
        worked = worked[:, : len(genes) // 2].copy() if keep == "raw" else worked
        del worked.obs["scim_label"]
        scim.tl.annotate(worked, reference, max_novelty=1)
        assert worked.uns["scim"]["annotate"]["panel_labels"] == record["panel_labels"]
        assert (worked.obs["scim_label"].astype(str) == query.obs["scim_label"].astype(str)).all()


def test_small_alpha_is_not_held_by_a_study_of_few_cells() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.uniform(0, 0.2, 400).astype("f4"), np.repeat([0, 1], 200).astype("i4")
    groups = np.where(np.arange(400) % 200 < 25, 1, 0).astype("i4")
    scale = Scale(np.array([np.inf]), np.ones(1), scores, labels, groups)
    sure = np.array([[0.99, 0.01]], "f4")
    for alpha in (0.1, 0.02, 0.003):  # the last with the cells of the other label
        assert scale.possible(sure, alpha=alpha, classes=np.array([0, 1])).tolist() == [[True, False]]
    assert scale.possible(sure, alpha=0.0, classes=np.array([0, 1])).all()


def test_an_empty_filter_is_none(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.annotate(new, reference, where={}, exclude={})
    assert new.uns["scim"]["annotate"]["params"]["vote"] == "calibrated"


def test_columns_of_others_are_not_written_over(new: anndata.AnnData, reference: scim.Reference) -> None:
    new.obs["mine_label"] = "mine"
    with pytest.raises(ValueError, match="'mine_label' already, which scim did not write"):
        scim.tl.annotate(new, reference, key_added="mine")
    assert (new.obs["mine_label"] == "mine").all() and "scim" not in new.uns
    del new.obs["mine_label"]
    for _ in range(2):
        scim.tl.annotate(new, reference, key_added="mine")


def test_cells_without_counts_are_told_of(new: anndata.AnnData, reference: scim.Reference) -> None:
    new.X = sparse.csr_matrix(new.shape, dtype="f4")
    with pytest.warns(UserWarning, match="None of the 100 cells has counts"):
        scim.tl.annotate(new, reference)


def test_the_bundled_reference_is_opened_once() -> None:
    assert scim.Reference.open("human")._now is scim.Reference.open(None)._now
    assert scim.Reference.open("human", verify="full")._now is not scim.Reference.open(None)._now


def test_logs_of_shallow_cells_are_no_more_novel_than_their_counts(
    new: anndata.AnnData, reference: scim.Reference
) -> None:
    sc.pp.downsample_counts(new, counts_per_cell=150, random_state=0)
    logged = new.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    for adata in (new, logged):
        scim.tl.annotate(adata, reference)
    np.testing.assert_allclose(logged.obs["scim_novelty"], new.obs["scim_novelty"], atol=0.02)
    assert logged.uns["scim"]["annotate"]["n_novel"] == new.uns["scim"]["annotate"]["n_novel"] < 10


def test_the_record_says_whether_novelty_is_of_what_a_filter_leaves(
    new: anndata.AnnData, reference: scim.Reference
) -> None:
    for where, filtered in (({"study": "first"}, False), ({"tissue": "blood"}, None)):
        scim.tl.annotate(new, reference, where=where)
        found = new.uns["scim"]["annotate"].get("novelty_filtered")
        assert isinstance(found, bool) and (filtered is None or found is filtered)
    scim.tl.annotate(new, reference, vote="ontology")
    assert "novelty_filtered" not in new.uns["scim"]["annotate"]
