"""scim.tl.embed: what it writes, on which objects, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
from scipy import sparse

import scim


def names_of(adata: anndata.AnnData) -> tuple[list[str], list[str], list[str]]:
    return list(adata.obs), list(adata.obsm), list(adata.uns)


def test_writes_unit_vectors_and_where_they_come_from(new: anndata.AnnData, encoder: scim.Encoder) -> None:
    assert scim.tl.embed(new, encoder=encoder) is None
    vectors = new.obsm["X_scim"]
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(vectors, encoder.embed(new))
    assert new.uns["scim"]["embed"]["encoder_id"] == encoder.id


def test_takes_the_encoder_of_a_reference_or_a_folder(
    new: anndata.AnnData, encoder: scim.Encoder, reference: scim.Reference, tmp_path: Path
) -> None:
    encoder.save(tmp_path / "e")
    scim.tl.embed(new, encoder=tmp_path / "e", key_added="folder")
    scim.tl.embed(new, reference.path, key_added="path")
    scim.tl.embed(new, reference)
    np.testing.assert_array_equal(new.obsm["X_folder"], new.obsm["X_scim"])
    np.testing.assert_array_equal(new.obsm["X_path"], new.obsm["X_scim"])
    assert new.uns["path"]["embed"]["encoder_id"] == encoder.id


def test_copy_leaves_the_input_alone(new: anndata.AnnData, encoder: scim.Encoder) -> None:
    before = names_of(new)
    done = scim.tl.embed(new, encoder=encoder, copy=True)
    assert names_of(new) == before
    assert done is not new and "X_scim" in done.obsm


def test_a_view_becomes_an_object_of_its_own(blood: anndata.AnnData, encoder: scim.Encoder) -> None:
    view = blood[:20]
    scim.tl.embed(view, encoder=encoder)
    assert not view.is_view and view.obsm["X_scim"].shape[0] == 20
    assert "X_scim" not in blood.obsm


def test_backed_and_dask_give_the_same(new: anndata.AnnData, encoder: scim.Encoder, h5ad: Path) -> None:
    da = pytest.importorskip("dask.array")
    wanted = encoder.embed(new)
    backed = anndata.read_h5ad(h5ad, backed="r")
    scim.tl.embed(backed, encoder=encoder)
    np.testing.assert_allclose(backed.obsm["X_scim"], wanted, atol=1e-6)
    lazy = new.copy()
    lazy.X = da.from_array(new.X.toarray(), chunks=(30, -1))
    scim.tl.embed(lazy, encoder=encoder)
    np.testing.assert_allclose(lazy.obsm["X_scim"], wanted, atol=1e-6)
    backed.file.close()


def test_a_view_of_a_file_is_refused_with_a_remedy_and_copied_on_request(encoder: scim.Encoder, h5ad: Path) -> None:
    backed = anndata.read_h5ad(h5ad, backed="r")
    with pytest.raises(ValueError, match=r"to_memory\(\), or copy=True"):
        scim.tl.embed(backed[:10], encoder=encoder)
    done = scim.tl.embed(backed[:10], encoder=encoder, copy=True)
    assert done.obsm["X_scim"].shape[0] == 10 and not done.isbacked
    backed.file.close()


def test_mudata(new: anndata.AnnData, encoder: scim.Encoder) -> None:
    mudata = pytest.importorskip("mudata")
    other = anndata.AnnData(np.ones((new.n_obs, 2), dtype="f4"), obs=new.obs[[]].copy())
    other.var_names = ["p1", "p2"]
    data = mudata.MuData({"rna": new, "adt": other})
    done = scim.tl.embed(data, encoder=encoder, mod="rna", copy=True)
    assert "X_scim" not in data.mod["rna"].obsm
    assert "X_scim" in done.mod["rna"].obsm
    scim.tl.embed(data, encoder=encoder, mod="rna")
    assert "X_scim" in data.mod["rna"].obsm and "X_scim" not in data.mod["adt"].obsm
    with pytest.raises(KeyError, match="Did you mean 'rna'"):
        scim.tl.embed(data, encoder=encoder, mod="rma")


def test_cells_without_counts_are_zero(new: anndata.AnnData, encoder: scim.Encoder) -> None:
    new.X = sparse.csr_matrix(np.vstack([np.zeros((2, new.n_vars)), new.X[2:].toarray()]).astype("f4"))
    scim.tl.embed(new, encoder=encoder)
    assert not new.obsm["X_scim"][:2].any()
    assert new.obsm["X_scim"][2:].any(axis=1).all()
    assert new.uns["scim"]["embed"]["n_cells_without_counts"] == 2


def test_other_entries_of_uns_stay(new: anndata.AnnData, encoder: scim.Encoder) -> None:
    new.uns["scim"] = {"mine": 1}
    scim.tl.embed(new, encoder=encoder)
    assert new.uns["scim"]["mine"] == 1 and "embed" in new.uns["scim"]


def scaled(adata: anndata.AnnData) -> None:
    adata.X = adata.X.toarray() - 1.0


def foreign_genes(adata: anndata.AnnData) -> None:
    adata.var_names = [f"Gm{i}" for i in range(adata.n_vars)]


def taken_uns(adata: anndata.AnnData) -> None:
    adata.uns["scim"] = "mine"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (scaled, "negative values"),
        (foreign_genes, "genes"),
        (taken_uns, "is a str that scim did not write"),
    ],
)
def test_nothing_is_written_if_it_fails(
    new: anndata.AnnData, encoder: scim.Encoder, spoil: object, message: str
) -> None:
    spoil(new)  # type: ignore[operator]
    before = names_of(new)
    with pytest.raises(ValueError, match=message):
        scim.tl.embed(new, encoder=encoder)
    assert names_of(new) == before


def test_arguments_that_do_not_fit(new: anndata.AnnData, encoder: scim.Encoder, reference: scim.Reference) -> None:
    with pytest.raises(ValueError, match="not both"):
        scim.tl.embed(new, reference, encoder=encoder)
    with pytest.raises(TypeError, match="encoder must be a scim.Encoder or the path of one, got Reference. Pass it as"):
        scim.tl.embed(new, encoder=reference)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="'blood.scim'"):
        scim.tl.embed(new, reference.path.parent / "blod.scim")
    with pytest.raises(KeyError, match="layer='counts'"):
        scim.tl.embed(new, reference, layer="counts")
    with pytest.raises(ValueError, match="nothing to work on"):
        scim.tl.embed(new[:0], reference)
    with pytest.raises(TypeError, match="must be an AnnData or a MuData"):
        scim.tl.embed(new.X, reference)
