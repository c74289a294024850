"""Training, what it leaves, and what it refuses."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch

import scim
from scim.model import SCIM
from scim.model._augment import SparseBatch

QUICK = {"accelerator": "cpu", "enable_progress_bar": False}
pytestmark = pytest.mark.usefixtures("one_thread")


def set_up(adata: ad.AnnData, **kwargs: object) -> SCIM:
    SCIM.setup_anndata(adata, labels_key="cell_type", batch_key="study")
    return SCIM(adata, n_hidden=[32], n_latent=8, **kwargs)


@pytest.fixture(scope="module")
def trained(blood: ad.AnnData) -> SCIM:
    model = set_up(blood.copy())
    model.train(max_epochs=4, train_size=0.9, **QUICK)
    return model


def nearest_labels_agree(z: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    nearest = (z[test] @ z[train].T).argmax(axis=1)
    return float(np.mean(labels[train][nearest] == labels[test]))


def test_kernels_load_without_scvi() -> None:
    code = "import sys, scim.model._mining; sys.exit('scvi' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
def test_kernels_leave_the_number_of_threads_alone() -> None:
    """Numba's parallel functions set it for the whole process: another training would round differently."""
    code = """
import numpy as np, scipy.sparse as sp, torch
from scim.counts import InputKind
from scim.labels import doubtful_labels
from scim.model._augment import SparseBatch
from scim.model._mining import MiningOptions, mine_triplets
from scim.model._sparse_linear import GeneLinear
torch.set_num_threads(1)
rows, codes = torch.arange(100), np.arange(100) % 2
GeneLinear(100, 4)(SparseBatch(torch.ones(100), rows, rows, torch.ones(100), 100), torch.ones(100)).sum().backward()
mine_triplets(np.eye(100, dtype=np.float32), codes, codes, np.eye(2, dtype=bool), MiningOptions(positives="any"))
X = sp.random(100, 50, 0.5, format="csr", dtype=np.float32)
doubtful_labels(X, codes, codes * 0, np.eye(2, dtype=bool), InputKind("log1p", 1e4, ""), seed=0)
print(torch.get_num_threads())
"""
    env = os.environ | {"NUMBA_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "1"


def test_training_by_default_separates_real_cells_of_a_single_study() -> None:
    adata = scim.datasets.pbmc68k()
    SCIM.setup_anndata(adata, labels_key="cell_type")
    model = SCIM(adata)
    with pytest.warns(UserWarning, match="one study"):
        model.train(max_epochs=12, train_size=0.9, **QUICK)
    z = model.get_latent_representation()
    held_out = np.asarray(model.validation_indices)
    labels = adata.obs["cell_type"].astype(str).to_numpy()
    assert nearest_labels_agree(z, labels, np.asarray(model.train_indices), held_out) > 0.6
    silhouette = model.history["silhouette_validation"]["silhouette_validation"].astype(float)
    assert silhouette.max() > silhouette.iloc[0] + 0.1


def test_history_holds_what_is_promised(trained: SCIM) -> None:
    parts = ["triplet_loss", "reconstruction_loss", "triplets_mined", "triplets_active"]
    for side in ("train", "validation"):
        assert f"{side}_loss" in trained.history
        for part in parts:
            values = trained.history[f"{part}_{side}"][f"{part}_{side}"].astype(float)
            assert len(values) == 4
            assert np.isfinite(values).all()
    assert (trained.history["triplets_mined_train"]["triplets_mined_train"].astype(float) > 0).all()
    assert "silhouette_validation" in trained.history


def test_embedding_is_that_of_the_network_and_of_the_encoder(trained: SCIM) -> None:
    z = trained.to_encoder().embed(trained.adata, precision="fp32")
    assert z.dtype == np.float32
    assert z.shape == (trained.adata.n_obs, 8)
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    trained.module.cpu().eval()
    columns = [trained.adata.var_names.get_loc(g) for g in trained.inputs.genes.names]
    with torch.no_grad():
        X = np.expm1(trained.adata.X.tocsr()[:, columns].toarray().astype(np.float64))
        X = sp.coo_matrix(np.log1p(X / X.sum(axis=1, keepdims=True) * 1e4).astype(np.float32))
        batch = SparseBatch(
            *map(torch.from_numpy, (X.data, X.row, X.col.astype(np.int64), X.sum(axis=1).A1)), X.shape[1]
        )
        own = trained.module.embed(batch, batch.values)
    np.testing.assert_allclose(z, own.numpy(), atol=1e-4)
    automatic = trained.to_encoder().embed(trained.adata)
    np.testing.assert_array_equal(trained.get_latent_representation(), automatic)


def test_genes_of_a_query_are_aligned_by_name(trained: SCIM) -> None:
    z = trained.get_latent_representation()
    shuffled = trained.adata[:, ::-1].copy()
    np.testing.assert_allclose(trained.get_latent_representation(shuffled), z, atol=1e-5)


def test_provenance_says_where_the_encoder_comes_from(trained: SCIM) -> None:
    provenance = trained.to_encoder().provenance
    assert provenance["studies"] == ["first", "second", "third"]
    assert provenance["n_cells"] == 700
    assert provenance["epochs"] == 4
    assert provenance["seed"] == 0
    assert provenance["scim_version"] == scim.__version__
    assert "B cell" in provenance["label_names"]
    assert "CL:0000236" in provenance["labels"]
    assert provenance["ontology_version"] == scim.CellOntology.bundled().version
    json.dumps(provenance)


def test_same_seed_same_weights(few: ad.AnnData) -> None:
    runs = []
    torch.set_num_threads(2)
    try:
        for seed in (3, 3, 4):
            torch.manual_seed(len(runs))  # the caller's random state does not matter
            model = set_up(few.copy(), seed=seed)
            model.train(max_epochs=2, **QUICK)
            runs.append(model.module.encoder_weights()["output.weight"])
    finally:
        torch.set_num_threads(1)
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


@pytest.fixture(scope="module")
def untrained(few: ad.AnnData) -> SCIM:
    """A model for what is refused before training begins."""
    return set_up(few.copy())


@pytest.mark.parametrize("loss", ["triplet", "classes"])
def test_half_precision_trains_about_the_same(few: ad.AnnData, loss: str) -> None:
    vectors, plan = {}, {"class_weight": 0.0 if loss == "triplet" else 2.0}
    for precision in ("32-true", "bf16-mixed"):
        model = set_up(few.copy(), seed=0)
        model.train(max_epochs=3, precision=precision, plan_kwargs=plan, **QUICK)
        assert model.module.encoder_weights()["output.weight"].dtype == np.float32
        vectors[precision] = model.get_latent_representation()
    cosine = (vectors["32-true"] * vectors["bf16-mixed"]).sum(axis=1)
    assert 0.9 < np.quantile(cosine, 0.01) < 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_epochs": 0}, "max_epochs must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"lr": "fast"}, "lr must be a number"),
        ({"plan_kwargs": {"temperature": 0}}, "temperature must lie from"),
        ({"plan_kwargs": {"class_weight": True}}, "must be a number"),
    ],
)
def test_wrong_options_of_training_are_named(untrained: SCIM, options: dict, text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        untrained.train(**options, **QUICK)


def test_training_leaves_the_callers_random_state_alone(few: ad.AnnData) -> None:
    model = set_up(few.copy())
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    model.train(max_epochs=1, **QUICK)
    assert torch.equal(torch.rand(1), expected)


def test_save_and_load(trained: SCIM, tmp_path: object) -> None:
    trained.save(f"{tmp_path}/model")
    loaded = SCIM.load(f"{tmp_path}/model", adata=trained.adata, accelerator="cpu")
    z = trained.get_latent_representation()
    np.testing.assert_allclose(loaded.get_latent_representation(), z, atol=1e-6)
    assert set(loaded.history) == set(trained.history)
    assert loaded.to_encoder().id == trained.to_encoder().id
    assert loaded.to_encoder().provenance == trained.to_encoder().provenance

    bare = SCIM.load(f"{tmp_path}/model", adata=False, accelerator="cpu")
    np.testing.assert_allclose(bare.get_latent_representation(trained.adata), z, atol=1e-6)
    with pytest.raises(ValueError, match="loaded without data"):
        bare.train(max_epochs=1)
    with pytest.raises(ValueError, match="loaded without data"):
        bare.get_latent_representation()


def test_what_is_saved_is_plain(trained: SCIM) -> None:
    saved = {name: value for name, value in vars(trained).items() if name.endswith("_")}
    json.dumps(trained.training_)
    json.dumps(trained.init_params_["non_kwargs"]["ontology"])
    assert len(pickle.dumps(saved)) < 1_000_000


def test_training_goes_on_where_it_stopped(few: ad.AnnData) -> None:
    model = set_up(few.copy())
    model.train(max_epochs=1, **QUICK)
    model.train(max_epochs=2, **QUICK)
    assert len(model.history["train_loss"]) == 3
    assert model.training_["epochs"] == 3


def test_whole_studies_can_validate(few: ad.AnnData) -> None:
    model = set_up(few.copy())
    model.train(max_epochs=1, validation_studies="second", **QUICK)
    assert (model.adata.obs["study"].to_numpy()[model.validation_indices] == "second").all()
    assert model.training_["held_out_studies"] == ["second"]


def test_without_validation(few: ad.AnnData) -> None:
    model = set_up(few.copy())
    model.train(max_epochs=1, **QUICK)
    assert "validation_loss" not in model.history
    assert len(model.validation_indices) == 0


def test_early_stopping(few: ad.AnnData) -> None:
    model = set_up(few.copy())
    model.train(max_epochs=50, early_stopping=True, early_stopping_patience=1, lr=1e-8, **QUICK)
    assert model.training_["epochs"] < 50 and model.training_["best_epoch"] is not None


def test_training_goes_on_to_the_end(few: ad.AnnData) -> None:
    model = set_up(few.copy())
    # The validation loss rises and falls at this rate, and would stop a training that may stop early.
    model.train(max_epochs=30, train_size=0.9, early_stopping_patience=1, lr=1e-8, **QUICK)
    losses = model.history["validation_loss"]["validation_loss"].astype(float)
    assert (losses.diff() > 0).any()
    assert model.training_["epochs"] == 30 and model.training_["best_epoch"] is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"triplet_weight": 2}, ValueError, "triplet_weight must lie from 0 to 1"),
        ({"n_latent": 1}, ValueError, "n_latent must be at least 2"),
        ({"n_hidden": []}, ValueError, "n_hidden is empty"),
        ({"dropout_input": 1.0}, ValueError, "dropout_input must lie"),
        ({"ontology": "bundeld"}, ValueError, "Did you mean 'bundled'"),
        ({"min_cells": 701}, ValueError, "nothing to learn"),
    ],
)
def test_arguments_of_the_model(blood: ad.AnnData, arguments: dict, error: type, message: str) -> None:
    adata = blood.copy()
    adata.X = sp.csr_matrix((adata.n_obs, adata.n_vars), dtype=np.float32) if "min_cells" in arguments else adata.X
    SCIM.setup_anndata(adata, labels_key="cell_type")
    with pytest.raises(error, match=message):
        SCIM(adata, **arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"plan_kwargs": {"triplet_wieght": 1}}, TypeError, "Did you mean 'triplet_weight'"),
        ({"plan_kwargs": {"strategy": "semi-hard"}}, ValueError, "Did you mean 'semihard'"),
        ({"validation_studies": "secnd"}, KeyError, "Did you mean 'second'"),
        ({"validation_studies": ["first", "second", "third"]}, ValueError, "nothing is left"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 2"),
        ({"lr": 0.0}, ValueError, "lr"),
    ],
)
def test_arguments_of_train(untrained: SCIM, arguments: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        untrained.train(max_epochs=1, **QUICK, **arguments)


def test_untrained_model_gives_no_encoder(untrained: SCIM) -> None:
    with pytest.raises(RuntimeError, match="not trained"):
        untrained.to_encoder()
    with pytest.raises(RuntimeError, match="not trained"):
        untrained.get_latent_representation()
