"""Which embedding is used, and whether the values here still give it."""

from __future__ import annotations

from collections.abc import Callable

import anndata
import numpy as np
import pytest
from scipy import sparse

import scim
from scim.counts import _blocks
from scim.tl._cells import NewCells
from scim.tl._embedding import choose_embedding

pytestmark = pytest.mark.filterwarnings("ignore:.*has no record of its encoder")


def permuted(adata: anndata.AnnData) -> sparse.csr_matrix:
    return adata.X[np.random.default_rng(0).permutation(adata.n_obs)]


@pytest.mark.parametrize("has_record", [True, False])
def test_cells_are_embedded_again_if_the_values_changed(
    new: anndata.AnnData, reference: scim.Reference, has_record: bool
) -> None:
    expected = reference.encoder.embed(new)
    X = new.X.copy()
    new.X = permuted(new)
    scim.tl.annotate(new, reference)
    if not has_record:
        del new.uns["scim"]
    new.X = X
    with pytest.warns(UserWarning, match=r"obsm\['X_scim'\] was made from other values .* embedded again"):
        scim.tl.annotate(new, reference)
    np.testing.assert_array_equal(new.obsm["X_scim"], expected)
    scim.tl.annotate(new, reference)  # no warning: warnings are errors


def test_an_embedding_of_another_name_is_used_with_a_warning(new: anndata.AnnData, reference: scim.Reference) -> None:
    new.obsm["X_mine"] = reference.encoder.embed(new)
    NewCells.read(new, reference, use_rep="X_mine", key="scim", layer=None)
    new.X = permuted(new)
    with pytest.warns(UserWarning, match="other values .*Leave use_rep= out to embed the cells"):
        cells = NewCells.read(new, reference, use_rep="X_mine", key="scim", layer=None)
    np.testing.assert_array_equal(cells.vectors, new.obsm["X_mine"])


def logged(adata: anndata.AnnData) -> None:
    adata.X.data = np.log1p(adata.X.data * np.repeat(1e4 / adata.X.sum(axis=1).A1, np.diff(adata.X.indptr)))


CHANGES: dict[str, Callable[[anndata.AnnData], object]] = {
    "nothing": lambda adata: None,
    "normalised": logged,
    "scaled": lambda adata: setattr(adata, "X", adata.X.toarray() - 1),
    "scaled, with counts": lambda adata: (
        adata.layers.__setitem__("counts", adata.X.copy()),
        setattr(adata, "X", adata.X.toarray() - 1),
    ),
    "denoised, with counts": lambda adata: (
        adata.layers.__setitem__("counts", adata.X.copy()),
        setattr(adata, "X", sparse.csr_matrix(np.log1p(permuted(adata).toarray() * 3.3) + 0.1)),
    ),
    "half of the cells": lambda adata: adata._inplace_subset_obs(np.arange(adata.n_obs) % 2 == 0),
    "half of the genes": lambda adata: adata._inplace_subset_var(np.arange(adata.n_vars) % 2 == 0),
    "half precision": lambda adata: adata.obsm.__setitem__("X_scim", adata.obsm["X_scim"].astype(np.float16)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("has_record", [True, False])
def test_usual_steps_leave_the_embedding_alone(
    new: anndata.AnnData, reference: scim.Reference, change: str, has_record: bool
) -> None:
    new.X = sparse.csr_matrix(np.round(np.expm1(new.X.toarray()) / 3).astype(np.float32))
    scim.tl.embed(new, reference)
    if not has_record:
        del new.uns["scim"]
    CHANGES[change](new)
    cells = NewCells.read(new, reference, use_rep=None, key="scim", layer=None)
    assert cells.info is None


def test_names_of_embeddings(new: anndata.AnnData, reference: scim.Reference, other_reference: scim.Reference) -> None:
    def chosen(use_rep: str | None = None, key: str = "scim", **options: bool) -> tuple[str, bool]:
        return choose_embedding(new, reference, use_rep, key, **options)

    assert chosen() == ("X_scim", True)
    assert chosen(key="own") == ("X_own", True)
    assert chosen(key="own", usual_first=True) == ("X_scim", True)
    assert chosen("X_scim") == ("X_scim", True)
    assert chosen("X_own", "own") == ("X_own", True)
    assert chosen("X_umap") == ("X_umap", False)
    scim.tl.embed(new, reference)
    assert chosen() == chosen(key="own") == ("X_scim", False)
    scim.tl.embed(new, other_reference)
    assert chosen() == ("X_scim", True)
    assert chosen(key="own") == chosen(key="own", usual_first=True) == ("X_own", True)
    scim.tl.embed(new, reference, key_added="own")
    assert chosen(key="own") == ("X_own", False)
    del new.uns["scim"]
    new.obsm["X_scim"] = np.ones((new.n_obs, 3))  # not scim's: it is never replaced
    assert chosen() == ("X_scim", False)


def test_two_references_in_one_object_in_any_order(
    new: anndata.AnnData, reference: scim.Reference, other_reference: scim.Reference
) -> None:
    alone = [scim.tl.annotate(new, one, copy=True) for one in (reference, other_reference)]
    for keys in (("scim", "scim"), ("scim", "own"), ("own", "scim"), ("a", "b")):
        adata = new.copy()
        for key, one, expected in zip(keys, (reference, other_reference), alone, strict=True):
            scim.tl.annotate(adata, one, key_added=key)
            found = adata.obs[f"{key}_label"].astype(str).tolist()
            assert found == expected.obs["scim_label"].astype(str).tolist()
            scim.tl.query(adata, one, k=3, key_added=f"{key}_hits")


@pytest.mark.parametrize("n_calls", [1, 2])
def test_a_matrix_by_columns_is_converted_once_for_each_call(
    new: anndata.AnnData, reference: scim.Reference, n_calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, converted = _blocks._by_rows, []
    monkeypatch.setattr(_blocks, "_by_rows", lambda X: (converted.append(getattr(X, "format", "")), real(X))[1])
    expected = scim.tl.annotate(new, reference, copy=True)
    new.X = sparse.csc_matrix(new.X)
    converted.clear()
    for _ in range(n_calls):
        scim.tl.annotate(new, reference)
    assert converted.count("csc") == n_calls
    np.testing.assert_array_equal(new.obsm["X_scim"], expected.obsm["X_scim"])
    assert new.obs["scim_label"].tolist() == expected.obs["scim_label"].tolist()
