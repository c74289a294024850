"""Counts, log1p values and what is neither."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
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
        (np.log1p(scaled(counts() ** 1.7, 1e6))[:, ::2], "values of an unknown scale"),
        (np.minimum(counts(), 1), "present or absent"),
        (np.minimum(counts(), 1).astype(int), "present or absent"),
        (np.log1p(np.minimum(counts(), 1)), "present or absent"),
        (counts() / (counts().max(axis=0) + 1e-9), "scaled but not logged|unknown scale"),
        (np.log1p(scaled(counts() ** 1.7, 1e4)) / 12, "unknown scale"),
        (np.log10(1 + scaled(counts() ** 1.7, 1e4))[:, ::2], "unknown scale"),
        (np.log1p(np.log1p(scaled(counts() ** 1.7, 1e4)))[:, ::2], "unknown scale"),
        (np.log10(1 + scaled(counts(), 1e4))[:, ::2], "base 10"),
        (np.log1p(np.log1p(scaled(counts(), 1e4)))[:, ::2], "log1p of log1p"),
        (np.log1p(scaled(np.log1p(counts()), 1e4)), "log1p of log1p values that were scaled"),
        (np.log1p(scaled(np.sqrt(counts()), 1e4)), "log1p of square roots that were scaled"),
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


@pytest.mark.parametrize("base", [2, 10, 1.5])
def test_a_recorded_base_is_honoured(base: float) -> None:
    for target, columns in ((1e4, slice(None)), (1e4, slice(None, None, 2)), (1e6, slice(None))):
        logged = (np.log1p(scaled(counts(), target)) / np.log(base))[:, columns].astype(np.float32)
        found = input_kind(logged, base=base)
        assert (found.kind, found.base) == ("log1p", base)
        assert found.unit == pytest.approx(np.log(base))
    # A record of another step does not change what can be seen.
    assert input_kind(np.log1p(scaled(counts(), 1e4)), base=base).base is None
    assert input_kind(counts(), base=base).kind == "counts"


@pytest.mark.parametrize("base", [None, np.e, "text", float("nan"), 0])
def test_other_records_of_a_base_are_the_natural_logarithm(base: object) -> None:
    assert input_kind(np.log1p(scaled(counts(), 1e4)), base=base).base is None  # type: ignore[arg-type]


def test_log1p_of_a_selection_of_genes_of_any_sum_is_recognised_by_its_multiples() -> None:
    assert input_kind(np.log1p(scaled(counts(), 1e6))[:, ::2]).kind == "log1p"


OTHERS = {
    "log1p": lambda X: np.log1p(scaled(X, 1e4)),
    "log1p of a selection": lambda X: np.log1p(scaled(X, 1e4)) * (np.arange(400) % 2),
    "scaled": lambda X: scaled(X, 1e4),
    "log2": lambda X: np.log2(1 + scaled(X, 1e4)),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("n_others", [3, 30, 57])
def test_cells_on_two_scales_are_refused_with_their_number_and_study(other: str, n_others: int) -> None:
    X = counts()
    X[:n_others] = OTHERS[other](X[:n_others])
    obs = pd.DataFrame({"plate": "p", "batch": np.where(np.arange(60) < n_others, "one", "two")})
    with pytest.raises(ValueError, match=rf"cells on several scales: .*\b{60 - n_others} cells of whole") as error:
        input_kind(X, obs=obs)
    assert "batch one" in str(error.value) and "batch two" in str(error.value)
    # Of cells with few genes, the scale cannot be told.
    found = re.search(r"(\d+) cells of [^;]*\(batch one", str(error.value))
    assert found is not None and 0.9 * n_others <= int(found[1]) <= n_others
    with pytest.raises(ValueError, match=rf"the first is row {n_others}\)"):
        input_kind(X)


def test_two_bases_of_logarithms_are_refused() -> None:
    X = scaled(counts(), 1e4)
    X = np.vstack([np.log1p(X[:30]), np.log2(1 + X[30:])])
    with pytest.raises(ValueError, match="30 cells of log1p values.*30 cells of log2"):
        input_kind(X)


def test_whole_cells_among_estimated_counts_are_no_other_scale() -> None:
    X = counts()
    X[:20][X[:20] > 0] -= np.float32(0.13) * np.random.default_rng(0).random(int((X[:20] > 0).sum())).astype("f4")
    assert input_kind(X).kind == "counts"
    halves = counts() * 3
    halves[:, :40] += 0.5
    assert input_kind(halves).kind == "counts"


def test_columns_that_are_no_genes_have_no_say() -> None:
    X = np.hstack([counts(), np.full((60, 3), -1.5)])
    assert input_kind(X, columns=np.arange(403) < 400).kind == "counts"
    with pytest.raises(ValueError, match="negative"):
        input_kind(X)


@pytest.mark.parametrize("n", [1, 2, 9])
def test_shallow_droplets_of_single_counts_are_counts(n: int) -> None:
    X = np.zeros((50, 400))
    X[:, :n] = 1
    assert input_kind(X).kind == "counts"


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


def test_two_cells_are_enough_to_see_multiples() -> None:
    logged = np.log1p(scaled(counts(), 2_000))
    assert input_kind(logged).target_sum == pytest.approx(2_000, rel=1e-3)
    assert input_kind(logged[:2]) == InputKind("log1p", None, input_kind(logged[:2]).detail)


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
