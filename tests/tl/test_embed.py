"""scim.tl.embed: what it writes, on which objects, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest
from _made import as_mouse, shared_with
from scipy import sparse

import scim
from scim.genes import to_human
from scim.genes._organism import ortholog_table


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


def test_mouse_cells_are_embedded_as_human_ones(new: anndata.AnnData, encoder: scim.Encoder) -> None:
    mouse = as_mouse(new)
    scim.tl.embed(mouse, encoder=encoder)
    shared = shared_with(mouse, new)
    vectors = encoder.embed(shared)
    np.testing.assert_allclose(mouse.obsm["X_scim"], vectors, atol=1e-6)
    genes = mouse.uns["scim"]["embed"]["genes"]
    assert (genes["organism"], genes["n_columns"], genes["n_mapped"]) == ("mouse", new.n_vars, shared.n_vars)
    assert genes["share_mapped"] == shared.n_vars / new.n_vars
    # The values are log1p values.
    share = shared.X.expm1().sum() / new.X.expm1().sum()
    assert genes["share_expression_mapped"] == pytest.approx(share, abs=1e-5)
    ids = as_mouse(new, ids=True)
    scim.tl.embed(ids, encoder=encoder)
    np.testing.assert_allclose(ids.obsm["X_scim"], mouse.obsm["X_scim"], atol=1e-6)
    scim.tl.embed(new, encoder=encoder)
    assert new.uns["scim"]["embed"]["genes"]["organism"] == "human"
    assert "share_mapped" not in new.uns["scim"]["embed"]["genes"]


def test_a_low_share_of_mapped_expression_is_warned_of(new: anndata.AnnData, encoder: scim.Encoder) -> None:
    mouse = as_mouse(new)
    known = [i for i, name in enumerate(mouse.var_names) if not name.startswith("Gm9")]
    # The genes of most counts get names without an orthologue.
    depth = np.asarray(mouse.X.sum(axis=0)).ravel()
    top = sorted(known, key=lambda i: -depth[i])[:150]
    mouse.var_names = [f"Gm{800_000 + i}" if i in set(top) else name for i, name in enumerate(mouse.var_names)]
    with pytest.warns(UserWarning, match=r"Only \d+% of the expression is in genes of mouse with a human orthologue"):
        scim.tl.embed(mouse, encoder=encoder)
    assert 0 < mouse.uns["scim"]["embed"]["genes"]["share_expression_mapped"] < 0.75


def test_a_barnyard_is_refused_and_nothing_written(new: anndata.AnnData, encoder: scim.Encoder) -> None:
    both = anndata.concat([new, as_mouse(new, ids=True)], axis=1)
    with pytest.raises(ValueError, match=r"genes in var_names are of two organisms: \d{3} of human, \d{3} of mouse"):
        scim.tl.embed(both, encoder=encoder)
    assert not both.obsm and not both.uns
    with pytest.raises(ValueError, match="organism='mose' is not known. Did you mean 'mouse'"):
        scim.tl.embed(new, encoder=encoder, organism="mose")  # type: ignore[arg-type]


def test_real_mouse_cells_by_symbol_and_by_id(shared_data: Path) -> None:
    by_symbol = anndata.read_h5ad(shared_data / "mouse" / "mouse_mca_stomach_intestine.h5ad")
    ids: dict[str, str] = {}
    for mouse_id, human in ortholog_table().by_ensembl.items():
        ids.setdefault(human, mouse_id)
    names = by_symbol.var_names.tolist()
    by_id = by_symbol.copy()
    by_id.var_names = [ids.get(human, name) for name, human in zip(names, to_human(names), strict=True)]
    by_id.var_names_make_unique(".")
    vectors = []
    for adata in (by_symbol, by_id):
        scim.tl.embed(adata)
        vectors.append(adata.obsm["X_scim"])
        assert adata.uns["scim"]["embed"]["genes"]["share_expression_mapped"] > 0.95
    np.testing.assert_allclose(vectors[1], vectors[0], atol=1e-5)


def test_a_renamed_human_study_is_embedded_alike(shared_data: Path) -> None:
    human = anndata.read_h5ad(shared_data / "zheng2017_sorted_pbmc.h5ad")
    mouse = as_mouse(human)
    for adata in (human, mouse):
        scim.tl.embed(adata)
    cosines = (human.obsm["X_scim"] * mouse.obsm["X_scim"]).sum(axis=1)
    assert np.quantile(cosines, 0.02) > 0.99 and cosines.min() > 0.97
