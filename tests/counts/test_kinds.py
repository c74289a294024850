"""Counts, log1p values and what is neither."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from scim.counts._kinds import InputKind, input_kind
from scim.counts._scale import as_counts, lognormal_in_place
from scim.counts._values import find_counts


def counts(n_cells: int = 60, n_genes: int = 400, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.poisson(rng.gamma(0.4, 2.0, n_genes) * rng.uniform(0.5, 2, (n_cells, 1))).astype("float32")


def scaled(X: np.ndarray, target: float) -> np.ndarray:
    return X / X.sum(axis=1, keepdims=True) * target


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_array])
@pytest.mark.parametrize("dtype", ["int32", "float32", "float64"])
def test_counts_are_recognised(form: object, dtype: str) -> None:
    assert input_kind(form(counts().astype(dtype))).kind == "counts"  # type: ignore[operator]


def test_estimated_counts_and_empty_matrices_are_counts() -> None:
    estimated = counts() * 10
    estimated[0, :5] += 0.37
    assert "estimated counts" in input_kind(estimated).detail
    assert input_kind(np.zeros((3, 4))).kind == "counts"


def test_log1p_of_1e4_and_of_a_panel_are_recognised() -> None:
    logged = np.log1p(scaled(counts(), 1e4))
    assert input_kind(logged).target_sum == pytest.approx(1e4, rel=1e-3)
    panel = input_kind(logged[:, ::3])
    assert (panel.kind, panel.target_sum) == ("log1p", None)
    assert "whole multiples of one count" in panel.detail


def test_log1p_of_another_sum_is_recognised_with_it() -> None:
    assert input_kind(np.log1p(scaled(counts(), 2345.0))).target_sum == pytest.approx(2345, rel=1e-3)
    assert input_kind(np.log1p(scaled(counts(), 1e6))).target_sum == pytest.approx(1e6, rel=1e-3)


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (counts() - 1, "negative values"),
        (counts() > 0, "True and False"),
        (np.where(counts() > 5, np.nan, counts()), "NaN"),
        (np.where(counts() > 5, np.inf, counts()), "infinite"),
        (scaled(counts(), 1e6), "scaled but not logged: sums per cell around 1,000,000"),
        (scaled(counts(), 1e4)[:, ::2], "scaled but not logged"),
        (np.log2(scaled(counts(), 1e4) + 1), "logarithms to base 2"),
        (np.log1p(scaled(counts(), 1e6))[:, ::2], "no scale that can be told"),
    ],
)
def test_what_is_neither_is_refused_saying_what_was_seen(X: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        input_kind(X)
    assert "raw counts" in str(error.value)  # the remedy


def test_text_is_refused() -> None:
    with pytest.raises(TypeError, match="not numbers"):
        input_kind(np.array([["a", "b"]]))


def test_problems_far_down_are_seen() -> None:
    X = counts(5000, 20)
    X[4990, 3] = -1
    with pytest.raises(ValueError, match="negative"):
        input_kind(X)


def test_normalized_rows_are_log1p_of_1e4_whatever_came_in() -> None:
    X = counts()
    X[3] = 0
    sums = X.sum(axis=1, keepdims=True)
    expected = np.log1p(np.divide(X, sums, out=np.zeros_like(X), where=sums > 0) * 1e4)
    kinds = {
        "counts": (X, InputKind("counts", None, "")),
        "1e4": (expected, InputKind("log1p", 1e4, "")),
        "none": (expected, InputKind("log1p", None, "")),
        "1e6": (np.log1p(np.expm1(expected) * 100), InputKind("log1p", 1e6, "")),
    }
    for values, kind in kinds.values():
        rows = lognormal_in_place(sparse.csr_matrix(values.astype("float32")), kind)
        np.testing.assert_allclose(rows.toarray(), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN"), (np.inf, "infinite"), (-1.0, "negative")])
@pytest.mark.parametrize("kind", ["counts", "log1p"])
def test_what_the_sample_missed_is_refused_when_it_is_reached(kind: str, value: float, words: str) -> None:
    X = sparse.csr_matrix(counts())
    X.data[-1] = value
    with pytest.raises(ValueError, match=words):
        lognormal_in_place(X, InputKind(kind, None, ""))  # type: ignore[arg-type]


def test_find_counts_prefers_counts_and_falls_back() -> None:
    X = counts()
    adata = ad.AnnData(np.log1p(scaled(X, 1e4)))
    assert find_counts(adata)[0] == "X"
    adata.layers["counts"] = X
    place, _, kind, use_raw = find_counts(adata)
    assert (place, kind.kind, use_raw) == ("counts", "counts", False)
    assert find_counts(adata, layer="X")[2].kind == "log1p"


def test_find_counts_takes_raw_where_x_is_scaled() -> None:
    name, X, kind, use_raw = find_counts(sc.datasets.pbmc68k_reduced())
    assert (name, kind.kind, use_raw) == ("raw", "log1p", True) and X.shape == (700, 765)


def test_find_counts_lists_every_place_that_failed() -> None:
    adata = ad.AnnData(counts() - 1)
    with pytest.raises(ValueError, match="X holds negative values.*Name the layer"):
        find_counts(adata)
    with pytest.raises(KeyError, match="layer='count' is not there. Did you mean"):
        adata.layers["counts"] = counts()
        find_counts(adata, layer="count")
    with pytest.raises(ValueError, match="adata has no X"):
        find_counts(ad.AnnData(obs=adata.obs, var=adata.var))


def test_kind_as_plain_values() -> None:
    assert InputKind("counts", None, "x").to_dict() == {"kind": "counts", "detail": "x"}


@pytest.mark.parametrize(
    ("study", "kind"),
    [
        ("pbmc3k_10x", "counts"),
        ("ding2020_pbmc_indrops_2000g", "counts"),
        ("pancreas_3study_cepo_1403g", "counts"),
        ("darmanis2015_brain", "counts"),
        ("pbmc_3tech_symphony", "log1p"),
        ("villani2017_dc", "log1p"),
        ("tirosh2016_oligodendroglioma_mgh53_54", None),
        ("pancreas_xin2016_980g", None),
        ("pancreas_wang2016_219g", None),
        ("puram2017_hnscc_tme", None),
    ],
)
def test_real_studies_are_told_apart(shared_data: Path, study: str, kind: str | None) -> None:
    X = ad.read_h5ad(shared_data / f"{study}.h5ad").X
    if kind is None:
        with pytest.raises(ValueError, match="X holds (no scale|logarithms)"):
            input_kind(X)
    else:
        assert input_kind(X).kind == kind


@pytest.mark.parametrize(
    ("transform", "text"),
    [
        (np.log1p, "log1p of counts that were not scaled"),
        (np.sqrt, "square roots of counts"),
        (np.arcsinh, "arcsinh of counts"),
        (lambda X: np.log2(1 + X), r"log2\(1 \+ x\) of counts"),
        (lambda X: np.log10(1 + X), r"log10\(1 \+ x\) of counts"),
        (lambda X: np.log10(1 + scaled(X, 1e4)), "logarithms to base 10"),
        (lambda X: np.log1p(np.log1p(scaled(X, 1e4))), "log1p of log1p"),
    ],
)
def test_transforms_that_look_like_others_are_told(transform: Callable, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        input_kind(transform(counts()).astype(np.float32))


def test_too_few_cells_to_tell_the_scale_are_warned_of() -> None:
    logged = np.log1p(scaled(counts(), 2_000))
    assert input_kind(logged).target_sum == pytest.approx(2_000, rel=1e-3)
    with pytest.warns(UserWarning, match="2 cells, too few to tell"):
        assert input_kind(logged[:2]).target_sum is None


@pytest.mark.parametrize("n_cells", [1, 2, 3, 5, 50])
@pytest.mark.parametrize("target", [1e4, 1e6])
def test_one_cell_tells_a_usual_sum(n_cells: int, target: float) -> None:
    for start in range(5):  # which cells these are makes no difference
        logged = np.log1p(scaled(counts()[start : start + n_cells], target)).astype(np.float32)
        assert input_kind(logged).target_sum == pytest.approx(target, rel=1e-3)
    with pytest.raises(ValueError, match="logarithms to base 2"):
        input_kind(np.log2(1 + scaled(counts()[:n_cells], target)).astype(np.float32))
    with pytest.raises(ValueError, match="scaled but not logged"):
        input_kind(scaled(counts()[:n_cells], target))


def test_multiples_that_happen_to_be_whole_are_not_taken_for_counts() -> None:
    X = np.repeat([[1, 2, 3, 4, 0]], 50, axis=1).astype("float32")  # 500 in all: 2,000 of a million each
    X[0, :3] = [1, 1, 2_000 - 499 + X[0, :3].sum() - 2]  # 2,000 in all: 500 each
    assert input_kind(np.log1p(scaled(X, 1e6))).target_sum == pytest.approx(1e6, rel=1e-3)


@pytest.mark.parametrize("unit", [1.0, 0.37, 1e4 / 2_345], ids=["counts", "scaled", "normalised"])
def test_counts_are_found_under_a_scale(unit: float) -> None:
    X = counts()
    X[3] = 0
    X[:, 0] = 1  # every cell has one count of a gene
    X[4] = 0
    matrix = sparse.csr_matrix(X)
    found = as_counts((matrix.data * unit).astype(np.float32), matrix.indptr)
    np.testing.assert_array_equal(found, matrix.data)


def test_of_no_values_there_are_no_counts() -> None:
    assert as_counts(np.zeros(0), np.zeros(4, dtype=int)).tolist() == []
    assert as_counts(np.array([0.0, 0.0, 4.0, 6.0]), np.array([0, 2, 4])).tolist() == [0, 0, 4, 6]


def test_residues_of_ambient_rna_are_no_counts() -> None:
    rng = np.random.default_rng(0)
    X = counts().astype(np.float32)
    left = np.where(X > 0, np.maximum(X - 0.3 * rng.random(X.shape), 0.02), 0)
    left[::2][X[::2] > 0] *= np.where(rng.random(int((X[::2] > 0).sum())) < 0.02, 1e-3, 1)
    left[1, 0] = 1e-20
    matrix = sparse.csr_matrix(left.astype(np.float32))
    found = np.add.reduceat(as_counts(matrix.data, matrix.indptr), matrix.indptr[:-1])
    np.testing.assert_allclose(found, X.sum(axis=1), rtol=0.35)
    assert as_counts(np.float32([1e-20, 5, 3.2]), np.array([0, 3]))[1:].max() < 2**32


def test_deep_cells_are_scaled_back() -> None:
    X = np.random.default_rng(0).poisson(np.geomspace(0.5, 100, 600), (20, 600)).astype(np.float32)
    X[:, 0] = 1
    matrix = sparse.csr_matrix(X)
    kept = (matrix.data * 1e4 / 60_000).astype(np.float16).astype(np.float32)  # as landmarks are kept
    found = np.add.reduceat(as_counts(kept, matrix.indptr), matrix.indptr[:-1])
    np.testing.assert_allclose(found, X.sum(axis=1), rtol=0.01)
