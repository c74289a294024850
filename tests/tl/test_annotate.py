"""scim.tl.annotate: labels on the ontology, on every kind of object, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scim

COLUMNS = ["scim_label", "scim_term_id", "scim_confidence", "scim_finest_label", "scim_finest_probability"]
COLUMNS += ["scim_novelty", "scim_novelty_pvalue", "scim_set"]


def names_of(adata: anndata.AnnData) -> tuple[list[str], list[str], list[str]]:
    return list(adata.obs), list(adata.obsm), list(adata.uns)


def test_labels_agree_with_published_ones(new: anndata.AnnData, reference: scim.Reference) -> None:
    assert scim.tl.annotate(new, reference, k=15) is None
    ontology = scim.CellOntology.bundled()
    given, truth = new.obs["scim_term_id"].astype(str), new.obs["cell_type_ontology_term_id"].astype(str)
    right = [g == t or g in ontology.ancestors(t) for g, t in zip(given, truth, strict=True)]
    assert np.mean(right) > 0.7
    assert (given != "").mean() > 0.9


def test_writes_all_that_is_promised(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.annotate(new, reference, k=20, where={"tissue": ["blood"]})
    assert set(COLUMNS) <= set(new.obs)
    for column in ("scim_label", "scim_term_id"):
        assert isinstance(new.obs[column].dtype, pd.CategoricalDtype)
    assert new.obs["scim_confidence"].between(0, 1).all()
    for column in ("scim_finest_probability", "scim_novelty", "scim_novelty_pvalue"):
        assert new.obs[column].between(0, 1).all()
    assert "X_scim" in new.obsm and new.uns["scim"]["embed"]["encoder_id"] == reference.encoder.id
    record = new.uns["scim"]["annotate"]
    assert record["params"]["k"] == 20 and "tissue" in record["params"]["where"]
    assert record["reference"]["encoder_id"] == reference.encoder.id
    assert "cross-study" in record["reference"]["calibration"]


def test_label_is_the_most_specific_term_with_enough_votes(new: anndata.AnnData, reference: scim.Reference) -> None:
    least = 0.75
    scim.tl.annotate(new, reference, k=12, min_probability=least, vote="ontology")
    terms, vectors = reference.terms, new.obsm["X_scim"]
    hits = reference.search(vectors, 12)
    rank = terms.specificity()
    for i in range(0, new.n_obs, 7):
        width = np.median(hits.distances[i])
        weights = np.exp(-hits.distances[i].astype(float) / width)
        weights /= weights.sum()
        score = np.zeros(len(terms.terms))
        for weight, row in zip(weights, hits.indices[i], strict=True):
            score[terms.closure[reference.label_codes[row]]] += weight
        np.testing.assert_allclose(new.obsm["scim_scores"].iloc[i].to_numpy(), score, atol=1e-5)
        generic = [scim.CellOntology.bundled().is_generic(t) for t in terms.terms]
        enough = [t for t in range(len(score)) if score[t] >= least and not generic[t]]
        wanted = min(enough, key=lambda t: rank[t]) if enough else None
        assert new.obs["scim_term_id"].iloc[i] == ("" if wanted is None else terms.terms[wanted])
        assert new.obs["scim_label"].iloc[i] == ("unassigned" if wanted is None else terms.term_names[wanted])
        expected = 0 if wanted is None else score[wanted]
        assert new.obs["scim_confidence"].iloc[i] == pytest.approx(expected, abs=1e-5)


def test_sets_are_the_fewest_labels_with_enough_votes(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.annotate(new, reference, alpha=0.2, vote="ontology")
    hits = reference.search(new.obsm["X_scim"], 50)
    names = reference.terms.term_names[reference.terms.label_term]
    for i in range(0, new.n_obs, 9):
        weights = np.exp(-hits.distances[i].astype(float) / np.median(hits.distances[i]))
        votes = pd.Series(weights / weights.sum()).groupby(names[reference.label_codes[hits.indices[i]]]).sum()
        chosen = new.obs["scim_set"].iloc[i].split(";")
        assert votes[chosen].sum() >= 0.8 - 1e-4
        assert votes.sort_values(ascending=False).iloc[: len(chosen) - 1].sum() < 0.8


def test_a_larger_probability_is_more_careful(new: anndata.AnnData, reference: scim.Reference) -> None:
    depth = dict(zip(reference.terms.terms, reference.terms.n_below, strict=True)) | {"": 99}
    below = []
    for least in (0.95, 0.5):
        scim.tl.annotate(new, reference, min_probability=least)
        below.append(np.array([depth[t] for t in new.obs["scim_term_id"].astype(str)]))
        given = new.obs["scim_confidence"][(new.obs["scim_label"] != "unassigned").to_numpy()]
        assert given.min() >= min(least, 0.9) - 1e-4
    assert (below[0] >= below[1]).all() and (below[0] > below[1]).any()


def test_label_set_and_novelty_are_separate(new: anndata.AnnData, reference: scim.Reference) -> None:
    plain = scim.tl.annotate(new, reference, copy=True)
    other = scim.tl.annotate(new, reference, alpha=0.4, copy=True)
    for column in COLUMNS[:-1]:
        assert other.obs[column].equals(plain.obs[column])
    assert not other.obs["scim_set"].astype(str).equals(plain.obs["scim_set"].astype(str))
    # The finest label is at or below the label, and always there.
    terms = reference.terms
    place = {str(name): i for i, name in enumerate(terms.term_names)}
    label_of = dict(zip(map(str, terms.term_names[terms.label_term]), terms.closure, strict=True))
    for label, finest in zip(
        plain.obs["scim_label"].astype(str), plain.obs["scim_finest_label"].astype(str), strict=True
    ):
        assert finest in label_of
        if label != "unassigned" and label_of[finest][place[label]] == 0:
            assert plain.obs["scim_finest_probability"].min() < 0.5


def test_novelty_tells_strange_cells(new: anndata.AnnData, reference: scim.Reference) -> None:
    rng = np.random.default_rng(1)
    # The same counts in other genes: a cell of no kind.
    mixed = new.X.toarray()[:, rng.permutation(new.n_vars)]
    strange = anndata.AnnData(mixed, obs=new.obs[[]].copy(), var=new.var[[]].copy())
    scim.tl.annotate(new, reference)
    with pytest.warns(UserWarning, match=r"Only 0% of 100 cells are well represented in blood.scim"):
        scim.tl.annotate(strange, reference)
    assert strange.obs["scim_novelty_pvalue"].median() < 0.02 < new.obs["scim_novelty_pvalue"].median()
    assert strange.obs["scim_novelty"].median() > 0.75 > new.obs["scim_novelty"].quantile(0.9)
    assert strange.uns["scim"]["annotate"]["well_represented"] < 0.05
    assert new.uns["scim"]["annotate"]["well_represented"] > 0.8


def test_what_a_cell_gets_does_not_depend_on_others(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.annotate(new, reference)
    few = new[::3].copy()
    few.obs, few.uns = few.obs[[]], {}
    del few.obsm["X_scim"], few.obsm["scim_scores"]
    scim.tl.annotate(few, reference)
    for column in COLUMNS:
        if few.obs[column].dtype == "float32":
            np.testing.assert_allclose(few.obs[column], new.obs[column][::3], atol=1e-5)
        else:
            assert few.obs[column].astype(str).tolist() == new.obs[column][::3].astype(str).tolist()


def test_cells_of_hardly_a_count_are_unassigned(new: anndata.AnnData, reference: scim.Reference) -> None:
    counts = np.round(np.expm1(new.X.toarray()))
    counts[:5] = 0
    counts[np.arange(5), np.arange(5)] = [1, 2, 3, 4, 5]
    new.X = sparse.csr_matrix(counts.astype("f4"))
    with pytest.warns(UserWarning, match="5 of 100 cells have fewer than 50 counts"):
        scim.tl.annotate(new, reference)
    assert (new.obs["scim_label"][:5] == "unassigned").all() and (new.obs["scim_label"][5:] != "unassigned").all()
    assert (new.obs["scim_confidence"][:5] == 0).all()
    assert new.uns["scim"]["annotate"]["n_few_counts"] == 5


@pytest.mark.filterwarnings("ignore:.*fewer than 50 counts")
def test_cells_without_counts_are_kept_and_unassigned(new: anndata.AnnData, reference: scim.Reference) -> None:
    new.X = sparse.csr_matrix(np.vstack([np.zeros((2, new.n_vars)), new.X[2:].toarray()]).astype("f4"))
    scim.tl.annotate(new, reference)
    empty = new.obs.iloc[:2]
    assert (empty["scim_label"] == "unassigned").all() and (empty["scim_term_id"] == "").all()
    assert (empty["scim_confidence"] == 0).all() and (empty["scim_novelty"] == 0).all()
    assert (empty["scim_novelty_pvalue"] == 1).all()
    assert (empty["scim_set"] == "").all() and (empty["scim_finest_label"] == "").all()
    assert not new.obsm["scim_scores"].iloc[:2].to_numpy().any()
    assert not new.obs[COLUMNS].isna().any().any()


@pytest.mark.filterwarnings("ignore:.*labels that labels= leaves out")
def test_only_listed_labels_vote(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.annotate(new, reference, labels=["B cell", "CL:0000623"])
    assert set(new.obs["scim_label"]) <= {"B cell", "natural killer cell", "lymphocyte", "unassigned"}
    scim.tl.annotate(new, reference, labels=["T cell"])
    scores = scim.get.scores(new)
    assert scores["T cell"].min() > 0.999
    assert scores["B cell"].max() == 0


@pytest.mark.filterwarnings("ignore:.*labels that labels= leaves out")
@pytest.mark.parametrize("kind", [np.array, pd.Series, iter])
def test_listed_labels_may_be_any_sequence(new: anndata.AnnData, reference: scim.Reference, kind: object) -> None:
    scim.tl.annotate(new, reference, labels=kind(["B cell", "T cell"]))  # type: ignore[operator]
    assert new.uns["scim"]["annotate"]["params"]["labels"] == ["B cell", "T cell"]


def test_listed_labels_must_be_there(new: anndata.AnnData, reference: scim.Reference) -> None:
    before = names_of(new)
    with pytest.raises(KeyError, match="Did you mean 'B cell'"):
        scim.tl.annotate(new, reference, labels=["B cel"])
    for wrong in ("B cell", 5):
        with pytest.raises(TypeError, match=f"labels must be a list of terms, got {wrong!r}"):
            scim.tl.annotate(new, reference, labels=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labels is empty"):
        scim.tl.annotate(new, reference, labels=[])
    assert names_of(new) == before


def test_filters(new: anndata.AnnData, reference: scim.Reference) -> None:
    pc = pytest.importorskip("pyarrow.compute")
    scim.tl.annotate(new, reference, where={"study": "first"})
    scim.tl.annotate(new, reference, exclude={"study": ["second"]}, key_added="other")
    scim.tl.annotate(new, reference, where=pc.field("study") == "first", key_added="third")
    for key in ("other", "third"):
        np.testing.assert_allclose(new.obsm[f"{key}_scores"], new.obsm["scim_scores"], atol=1e-6)
    with pytest.raises(ValueError, match="Did you mean 'first'"):
        scim.tl.annotate(new, reference, where={"study": "fist"})
    with pytest.raises(KeyError, match="Did you mean 'study'"):
        scim.tl.annotate(new, reference, exclude={"sudy": "first"})
    with pytest.raises(ValueError, match="leave none"):
        scim.tl.annotate(new, reference, where={"study": "first"}, exclude={"study": "first"})


def test_labels_and_filter_that_leave_nothing(
    blood: anndata.AnnData, encoder: scim.Encoder, new: anndata.AnnData, tmp_path: Path
) -> None:
    b_cells = blood.obs["cell_type"] == "B cell"
    chosen = blood[(b_cells & (blood.obs["study"] == "first")) | (~b_cells & (blood.obs["study"] == "second"))]
    split = scim.Reference.build(tmp_path / "r", chosen, encoder, labels_key="cell_type", study_key="study")
    before = names_of(new)
    with pytest.raises(ValueError, match="filter and the choice of labels"):
        scim.tl.annotate(new, split, labels=["B cell"], where={"study": "second"})
    assert names_of(new) == before


def test_unlabelled_cells_do_not_vote(
    blood: anndata.AnnData, encoder: scim.Encoder, new: anndata.AnnData, tmp_path: Path
) -> None:
    some = blood.copy()
    unknown = np.arange(some.n_obs) % 2 == 0
    some.obs["label"] = some.obs["cell_type"].astype(object).where(~unknown, None)
    half = scim.Reference.build(tmp_path / "half", some, encoder, labels_key="label", study_key="study")
    labelled = scim.Reference.build(tmp_path / "lab", some[~unknown], encoder, labels_key="label", study_key="study")
    one, two = (scim.tl.annotate(new, r, k=20, copy=True) for r in (half, labelled))
    np.testing.assert_allclose(one.obsm["scim_scores"], two.obsm["scim_scores"], atol=1e-5)
    # Half of these cells are in the reference, with a label or without: their own label does not decide alone.
    assert one.obs["scim_confidence"].max() <= 1


def test_labels_outside_the_ontology_stand_for_themselves(
    blood: anndata.AnnData, encoder: scim.Encoder, new: anndata.AnnData, tmp_path: Path
) -> None:
    # Slashes are in these labels; files take them for folders.
    flat = scim.Reference.build(tmp_path / "flat", blood, encoder, labels_key="bulk_labels", study_key="study")
    scim.tl.annotate(new, flat, k=1, vote="ontology")
    assert (new.obs["scim_label"].astype(str) == new.obs["bulk_labels"].astype(str)).mean() > 0.95
    assert (new.obs["scim_label"].astype(str) == new.obs["scim_term_id"].astype(str)).all()
    assert not any("/" in column for column in new.obsm["scim_scores"])
    new.write_h5ad(tmp_path / "flat.h5ad")
    back = anndata.read_h5ad(tmp_path / "flat.h5ad")
    pd.testing.assert_frame_equal(back.obsm["scim_scores"], new.obsm["scim_scores"], check_names=False)


def test_generic_labels_are_never_given(
    blood: anndata.AnnData, encoder: scim.Encoder, new: anndata.AnnData, tmp_path: Path
) -> None:
    some = blood.copy()
    some.obs["label"] = np.where(some.obs["cell_type"] == "B cell", "B cell", "native cell")
    some.obs["label"] = some.obs["label"].replace("native cell", "cell")
    reference = scim.Reference.build(tmp_path / "r", some, encoder, labels_key="label", study_key="study")
    with pytest.warns(UserWarning, match="are well represented in r; the others have no label"):
        scim.tl.annotate(new, reference)
    assert set(new.obs["scim_label"]) == {"B cell", "unassigned"}
    share = new.uns["scim"]["annotate"]["well_represented"]
    assert share <= np.mean(new.obs["scim_label"] == "B cell") < 0.5


@pytest.mark.filterwarnings("ignore:.*labels that labels= leaves out")
@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_results_round_trip(new: anndata.AnnData, reference: scim.Reference, tmp_path: Path, suffix: str) -> None:
    scim.tl.annotate(new, reference, labels=["T cell", "B cell"], exclude={"sample": ["s1"]})
    path = tmp_path / f"out.{suffix}"
    if suffix == "zarr":
        new.write_zarr(path)
    else:
        new.write_h5ad(path)
    back = anndata.read_zarr(path) if suffix == "zarr" else anndata.read_h5ad(path)
    for column in COLUMNS:
        assert list(back.obs[column]) == list(new.obs[column])
    assert isinstance(back.obs["scim_label"].dtype, pd.CategoricalDtype)
    np.testing.assert_array_equal(back.obsm["scim_scores"].to_numpy(), new.obsm["scim_scores"].to_numpy())
    assert list(back.obsm["scim_scores"].columns) == list(new.obsm["scim_scores"].columns)
    assert back.uns["scim"]["annotate"]["params"]["alpha"] == 0.1
    # A file that was read back is known to be embedded by this encoder: no warning.
    scim.tl.annotate(back, reference, labels=["T cell", "B cell"], exclude={"sample": ["s1"]}, key_added="again")
    np.testing.assert_allclose(back.obsm["again_scores"], new.obsm["scim_scores"], atol=1e-6)


def test_an_embedding_of_another_encoder_is_made_anew(new: anndata.AnnData, reference: scim.Reference) -> None:
    weights = {name: -array for name, array in reference.encoder.weights.items()}
    scim.tl.embed(new, encoder=scim.Encoder(reference.encoder.genes, weights))
    other, before = new.obsm["X_scim"].copy(), names_of(new)
    with pytest.raises(ValueError, match="made by encoder .*Leave use_rep= out: the cells are then embedded"):
        scim.tl.annotate(new, reference, use_rep="X_scim")
    assert names_of(new) == before
    fresh = new.copy()
    del fresh.obsm["X_scim"]
    del fresh.uns["scim"]
    scim.tl.annotate(fresh, reference)
    # Under a name of its own beside it, or in its place.
    scim.tl.annotate(new, reference, key_added="own")
    np.testing.assert_array_equal(new.obsm["X_scim"], other)
    np.testing.assert_array_equal(new.obsm["X_own"], fresh.obsm["X_scim"])
    assert new.uns["own"]["embed"]["encoder_id"] == reference.encoder_id
    assert new.uns["own"]["annotate"]["params"]["use_rep"] == "X_own"
    scim.tl.annotate(new, reference)
    np.testing.assert_array_equal(new.obsm["X_scim"], fresh.obsm["X_scim"])
    assert new.uns["scim"]["embed"]["encoder_id"] == reference.encoder_id
    for key in ("own", "scim"):
        assert new.obs[f"{key}_label"].astype(str).tolist() == fresh.obs["scim_label"].astype(str).tolist()


def test_the_usual_embedding_serves_other_keys(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.annotate(new, reference)
    scim.tl.annotate(new, reference, key_added="strict", min_probability=0.9)
    assert "X_strict" not in new.obsm and new.uns["strict"]["annotate"]["params"]["use_rep"] == "X_scim"


def test_an_embedding_of_unknown_origin(new: anndata.AnnData, reference: scim.Reference) -> None:
    new.obsm["X_mine"] = 3 * reference.encoder.embed(new)
    with pytest.warns(UserWarning, match="no record of its encoder"):
        scim.tl.annotate(new, reference, use_rep="X_mine")
    own = scim.tl.annotate(new, reference, copy=True)
    np.testing.assert_allclose(new.obsm["scim_scores"], own.obsm["scim_scores"], atol=1e-4)
    new.obsm["X_narrow"] = new.obsm["X_mine"][:, :3]
    with pytest.raises(ValueError, match="makes vectors of 16"):
        scim.tl.annotate(new, reference, use_rep="X_narrow")
    new.obsm["X_nan"] = np.full_like(new.obsm["X_mine"], np.nan)
    with pytest.raises(ValueError, match="NaN"):
        scim.tl.annotate(new, reference, use_rep="X_nan")
    with pytest.raises(KeyError, match="Did you mean 'X_mine'"):
        scim.tl.annotate(new, reference, use_rep="X_mines")


def test_a_layer_that_is_not_used_is_said(new: anndata.AnnData, reference: scim.Reference) -> None:
    new.layers["again"] = new.X.copy()
    scim.tl.annotate(new, reference, layer="again")
    scim.tl.annotate(new, reference, layer="again")
    with pytest.warns(UserWarning, match="layer='X' is not used, because"):
        scim.tl.annotate(new, reference, layer="X")


def test_consensus_averages_over_near_cells(new: anndata.AnnData, reference: scim.Reference) -> None:
    plain = scim.tl.annotate(new, reference, copy=True)
    scim.tl.annotate(new, reference, consensus=5)
    vectors, scores = new.obsm["X_scim"], plain.obsm["scim_scores"].to_numpy()
    near = np.argsort(-vectors @ vectors.T, axis=1, kind="stable")[:, :6]
    np.testing.assert_allclose(new.obsm["scim_scores"].to_numpy(), scores[near].mean(axis=1), atol=2e-3)
    assert new.uns["scim"]["annotate"]["params"]["consensus"] == 5
    with pytest.raises(ValueError, match="consensus averages probabilities"):
        scim.tl.annotate(new, reference, consensus=5, vote="ontology")


@pytest.mark.filterwarnings("ignore:.*fewer than 50 counts")
def test_empty_droplets_change_no_consensus_and_no_group(new: anndata.AnnData, reference: scim.Reference) -> None:
    counts = np.round(np.expm1(new.X.toarray()))
    alone = new[:60].copy()
    alone.X = sparse.csr_matrix(counts[:60].astype("f4"))
    counts[60:] = 0
    counts[np.arange(60, 100), np.arange(40)] = 5
    new.X = sparse.csr_matrix(counts.astype("f4"))
    new.obs["leiden"] = np.repeat(["cells", "droplets"], [60, 40])
    scim.tl.annotate(alone, reference, consensus=7)
    scim.tl.annotate(new, reference, consensus=7, by="leiden")
    np.testing.assert_allclose(new.obsm["scim_scores"][:60], alone.obsm["scim_scores"], atol=1e-5)
    droplets = scim.get.clusters(new, group="droplets").iloc[0]
    assert droplets["label"] == "unassigned" and droplets["confidence"] == 0


def test_labels_that_no_study_tested_have_a_bounded_confidence(
    new: anndata.AnnData, blood: anndata.AnnData, encoder: scim.Encoder, tmp_path: Path
) -> None:
    monocytes = (blood.obs["cell_type"] == "CD14-positive monocyte").to_numpy()
    some = blood[~monocytes | (blood.obs["study"] == "first").to_numpy()]
    made = scim.Reference.build(tmp_path / "r", some, encoder, labels_key="cell_type", study_key="study")
    scim.tl.annotate(new, made)  # without a warning: few cells have such a label
    mine = (new.obs["scim_label"] == "CD14-positive monocyte").to_numpy()
    assert mine.sum() > 5 and new.obs["scim_confidence"][mine].max() == pytest.approx(0.9)
    assert new.obs["scim_finest_probability"][mine].max() > 0.9
    alone = new[mine].copy()
    if len(alone) >= 20:
        with pytest.warns(UserWarning, match="could not be tested, such as CD14-positive monocyte"):
            scim.tl.annotate(alone, made)


def test_more_neighbours_than_cells(new: anndata.AnnData, reference: scim.Reference) -> None:
    with pytest.warns(UserWarning, match="k=1000 is more than"):
        scim.tl.annotate(new, reference, k=1000, vote="ontology")
    assert new.obsm["scim_scores"].to_numpy().max() <= 1 + 1e-5


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"k": 0}, ValueError), ({"k": 2.5}, TypeError), ({"alpha": 0.7}, ValueError), ({"alpha": -0.1}, ValueError)]
    + [
        ({"min_probability": 0.4}, ValueError),
        ({"max_novelty": 2}, ValueError),
        ({"consensus": -1}, ValueError),
        ({"consensus": None}, TypeError),
        ({"tissue": 3}, TypeError),
    ],
)
def test_numbers_out_of_range(
    new: anndata.AnnData, reference: scim.Reference, arguments: dict[str, float], error: type[Exception]
) -> None:
    before = names_of(new)
    with pytest.raises(error, match=next(iter(arguments))):
        scim.tl.annotate(new, reference, **arguments)
    assert names_of(new) == before


def test_copy_view_backed_and_dask(
    blood: anndata.AnnData, held_out: np.ndarray, new: anndata.AnnData, reference: scim.Reference, h5ad: Path
) -> None:
    da = pytest.importorskip("dask.array")
    wanted = scim.tl.annotate(new, reference, copy=True)
    assert "scim_label" not in new.obs and "X_scim" not in new.obsm and "scim" not in new.uns
    view = blood[held_out]
    scim.tl.annotate(view, reference)
    backed = anndata.read_h5ad(h5ad, backed="r")
    scim.tl.annotate(backed, reference)
    lazy = new.copy()
    lazy.X = da.from_array(new.X.toarray(), chunks=(30, -1))
    scim.tl.annotate(lazy, reference)
    for other in (view, backed, lazy):
        assert list(other.obs["scim_label"]) == list(wanted.obs["scim_label"])
    assert "scim_label" not in blood.obs
    with pytest.raises(ValueError, match="view of a backed file"):
        scim.tl.annotate(backed[:5], reference)
    backed.file.close()


def test_mudata_writes_to_the_modality(new: anndata.AnnData, reference: scim.Reference) -> None:
    mudata = pytest.importorskip("mudata")
    data = mudata.MuData({"rna": new})
    scim.tl.annotate(data, reference)
    assert "scim_label" in data.mod["rna"].obs
    assert scim.get.scores(data, mod="rna").shape[0] == new.n_obs


def test_statistics_of_an_earlier_vote_do_not_stay(new: anndata.AnnData, reference: scim.Reference) -> None:
    new.obsm["mine_votes"] = np.zeros((new.n_obs, 2))
    for _ in range(2):
        scim.tl.annotate(new, reference, key_added="mine")
    assert new.obsm["mine_votes"].shape == (new.n_obs, 2)  # somebody else's
    scim.tl.annotate(new, reference, vote="majority")
    assert "vsAll" in new.obsm["scim_votes"]
    scim.tl.annotate(new, reference)
    assert "scim_votes" not in new.obsm and "scim_scores" in new.obsm


def test_a_view_of_annotated_cells_goes_on(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.annotate(new, reference)
    part = new[new.obs["scim_confidence"] > 0.5]
    scim.tl.annotate(part, reference, k=5, key_added="five")
    assert part.obs["five_label"].notna().all() and "five_label" not in new.obs


@pytest.mark.parametrize("key", ["", " ", "a/b", 3])
def test_names_that_files_cannot_hold_are_refused(new: anndata.AnnData, reference: scim.Reference, key: object) -> None:
    for verb in (scim.tl.annotate, scim.tl.embed, scim.tl.query):
        with pytest.raises(ValueError, match="key_added must be a name without a slash"):
            verb(new, reference, key_added=key)


def test_labels_that_differ_by_a_slash_only(
    new: anndata.AnnData, blood: anndata.AnnData, encoder: scim.Encoder, tmp_path: Path
) -> None:
    cells = blood[:200].copy()
    cells.obs["l"] = np.where(np.arange(200) % 2, "x/y", "x|y")
    with pytest.warns(UserWarning, match="one study"):
        reference = scim.Reference.build(tmp_path / "r.scim", cells, encoder, labels_key="l")
    scim.tl.annotate(new, reference)
    assert new.obsm["scim_scores"].columns.is_unique
    new.write_h5ad(tmp_path / "new.h5ad")
