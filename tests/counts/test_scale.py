"""Values on one scale, moments of genes, and counts under a scale."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scim.counts._kinds import InputKind
from scim.counts._scale import as_counts, gene_moments, lognormal, lognormal_in_place


def counts() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.poisson(rng.gamma(0.4, 2.0, 400) * rng.uniform(0.5, 2, (60, 1))).astype("float32")


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


def test_cells_without_counts_stay_zero() -> None:
    assert lognormal(np.float32([0, 0, 3, 1]), np.array([0, 0, 2, 4])).tolist() == pytest.approx(
        [0, 0, np.log1p(7_500), np.log1p(2_500)]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_moments_of_genes_are_those_of_the_dense_matrix(dtype: type) -> None:
    X = np.log1p(counts()).astype(dtype)
    stored_zeros = sparse.csr_matrix(X)
    stored_zeros.data[:50] = 0
    mean, variance = gene_moments(stored_zeros)
    np.testing.assert_allclose(mean, stored_zeros.toarray().mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(variance, stored_zeros.toarray().var(axis=0, dtype=np.float64), rtol=1e-5)


@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN"), (np.inf, "infinite"), (-1.0, "negative")])
@pytest.mark.parametrize("kind", ["counts", "log1p"])
def test_what_the_sample_missed_is_refused_when_it_is_reached(kind: str, value: float, words: str) -> None:
    X = sparse.csr_matrix(counts())
    X.data[-1] = value
    with pytest.raises(ValueError, match=words):
        lognormal_in_place(X, InputKind(kind, None, ""))  # type: ignore[arg-type]


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
