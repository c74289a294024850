"""Counts, log1p values and what is neither."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from scim.counts._kinds import InputKind, input_kind


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
        (np.log1p(scaled(counts(), 1e6))[:, ::2], "values of an unknown scale"),
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


def test_kind_as_plain_values() -> None:
    assert InputKind("counts", None, "x").to_dict() == {"kind": "counts", "detail": "x"}


@pytest.mark.parametrize(
    ("kind", "target_sum", "factor"),
    [("counts", None, 1), ("log1p", None, 1), ("log1p", 10_005, 1), ("log1p", 1e6, 0.01), ("log1p", 2_000, 5)],
)
def test_factor_brings_linear_values_to_1e4(kind: str, target_sum: float | None, factor: float) -> None:
    assert InputKind(kind, target_sum, "").factor == pytest.approx(factor)  # type: ignore[arg-type]


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
        with pytest.raises(ValueError, match="X holds (values of an unknown scale|logarithms)"):
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
    with pytest.warns(UserWarning, match="2 cells, too few to recognise"):
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
