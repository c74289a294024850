"""Genes behind the place of a group."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from _made import as_mouse
from scipy import sparse

import scim
from scim.encoder._forward import make_forward
from scim.encoder._normalized import blocked_rows

pytest.importorskip("captum")


def test_genes_of_a_group_lead(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.explain(new, reference, groupby="cell_type", groups=["B cell"], n_cells=20)
    table = scim.get.genes(new)
    assert list(table["group"].cat.categories) == ["B cell"]
    assert table["score"].is_monotonic_decreasing
    assert set(table["gene"]) <= set(new.var_names)
    assert {"CD79A", "CD74", "CD79B", "MS4A1"} & set(table["gene"].head(10))
    assert (table["logfoldchange"].head(5) > 0).all()


def test_all_groups_against_one(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.explain(new, reference, groupby="cell_type", against="B cell", n_cells=4, n_genes=7)
    groups = sorted(set(new.obs["cell_type"].astype(str)) - {"B cell"})
    assert list(new.uns["scim_explain"]["names"].dtype.names) == groups
    assert len(scim.get.genes(new)) == 7 * len(groups)
    assert scim.get.genes(new, group=groups[0])["group"].unique().tolist() == [groups[0]]


def test_scanpy_draws_it_and_files_keep_it(new: anndata.AnnData, reference: scim.Reference, tmp_path: Path) -> None:
    import scanpy as sc

    scim.tl.embed(new, reference)
    scim.tl.explain(new, reference, groupby="cell_type", n_cells=3, n_genes=5)
    expected = scim.get.genes(new)
    sc.pl.rank_genes_groups(new, key="scim_explain", show=False)
    sc.tl.dendrogram(new, "cell_type", use_rep="X_scim")
    sc.pl.rank_genes_groups_dotplot(new, key="scim_explain", n_genes=2, show=False)
    new.write_h5ad(tmp_path / "new.h5ad")
    again = anndata.read_h5ad(tmp_path / "new.h5ad")
    pd.testing.assert_frame_equal(scim.get.genes(again), expected, check_dtype=False)


def test_same_seed_same_genes_whatever_the_storage(new: anndata.AnnData, encoder: scim.Encoder, tmp_path: Path) -> None:
    new.write_h5ad(tmp_path / "new.h5ad")
    backed = anndata.read_h5ad(tmp_path / "new.h5ad", backed="r")
    tables = []
    for data in (new, new[:, ::-1], backed):
        options = {"groupby": "cell_type", "groups": "B cell", "n_cells": 5}
        out = scim.tl.explain(data, encoder=encoder, copy=True, **options)
        assert "scim_explain" not in data.uns
        tables.append(scim.get.genes(out))
    for table in tables[1:]:
        pd.testing.assert_frame_equal(table, tables[0], rtol=1e-3)
    other = scim.tl.explain(new, encoder=encoder, groupby="cell_type", groups="B cell", n_cells=5, seed=1, copy=True)
    assert not scim.get.genes(other)["score"].equals(tables[0]["score"])


def test_a_gene_that_is_not_measured_is_not_named(new: anndata.AnnData, encoder: scim.Encoder) -> None:
    some = new[:, 100:500].copy()
    scim.tl.explain(some, encoder=encoder, groupby="cell_type", groups="B cell", n_cells=3, n_genes=10_000)
    assert sorted(scim.get.genes(some)["gene"]) == sorted(some.var_names)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"groupby": "cell_typ"}, KeyError, "Did you mean 'cell_type'"),
        ({"groupby": "cell_type", "groups": 7}, KeyError, "groups='7' is not a group"),
        ({"groupby": "cell_type", "groups": "B cel"}, KeyError, "groups='B cel'.*'B cell'"),
        ({"groupby": "cell_type", "against": "B cel"}, KeyError, "against='B cel'.*'B cell'"),
        ({"groupby": "cell_type", "groups": ["B cell"], "against": "B cell"}, ValueError, "also against="),
        ({"groupby": "one"}, ValueError, "no group besides 'all'"),
        ({"groupby": "cell_type", "n_cells": 0}, ValueError, "n_cells"),
        ({"groupby": "cell_type", "n_genes": "ten"}, TypeError, "n_genes"),
    ],
)
def test_errors_write_nothing(
    new: anndata.AnnData, encoder: scim.Encoder, options: dict, error: type[Exception], text: str
) -> None:
    new.obs["one"] = "all"
    with pytest.raises(error, match=text):
        scim.tl.explain(new, encoder=encoder, **options)
    assert "scim_explain" not in new.uns


def _embedded_as_they_are(encoder: scim.Encoder, profiles: np.ndarray) -> np.ndarray:
    """Vectors of log-normalised profiles that are not normalised again."""
    rows = sparse.csr_matrix(profiles)
    blocked = blocked_rows(rows.indptr.astype(np.int64), rows.indices, rows.data, rows.shape[1])
    return make_forward(encoder.weights, precision="fp32", device="cpu")(blocked)


def test_attributions_are_complete(new: anndata.AnnData, encoder: scim.Encoder) -> None:
    """Over all genes, signs included, integrated gradients add up to the squared distance; here none is lower."""
    low = np.zeros((3, len(encoder.genes)), dtype=np.float32)
    low[:, :5] = 1.0
    high = low + np.random.default_rng(0).uniform(0, 1, size=low.shape).astype(np.float32)
    one, other = (_embedded_as_they_are(encoder, profiles) for profiles in (high, low))
    found = encoder.attribute(high, low, n_steps=200)
    assert (found >= 0).all() and found.shape == high.shape
    assert (found.sum(axis=1) >= ((one - other) ** 2).sum(axis=1) * 0.98).all()
    with pytest.raises(ValueError, match="must both be"):
        encoder.attribute(high, low[:2])
    np.testing.assert_array_equal(encoder.attribute(sparse.csr_matrix(high), low, n_steps=200), found)
    high[0, 0] = np.nan
    with pytest.raises(ValueError, match="anchors"):
        encoder.attribute(high, low)


def test_without_captum_the_extra_is_named(
    new: anndata.AnnData, encoder: scim.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(ImportError, match=r"scim-tools\[captum\]"):
        scim.tl.explain(new, encoder=encoder, groupby="cell_type", n_cells=1)


def test_no_result_to_read(new: anndata.AnnData) -> None:
    with pytest.raises(KeyError, match="scim_explain"):
        scim.get.genes(new)
    new.uns["scim_explain"] = {"names": 1}
    with pytest.raises(KeyError, match=r"Run scim\.tl\.explain"):
        scim.get.genes(new)


def test_genes_of_mouse_keep_their_names(new: anndata.AnnData, reference: scim.Reference) -> None:
    mouse = as_mouse(new)
    scim.tl.explain(mouse, reference, groupby="cell_type", groups=["B cell"], n_cells=20)
    genes = set(scim.get.genes(mouse)["gene"])
    assert genes <= set(mouse.var_names) and {"Cd79a", "Cd74", "Cd79b", "Ms4a1"} & genes
