"""The fused pass over X against alignment and normalisation one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from scim.counts._kinds import InputKind
from scim.counts._scale import lognormal_in_place
from scim.encoder._normalized import UnusableValues, to_blocked_lognormal
from scim.genes import GeneSpace

KINDS = [
    InputKind("counts", None, "counts"),
    InputKind("log1p", 1e4, "log1p"),
    InputKind("log1p", 1e3, "log1p of another sum"),
    InputKind("log1p", None, "log1p of an unknown sum"),
]


def example(seed: int = 0, n: int = 30, m: int = 900) -> tuple[sp.csr_matrix, list[str]]:
    """Counts from 1 to hundreds and broken ones, and names of which some are no gene of the space."""
    rng = np.random.default_rng(seed)
    X = sp.random(n, m, density=0.3, format="csr", rng=rng, dtype=np.float32)
    X.data = rng.choice([1, 2, 3, 40, 63, 64, 200, 2.5], size=X.nnz).astype(np.float32)
    X.data[:5] = 0  # stored zeros
    X = sp.vstack([X, sp.csr_matrix((1, m), dtype=np.float32)]).tocsr()
    return X, [f"G{i}" if i % 7 else f"other{i}" for i in rng.permutation(m)]


def dense(X: sp.csr_matrix, space: GeneSpace, names: list[str], kind: InputKind) -> np.ndarray:
    return lognormal_in_place(space.match(names).align(X), kind).toarray()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.kind}-{kind.target_sum}")
def test_same_as_align_and_normalize(kind: InputKind) -> None:
    X, names = example()
    if kind.kind == "log1p":
        X.data = np.log1p(X.data)
    space = GeneSpace([f"G{i}" for i in range(1000)])
    rows = to_blocked_lognormal(X, space.match(names), kind)
    found = rows.times(np.eye(1000, dtype=np.float32))
    np.testing.assert_allclose(found, dense(X, space, names, kind), rtol=2e-6)
    assert rows.lengths[-1] == 0
    assert rows.lengths.tolist() == (found > 0).sum(axis=1).tolist()


@pytest.mark.parametrize(
    "convert",
    [
        lambda X: X.toarray(),
        sp.csr_array,
        lambda X: X.astype(np.float64),
        lambda X: X[:, ::-1].tocsr()[:, ::-1],
        lambda X: sp.csr_matrix((X.data, X.indices.astype(np.int64), X.indptr.astype(np.int64)), shape=X.shape),
    ],
    ids=["ndarray", "csr_array", "float64", "unsorted", "int64 indices"],
)
def test_any_form_of_block(convert: object) -> None:
    X, names = example()
    space = GeneSpace([f"G{i}" for i in range(1000)])
    eye = np.eye(1000, dtype=np.float32)
    expected = to_blocked_lognormal(X, space.match(names), KINDS[0]).times(eye)
    found = to_blocked_lognormal(convert(X), space.match(names), KINDS[0]).times(eye)  # type: ignore[operator]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_whole_numbers_of_any_type_and_repeated_entries() -> None:
    X, names = example()
    X.data = np.round(X.data)
    space = GeneSpace([f"G{i}" for i in range(1000)])
    eye = np.eye(1000, dtype=np.float32)
    expected = to_blocked_lognormal(X, space.match(names), KINDS[0]).times(eye)
    for dtype in (np.int32, np.int64, np.uint16):
        np.testing.assert_array_equal(
            to_blocked_lognormal(X.astype(dtype), space.match(names), KINDS[0]).times(eye), expected
        )
    twice = sp.csr_matrix(
        (np.repeat(X.data / 2, 2), np.repeat(X.indices, 2), X.indptr * 2), shape=X.shape, dtype=np.float32
    )
    np.testing.assert_allclose(
        to_blocked_lognormal(twice, space.match(names), KINDS[0]).times(eye), expected, rtol=1e-6
    )


def test_columns_of_one_gene_are_summed() -> None:
    space = GeneSpace(["G1", "G2"])
    rows = to_blocked_lognormal(np.array([[1, 2, 3]]), space.match(["G1", "G2", "G1"]), KINDS[0])
    np.testing.assert_allclose(rows.times(np.eye(2, dtype=np.float32)), np.log1p([[4e4 / 6, 2e4 / 6]]), rtol=1e-6)


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_unusable_values_are_refused_where_they_count(bad: float) -> None:
    X, names = example()
    space = GeneSpace([f"G{i}" for i in range(1000)])
    target = space.match(names).target
    X = X.tolil()
    X[3, int(np.flatnonzero(target < 0)[0])] = bad  # of no gene of the encoder
    to_blocked_lognormal(X.tocsr(), space.match(names), KINDS[0])
    X[3, int(np.flatnonzero(target >= 0)[0])] = bad
    with pytest.raises(UnusableValues, match="negative, NaN or infinite"):
        to_blocked_lognormal(X.tocsr(), space.match(names), KINDS[0])


def test_no_rows() -> None:
    space = GeneSpace(["G1", "G2"])
    rows = to_blocked_lognormal(np.zeros((0, 2)), space.match(["G1", "G2"]), KINDS[0])
    assert rows.times(np.eye(2, dtype=np.float32)).shape == (0, 2)


def test_another_number_of_columns() -> None:
    space = GeneSpace(["G1", "G2"])
    with pytest.raises(ValueError, match="3 columns"):
        to_blocked_lognormal(np.zeros((1, 3)), space.match(["G1", "G2"]), KINDS[0])
