"""Blocks of rows come out the same from every kind of X."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from scim.counts._blocks import iter_blocks

DENSE = np.random.default_rng(0).poisson(0.5, (25, 6)).astype("float32")


def together(X: object, **options: object) -> np.ndarray:
    spans, parts = zip(*iter_blocks(X, **options), strict=True)  # type: ignore[arg-type]
    assert [s.start for s in spans] == [0, *(s.stop for s in spans[:-1])]
    return np.vstack([p.toarray() if sparse.issparse(p) else p for p in parts])


def dask_array(X: object) -> object:
    da = pytest.importorskip("dask.array")
    return da.from_array(X, chunks=(7, -1))


FORMS = [np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.csc_array, dask_array]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk_size", [1, 4, 25, 100])
def test_all_rows_in_order(form: object, chunk_size: int) -> None:
    X = form(DENSE)  # type: ignore[operator]
    np.testing.assert_array_equal(together(X, chunk_size=chunk_size), DENSE)


@pytest.mark.parametrize("form", FORMS)
def test_chosen_rows_in_the_order_given(form: object) -> None:
    rows = np.array([20, 3, 3, 0, 11])
    np.testing.assert_array_equal(together(form(DENSE), rows=rows, chunk_size=2), DENSE[rows])  # type: ignore[operator]


ROWS = st.one_of(
    st.none(),
    st.slices(25),
    arrays(bool, 25),
    st.lists(st.integers(-25, 24), max_size=40).map(lambda rows: np.array(rows, dtype=int)),
)


@settings(max_examples=200, deadline=None, database=None)
@given(rows=ROWS, chunk_size=st.integers(1, 30), form=st.sampled_from(FORMS))
def test_any_choice_of_rows_is_that_of_plain_indexing(rows: object, chunk_size: int, form: object) -> None:
    expected = DENSE if rows is None else DENSE[rows]  # type: ignore[index]
    blocks = list(iter_blocks(form(DENSE), rows=rows, chunk_size=chunk_size))  # type: ignore[operator,arg-type]
    places = [place for span, _ in blocks for place in range(span.start, span.stop)]
    assert places == list(range(len(expected)))
    for span, block in blocks:
        assert block.shape[0] <= chunk_size
        np.testing.assert_array_equal(block.toarray() if sparse.issparse(block) else block, expected[span])


@pytest.mark.parametrize(("blocks", "chunk_size"), [(7, 2), (7, 10), (2, 7), (25, 4)])
def test_each_dask_block_is_computed_once(blocks: int, chunk_size: int) -> None:
    da = pytest.importorskip("dask.array")
    computed: list[int] = []

    def count(block: np.ndarray) -> sparse.csr_matrix:
        computed.append(len(block))
        return sparse.csr_matrix(block)

    X = da.from_array(DENSE, chunks=(blocks, -1)).map_blocks(count, dtype=DENSE.dtype, meta=sparse.csr_matrix((0, 0)))
    computed.clear()
    np.testing.assert_array_equal(together(X, chunk_size=chunk_size), DENSE)
    assert sum(computed) == 25


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_backed_files(form: object, tmp_path: Path) -> None:
    ad.AnnData(form(DENSE)).write_h5ad(tmp_path / "x.h5ad")  # type: ignore[operator]
    backed = ad.read_h5ad(tmp_path / "x.h5ad", backed="r")
    np.testing.assert_array_equal(together(backed.X, chunk_size=4), DENSE)
    rows = np.array([20, 3, 3, 0, 11])
    np.testing.assert_array_equal(together(backed.X, rows=rows, chunk_size=2), DENSE[rows])
    backed.file.close()


def test_views_and_empty_choices() -> None:
    view = ad.AnnData(sparse.csr_matrix(DENSE))[5:9]
    np.testing.assert_array_equal(together(view.X, chunk_size=3), DENSE[5:9])
    assert list(iter_blocks(DENSE, rows=np.array([], dtype=int))) == []


def test_half_precision_comes_as_single() -> None:
    X = np.arange(12, dtype=np.float16).reshape(4, 3)
    for options in ({}, {"rows": np.array([2, 0])}, {"rows": slice(1, 3)}):
        for _, block in iter_blocks(X, **options):
            assert block.dtype == np.float32
