"""Cells drawn around mean profiles."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scim

GENES = 400


@pytest.fixture
def profiles() -> anndata.AnnData:
    means = np.random.default_rng(0).gamma(0.3, 1.0, (3, GENES))
    obs = pd.DataFrame({"tissue": ["lung", "lung", "liver"]}, index=["T cell", "B cell", "hepatocyte"])
    return anndata.AnnData(means, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(GENES)]))


def test_cells_are_counts_with_the_columns_of_their_profile(profiles: anndata.AnnData) -> None:
    cells = scim.pp.cells_from_profiles(profiles, 5)
    assert cells.shape == (15, GENES) and cells.X.dtype == np.float32 and sparse.issparse(cells.X)
    assert (cells.X.data == np.round(cells.X.data)).all()
    assert cells.obs_names[:2].tolist() == ["T cell:0", "T cell:1"]
    assert cells.obs["tissue"].tolist() == ["lung"] * 10 + ["liver"] * 5
    assert cells.obs["profile"].tolist() == np.repeat(profiles.obs_names, 5).tolist()
    assert set(cells.obs["origin"]) == {"drawn from a profile"}
    assert "origin" not in profiles.obs


def test_cells_have_the_mean_depth_and_spread_that_are_asked_for(profiles: anndata.AnnData) -> None:
    cells = scim.pp.cells_from_profiles(profiles, 2_000, depth=2_000, dispersion=0.3, ambient=0.2, seed=1)
    mine = (cells.obs["profile"] == "T cell").to_numpy()
    counts = cells.X[mine].toarray()
    depths = counts.sum(axis=1)
    assert np.median(depths) == pytest.approx(2_000, rel=0.05)
    assert np.log(depths).std() == pytest.approx(0.5, abs=0.05)
    share = profiles.X / profiles.X.sum(axis=1, keepdims=True)
    expected = 0.8 * share[0] + 0.2 * share.mean(axis=0)
    found = (counts / depths[:, None]).mean(axis=0)
    assert np.corrcoef(found, expected)[0, 1] > 0.99
    # Of a gene with many counts, the share varies by the dispersion, and little by chance.
    high = expected > 0.01
    varied = (counts / depths[:, None])[:, high].var(axis=0) / found[high] ** 2
    assert 0.2 < np.median(varied) < 0.5
    calm = scim.pp.cells_from_profiles(profiles, 2_000, depth=2_000, dispersion=0.01, ambient=0)
    rows = calm.X[mine].toarray()
    assert np.median((rows / rows.sum(axis=1)[:, None])[:, high].var(axis=0) / found[high] ** 2) < 0.15


def test_the_same_seed_gives_the_same_cells(profiles: anndata.AnnData) -> None:
    one, two, other = (scim.pp.cells_from_profiles(profiles, 4, seed=seed).X.toarray() for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    alone = scim.pp.cells_from_profiles(profiles[:1], 4, seed=3, ambient=0).X.toarray()
    together = scim.pp.cells_from_profiles(profiles, 4, seed=3, ambient=0).X.toarray()
    np.testing.assert_array_equal(alone, together[:4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_cells": 0}, "n_cells must be"),
        ({"depth": -1}, "depth must be a positive number, got -1"),
        ({"dispersion": np.nan}, "dispersion must be a positive number, got nan"),
        ({"ambient": 0.9}, "ambient"),
    ],
)
def test_options_out_of_range_are_refused(profiles: anndata.AnnData, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scim.pp.cells_from_profiles(profiles, **options)


def test_profiles_that_are_no_means_are_refused(profiles: anndata.AnnData) -> None:
    with pytest.raises(TypeError, match="AnnData"):
        scim.pp.cells_from_profiles(profiles.X)
    with pytest.raises(ValueError, match="0 cells x 400 genes"):
        scim.pp.cells_from_profiles(profiles[:0])
    for wrong, message in ((-1.0, "negative or non-finite"), (np.nan, "undo logarithms")):
        spoiled = profiles.copy()
        spoiled.X[0, 0] = wrong
        with pytest.raises(ValueError, match=message):
            scim.pp.cells_from_profiles(spoiled)
    empty = profiles.copy()
    empty.X[1] = 0
    with pytest.raises(ValueError, match="1 profiles have no expression, such as B cell. Remove them"):
        scim.pp.cells_from_profiles(empty)
    twice = profiles.copy()
    twice.obs_names = ["a", "a", "b"]
    with pytest.raises(ValueError, match="obs_names_make_unique"):
        scim.pp.cells_from_profiles(twice)


def test_drawn_cells_are_hard_to_tell_from_real_ones(shared_data: Path) -> None:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict

    study = anndata.read_h5ad(shared_data / "pbmc3k_10x.h5ad")
    study = study[study.obs["cell_type_ontology_term_id"] == "CL:0000895"]  # naive CD4 T cells
    real = sparse.csr_matrix(study.X)[:300].toarray()
    mean = anndata.AnnData(
        np.asarray(study.X.mean(axis=0)).reshape(1, -1), obs=pd.DataFrame(index=["T"]), var=study.var
    )
    drawn = scim.pp.cells_from_profiles(mean, 300, depth=np.median(real.sum(axis=1)), ambient=0).X.toarray()
    both = np.vstack([real, drawn])
    logged = np.log1p(1e4 * both / both.sum(axis=1, keepdims=True))
    parts = PCA(30, random_state=0).fit_transform(logged[:, np.argsort(-logged.mean(axis=0))[:2_000]])
    is_real = np.arange(len(both)) < 300
    model = LogisticRegression(C=0.1, max_iter=500)
    found = cross_val_predict(model, parts / parts.std(axis=0), is_real, cv=5, method="decision_function")
    assert roc_auc_score(is_real, found) < 0.8
