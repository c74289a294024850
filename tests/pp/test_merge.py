"""Studies with other genes, names and scales become one object."""

from __future__ import annotations

import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scim
from scim import _keys

GENES = ["CD3E", "MS4A1", "NKG7", "MARCHF1"]


def study(genes: list[str], *, n_cells: int = 12, seed: int = 0, **obs: object) -> ad.AnnData:
    X = np.random.default_rng(seed).poisson(3.0, (n_cells, len(genes))).astype("float32")
    table = pd.DataFrame(obs, index=[f"cell{i}" for i in range(n_cells)])
    return ad.AnnData(X, obs=table, var=pd.DataFrame(index=genes))


def test_genes_meet_on_approved_symbols_and_missing_ones_are_zero() -> None:
    a = study(["CD3E", "MARCH1"])
    b = study(["ENSG00000156738.7", "nkg7", "MARCHF1"], seed=1)
    merged = scim.pp.merge_studies({"a": a, "b": b})
    assert merged.var_names.tolist() == ["CD3E", "MARCHF1", "MS4A1", "NKG7"]
    assert merged.X.format == "csr" and merged.X.dtype == np.float32
    dense = merged.X.toarray()
    np.testing.assert_array_equal(dense[:12, :2], a.X)
    np.testing.assert_array_equal(dense[12:, [2, 3, 1]], b.X)
    assert dense[:12, 2:].sum() == 0 and dense[12:, 0].sum() == 0
    measured = merged.varm[_keys.MEASURED]
    assert measured["a"].tolist() == [True, True, False, False]
    assert measured["b"].tolist() == [False, True, True, True]


def test_a_study_cut_to_variable_genes_is_warned_of() -> None:
    whole = study(GENES)
    cut = whole[:, :2].copy()
    cut.raw = whole
    with pytest.warns(UserWarning, match=r"Study 'a': X has 2 genes, raw has 4.*raw\.to_adata") as caught:
        scim.pp.merge_studies({"a": cut})
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Study 'a'")  # anndata and pandas warn of one another's options
        assert scim.pp.merge_studies({"a": cut}, layer="X").n_vars == 2
        assert scim.pp.merge_studies({"a": cut.raw.to_adata()}).n_vars == 4


def test_inner_join_keeps_what_all_have() -> None:
    merged = scim.pp.merge_studies({"a": study(GENES[:3]), "b": study(GENES[1:])}, join="inner")
    assert merged.var_names.tolist() == ["MS4A1", "NKG7"]
    with pytest.raises(ValueError, match="share no gene"):
        scim.pp.merge_studies({"a": study(GENES[:2]), "b": study(GENES[2:])}, join="inner")


def test_names_studies_and_cells() -> None:
    a, b = study(GENES, cell_type="T cell", study="old"), study(GENES, seed=1, cell_type="B cell")
    merged = scim.pp.merge_studies({"a": a, "b": b}, study_key="study", labels_key="cell_type")
    assert merged.obs["study"].tolist() == ["a"] * 12 + ["b"] * 12
    assert merged.obs["study_original"].isna().sum() == 12
    assert merged.obs_names.is_unique and merged.obs_names[0] == "a:cell0"
    assert isinstance(merged.obs["cell_type"].dtype, pd.CategoricalDtype)


def test_repeated_barcodes_within_a_study_are_numbered() -> None:
    a = study(GENES)
    a.obs_names = ["same"] * 12
    assert scim.pp.merge_studies({"a": a}).obs_names.tolist()[:2] == ["a:same", "a:same-1"]


def test_counts_and_logarithms_meet_on_log1p_of_1e4() -> None:
    rng = np.random.default_rng(0)
    genes = [f"GENE{i}" for i in range(300)]
    raw = rng.poisson(1.0, (40, 300)).astype("float32")
    logged = np.log1p(raw / raw.sum(1, keepdims=True) * 1e4)
    a, b = (ad.AnnData(sparse.csr_matrix(x), var=pd.DataFrame(index=genes)) for x in (raw, logged))
    merged = scim.pp.merge_studies({"a": a, "b": b})
    np.testing.assert_allclose(merged.X[:40].toarray(), logged, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(merged.X[40:].toarray(), logged, rtol=1e-4, atol=1e-5)
    record = merged.uns[_keys.PREPROCESSING]["merge"]
    assert record["X"] == "log1p of 1e4 per cell" and record["studies"]["a"]["kind"] == "counts"
    np.testing.assert_array_equal(a.X.toarray(), raw)  # the input is left alone


def test_result_round_trips(tmp_path: Path) -> None:
    merged = scim.pp.merge_studies({"a": study(GENES), "c": study(GENES[1:])})
    merged.write_h5ad(tmp_path / "m.h5ad")
    again = ad.read_h5ad(tmp_path / "m.h5ad")
    assert again.varm[_keys.MEASURED]["c"].tolist() == [False, True, True, True]
    assert again.obs["study"].tolist() == merged.obs["study"].tolist()


def test_gene_columns_are_found_or_named() -> None:
    a = study(["g1", "g2"])
    a.var["symbol"] = ["CD3E", "MS4A1"]
    assert scim.pp.merge_studies({"a": a}).var_names.tolist() == ["CD3E", "MS4A1"]
    assert scim.pp.merge_studies({"a": a}, gene_column="symbol").var_names.tolist() == ["CD3E", "MS4A1"]
    a.var_names = ["Cd3e", "Ms4a1"]  # mouse genes, with the human orthologues beside them
    assert scim.pp.merge_studies({"a": a}).var_names.tolist() == ["CD3E", "MS4A1"]
    with pytest.raises(KeyError, match="gene_column='symbl'.*Did you mean 'symbol'"):
        scim.pp.merge_studies({"a": a}, gene_column="symbl")


@pytest.mark.parametrize(
    ("adatas", "error", "words"),
    [
        ([1], TypeError, "must map names"),
        ({}, ValueError, "adatas is empty"),
        ({"a/b": study(GENES)}, ValueError, "'a/b' has a slash"),
        ({"a": 3}, TypeError, "Study 'a': adata must be an AnnData"),
        ({"a": study(GENES, n_cells=0)}, ValueError, "Study 'a'.*0 cells"),
        ({"a": study(["Abca", "Abcb", "Abcc"])}, ValueError, "Study 'a': the genes are not human"),
        ({"a": study(["0", "1", "2"])}, ValueError, "Study 'a': var_names are numbers"),
    ],
)
def test_bad_studies_are_named(adatas: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        scim.pp.merge_studies(adatas)  # type: ignore[arg-type]


def test_bad_values_and_keys_name_the_study() -> None:
    bad = study(GENES)
    bad.X = bad.X - 5
    with pytest.raises(ValueError, match="Study 'bad': X holds negative"):
        scim.pp.merge_studies({"good": study(GENES), "bad": bad})
    with pytest.raises(KeyError, match="labels_key='cell_type' is not in obs of study 'a'"):
        scim.pp.merge_studies({"a": study(GENES)}, labels_key="cell_type")
    with pytest.raises(ValueError, match="join='left' is not known"):
        scim.pp.merge_studies({"a": study(GENES)}, join="left")


def test_bad_values_far_down_are_seen() -> None:
    bad = study(GENES, n_cells=3000)
    bad.X[400, 1] = np.nan  # between the blocks of rows that the kind of values is told from
    with pytest.raises(ValueError, match="Study 'bad': X holds NaN"):
        scim.pp.merge_studies({"good": study(GENES), "bad": bad})


def test_real_studies(shared_data: Path) -> None:
    parts = {n: ad.read_h5ad(shared_data / f"{n}.h5ad") for n in ("pbmc_3tech_symphony", "zheng2017_sorted_pbmc")}
    merged = scim.pp.merge_studies(parts, labels_key="cell_type")
    assert merged.n_obs == 3640
    assert merged.varm[_keys.MEASURED].all(axis=1).sum() > 600
    assert merged.X.data.min() > 0 and merged.X.data.max() < 9.3


def test_repeated_genes_are_summed_before_the_logarithm() -> None:
    counts = study(["CD3E", "MS4A1", "NKG7", "LYZ"])
    whole = counts.X.astype(np.float32)
    half = np.floor(whole / 2)
    split = ad.AnnData(np.hstack([half, whole - half]))
    split.var_names = [*counts.var_names, *counts.var_names]
    logged = counts.copy()
    logged.X = np.log1p(whole / whole.sum(axis=1, keepdims=True) * 1e4)
    merged = scim.pp.merge_studies({"split": split, "logged": logged})
    np.testing.assert_allclose(merged.X[: len(whole)].toarray(), merged.X[len(whole) :].toarray(), rtol=1e-5)
    np.testing.assert_allclose(np.expm1(merged.X.toarray()).sum(axis=1), 1e4, rtol=1e-4)


def test_merging_again_and_names_that_are_one() -> None:
    once = scim.pp.merge_studies({"a": study(["CD3E", "LYZ"]), "b": study(["CD3E", "LYZ"], seed=1)})
    twice = scim.pp.merge_studies({"x": scim.pp.merge_studies({"c": once})})
    assert twice.obs["study"].unique().tolist() == ["x"]
    assert twice.obs["study_original_1"].unique().tolist() == ["c"]
    assert twice.obs["study_original"].unique().tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="Two studies are called '1'"):
        scim.pp.merge_studies({1: study(["CD3E"]), "1": study(["CD3E"])})


def test_mouse_studies_meet_human_ones() -> None:
    human = study(["CD3E", "LYZ", "NKG7"])
    mouse = study(["Lyz2", "Gm42418", "Cd3e", "Lyz1"], seed=1)
    merged = scim.pp.merge_studies({"human": human, "mouse": mouse})
    assert merged.var_names.tolist() == ["CD3E", "LYZ", "NKG7"]
    dense = merged.X.toarray()
    np.testing.assert_array_equal(dense[12:, 0], mouse.X[:, 2])
    np.testing.assert_array_equal(dense[12:, 1], mouse.X[:, 0] + mouse.X[:, 3])
    assert merged.varm[_keys.MEASURED]["mouse"].tolist() == [True, True, False]
    records = merged.uns[_keys.PREPROCESSING]["merge"]["studies"]
    assert records["human"]["organism"] == "human" and "share_mapped" not in records["human"]
    assert (records["mouse"]["organism"], records["mouse"]["n_genes"], records["mouse"]["n_mapped"]) == ("mouse", 2, 3)
    share = mouse.X[:, [0, 2, 3]].sum() / mouse.X.sum()
    assert records["mouse"]["share_expression_mapped"] == pytest.approx(share)
    inner = scim.pp.merge_studies({"human": human, "mouse": mouse}, join="inner")
    assert inner.var_names.tolist() == ["CD3E", "LYZ"]


def test_log1p_values_of_several_mouse_genes_are_summed_on_the_linear_scale() -> None:
    raw = np.random.default_rng(0).poisson(4.0, (40, 4)).astype("float32") + 1
    logged = np.log1p(raw / raw.sum(axis=1, keepdims=True) * 1e4)
    mouse = ad.AnnData(logged, var=pd.DataFrame(index=["Lyz2", "Ms4a1", "Cd3e", "Lyz1"]))
    merged = scim.pp.merge_studies({"mouse": mouse})
    assert merged.var_names.tolist() == ["LYZ", "MS4A1", "CD3E"]
    expected = np.log1p(np.expm1(logged[:, 0]) + np.expm1(logged[:, 3]))
    np.testing.assert_allclose(merged.X.toarray()[:, 0], expected, rtol=1e-4)


def test_organism_of_studies() -> None:
    mouse = study(["Cd3e", "Ms4a1", "Nkg7"])
    with pytest.raises(ValueError, match=r"Study 'a': the genes are not human.*organism="):
        scim.pp.merge_studies({"a": mouse}, organism="human")
    with pytest.raises(ValueError, match="Study 'a': no gene in var_names is a gene of mouse"):
        scim.pp.merge_studies({"a": study(GENES)}, organism="mouse")
    prefixed = [f"{genome}_{name}" for genome in ("GRCh38", "mm10") for name in (*GENES, *(f"g{i}" for i in range(8)))]
    both = study(prefixed)
    with pytest.raises(ValueError, match="Study 'b': The genes in var_names are of two organisms: 12 of human, 12 of"):
        scim.pp.merge_studies({"a": mouse, "b": both})
    with pytest.warns(UserWarning, match=r"Study 'c': Only \d+% of the expression is in genes of mouse"):
        scim.pp.merge_studies({"c": study(["Cd3e", "Gm42418", "Gm42419"])})


def test_antibodies_and_peaks_are_no_genes() -> None:
    rna = study(["CD3E", "MS4A1", "CD4", "LYZ"])
    protein = np.full((rna.n_obs, 1), 500.0)
    kinds = ["Gene Expression"] * 4 + ["Antibody Capture"]
    var = pd.DataFrame({"feature_types": kinds}, index=[*rna.var_names, "cd4"])
    cite = ad.AnnData(np.hstack([rna.X, protein]), obs=rna.obs, var=var)
    with pytest.warns(UserWarning, match="Study 'cite': Columns of X that are no genes are left out .*1 Antibody"):
        merged = scim.pp.merge_studies({"cite": cite, "rna": rna})
    n = rna.n_obs
    np.testing.assert_array_equal(merged.X[:n].toarray(), merged.X[n:].toarray())
    logged = rna.copy()
    logged.X = np.log1p(logged.X / logged.X.sum(axis=1, keepdims=True) * 1e4)
    with pytest.warns(UserWarning, match="no genes are left out"):
        merged = scim.pp.merge_studies({"cite": cite, "logged": logged})
    np.testing.assert_allclose(merged.X[:n].toarray(), merged.X[n:].toarray(), rtol=1e-5)


def test_names_are_read_without_what_surrounds_them() -> None:
    plain, prefixed = study(["CD3E", "MS4A1"]), study(["CD3E", "MS4A1"])
    prefixed.var_names = [f"GRCh38_{name}" for name in prefixed.var_names]
    with pytest.warns(UserWarning, match="Study 'b': .*'GRCh38_CD3E' as 'CD3E'"):
        merged = scim.pp.merge_studies({"a": plain, "b": prefixed})
    assert merged.var_names.tolist() == ["CD3E", "MS4A1"]
