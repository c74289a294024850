"""What a model is trained on: values, genes, labels and studies, and what is said where they fall short."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import scim
from scim.model import SCIM

QUICK = {"accelerator": "cpu", "enable_progress_bar": False}
pytestmark = pytest.mark.usefixtures("one_thread")


def set_up(adata: ad.AnnData) -> SCIM:
    SCIM.setup_anndata(adata, labels_key="cell_type", batch_key="study")
    return SCIM(adata, n_hidden=[32], n_latent=8)


def test_counts_and_their_logarithms_train_the_same_kind_of_model(counts: ad.AnnData) -> None:
    model = set_up(counts)
    assert model.inputs.kind.kind == "counts"
    model.train(max_epochs=1, **QUICK)
    assert np.isfinite(model.get_latent_representation()).all()


@pytest.mark.filterwarnings("ignore:Training will be faster:UserWarning")  # scvi-tools, of CSC
def test_format_of_x_does_not_matter(counts: ad.AnnData) -> None:
    weights = []
    for form in (np.asarray, sp.csr_matrix, sp.csr_array, sp.csc_matrix):
        adata = counts.copy()
        adata.X = form(counts.X)
        model = set_up(adata)
        model.train(max_epochs=1, **QUICK)
        weights.append(model.module.encoder_weights()["output.weight"])
    for other in weights[1:]:
        np.testing.assert_allclose(other, weights[0], atol=1e-6)


def test_layer(counts: ad.AnnData) -> None:
    counts.layers["mine"] = counts.X.copy()
    counts.X = counts.X - 1  # scaled data, of no use
    SCIM.setup_anndata(counts, labels_key="cell_type", batch_key="study", layer="mine")
    model = SCIM(counts, n_hidden=[16], n_latent=4)
    model.train(max_epochs=1, **QUICK)
    assert model.get_latent_representation().shape == (210, 4)


def test_reconstruction_leaves_out_genes_that_a_study_did_not_measure(few: ad.AnnData) -> None:
    studies = {name: few[few.obs["study"] == name].copy() for name in ("first", "second", "third")}
    studies["second"] = studies["second"][:, :500].copy()
    for part in studies.values():
        del part.obs["study"]
    merged = scim.pp.merge_studies(studies, study_key="study")
    model = set_up(merged)
    measured = pd.DataFrame(merged.varm["scim_measured"]).loc[list(model.inputs.genes.names)]
    np.testing.assert_array_equal(model.inputs.measured, measured[["first", "second", "third"]].to_numpy().T)
    module = model.module.eval()
    target, profile = torch.zeros(2, len(model.inputs.genes)), torch.ones(2, len(model.inputs.genes))
    unmeasured = torch.from_numpy(~model.inputs.measured[1])
    profile[1, unmeasured] = 100.0  # second study: whatever is predicted there does not count
    loss = module._reconstruction(target, profile, torch.tensor([0, 1]), None)
    assert loss.item() == pytest.approx(1.0)
    assert module._reconstruction(target, profile, torch.tensor([0, 0]), None).item() > 100
    model.train(max_epochs=1, **QUICK)


def test_measured_genes_under_another_key_are_warned_about(few: ad.AnnData) -> None:
    adata = few.copy()
    adata.varm["scim_measured"] = pd.DataFrame({"elsewhere": True}, index=adata.var_names)
    with pytest.warns(UserWarning, match="scim_measured.*'first'"):
        model = set_up(adata)
    assert model.inputs.measured is None


def test_cells_without_a_label_train_the_reconstruction_only(few: ad.AnnData) -> None:
    adata = few.copy()
    labels = adata.obs["cell_type"].astype(object)
    labels.iloc[::4] = np.nan
    labels.iloc[1::50] = ""
    labels.iloc[2::50] = "no idea"
    adata.obs["cell_type"] = labels
    SCIM.setup_anndata(adata, labels_key="cell_type", batch_key="study", unlabeled_category="no idea")
    model = SCIM(adata, n_hidden=[16], n_latent=4)
    missing = labels.isna() | labels.isin(["", "no idea"])
    np.testing.assert_array_equal(model.inputs.labels < 0, missing)
    model.train(max_epochs=1, **QUICK)
    assert model.training_["n_labelled_cells"] == int((~missing).sum())


def test_labels_of_the_ontology_and_others(few: ad.AnnData) -> None:
    adata = few.copy()
    adata.obs["cell_type"] = np.resize(["T cell", "CL:0000084", "CD8-positive, alpha-beta T cell", "my cells"], 210)
    model = set_up(adata)
    ids = list(model.inputs.terms.label_ids)
    assert sorted(ids) == ["CL:0000084", "CL:0000625", "my cells"]
    t_cell, cd8, mine = (ids.index(term) for term in ("CL:0000084", "CL:0000625", "my cells"))
    # Every study uses both: its "T cell" are the others.
    assert not model.module.comparable[t_cell, cd8]
    assert not model.module.comparable[t_cell, mine]
    assert model.inputs.descends[t_cell, cd8]
    assert not model.inputs.descends[cd8, t_cell]
    assert (model.inputs.labels[:2] == t_cell).all()


def test_a_broader_label_of_other_studies_is_no_rival(few: ad.AnnData) -> None:
    adata = few.copy()
    first = adata.obs["study"].astype(str) == str(adata.obs["study"].iloc[0])
    adata.obs["cell_type"] = np.where(first, "T cell", "CD8-positive, alpha-beta T cell")
    adata.obs.loc[~first & (np.arange(210) % 2 == 0), "cell_type"] = "B cell"
    model = set_up(adata)
    ids = list(model.inputs.terms.label_ids)
    assert model.module.comparable[ids.index("CL:0000084"), ids.index("CL:0000625")]


def test_labels_that_no_ontology_knows_are_flat(few: ad.AnnData) -> None:
    adata = few.copy()
    adata.obs["cell_type"] = np.resize(["cluster 1", "cluster 2"], 210)
    model = set_up(adata)
    assert not (model.module.comparable ^ np.eye(2, dtype=bool)).any()


def test_genes_that_hardly_any_cell_expresses_are_left_out(few: ad.AnnData) -> None:
    adata = few.copy()
    X = adata.X.tolil()
    X[:, 3] = 0
    X[5, 3] = 1.0
    adata.X = X.tocsr()
    model = set_up(adata)
    assert adata.var_names[3] not in model.inputs.genes
    expressing = np.asarray((adata.X > 0).sum(axis=0)).ravel()
    assert list(model.inputs.genes.names) == list(adata.var_names[expressing >= 3])
    model.train(max_epochs=1, **QUICK)
    assert model.to_encoder().genes == model.inputs.genes


def test_one_label_is_warned_about_and_trains_the_reconstruction(few: ad.AnnData) -> None:
    adata = few.copy()
    adata.obs["cell_type"] = "B cell"
    model = set_up(adata)
    with pytest.warns(UserWarning, match="No two labels exclude each other"):
        model.train(max_epochs=1, **QUICK)
    assert float(model.history["triplet_loss_train"].iloc[0, 0]) == 0


def test_label_with_one_cell_is_warned_about(few: ad.AnnData) -> None:
    adata = few.copy()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str)
    adata.obs.iloc[0, adata.obs.columns.get_loc("cell_type")] = "platelet"
    model = set_up(adata)
    with pytest.warns(UserWarning, match="one cell.*'platelet'"):
        model.train(max_epochs=1, **QUICK)


def test_nothing_is_warned_about_where_all_is_well(few: ad.AnnData) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        set_up(few.copy()).train(max_epochs=1, **QUICK)


def test_no_label_at_all(few: ad.AnnData) -> None:
    adata = few.copy()
    adata.obs["cell_type"] = np.nan
    SCIM.setup_anndata(adata, labels_key="cell_type")
    with pytest.raises(ValueError, match="No cell has a label"):
        SCIM(adata)


def test_scaled_data_are_refused(few: ad.AnnData) -> None:
    adata = few.copy()
    adata.X = adata.X.toarray() - 0.5
    SCIM.setup_anndata(adata, labels_key="cell_type")
    with pytest.raises(ValueError, match="negative"):
        SCIM(adata)


def test_antibodies_are_no_genes_of_a_model(counts: ad.AnnData) -> None:
    protein = sp.csr_matrix(np.full((counts.n_obs, 2), 900.0, dtype=np.float32))
    kinds = ["Gene Expression"] * counts.n_vars + ["Antibody Capture"] * 2
    var = pd.DataFrame({"feature_types": kinds}, index=[*counts.var_names, "cd3e", "anti-x"])
    cite = ad.AnnData(sp.hstack([sp.csr_matrix(counts.X), protein], format="csr"), obs=counts.obs, var=var)
    plain = set_up(counts).inputs
    with pytest.warns(UserWarning, match="no genes are left out .*2 Antibody Capture"):
        inputs = set_up(cite).inputs
    assert inputs.genes == plain.genes
    assert inputs.gene_map.target[-2:].tolist() == [-1, -1]
    np.testing.assert_allclose(inputs.gene_weights, plain.gene_weights)


def test_labels_by_synonym_are_reported(counts: ad.AnnData) -> None:
    counts.obs["cell_type"] = counts.obs["cell_type"].astype(str).replace({"B cell": "B lymphocyte"})
    with pytest.warns(UserWarning, match=r"taken by synonym.*: 'B lymphocyte' \(B cell\)"):
        model = set_up(counts)
    assert "B cell" in model.inputs.label_names
