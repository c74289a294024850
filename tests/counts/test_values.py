"""Which matrix of an AnnData is embedded, and over which genes."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scanpy as sc

import scim
from scim.counts._values import find_counts, find_values, organism_facts
from scim.genes import GeneSpace


@pytest.fixture
def cells() -> anndata.AnnData:
    """Real cells, normalised and logged, with all genes in raw and a third of them in X."""
    adata = scim.datasets.pbmc68k()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.raw = adata
    return adata[:, ::3].copy()


def counts() -> np.ndarray:
    return np.random.default_rng(0).poisson(1.5, (60, 400)).astype("float32")


def test_find_counts_prefers_counts_and_falls_back() -> None:
    X = counts()
    adata = anndata.AnnData(np.log1p(X / X.sum(axis=1, keepdims=True) * 1e4))
    assert find_counts(adata).place == "X"
    adata.layers["counts"] = X
    found = find_counts(adata)
    assert (found.place, found.kind.kind, found.use_raw) == ("counts", "counts", False)
    assert find_counts(adata, layer="X").kind.kind == "log1p"


def test_find_counts_takes_raw_where_x_is_scaled() -> None:
    found = find_counts(sc.datasets.pbmc68k_reduced())
    assert (found.place, found.kind.kind, found.use_raw) == ("raw", "log1p", True) and found.X.shape == (700, 765)


def test_find_counts_lists_every_place_that_failed() -> None:
    adata = anndata.AnnData(counts() - 1)
    with pytest.raises(ValueError, match="X holds negative values.*Name the layer"):
        find_counts(adata)
    with pytest.raises(KeyError, match="layer='count' is not there. Did you mean"):
        adata.layers["counts"] = counts()
        find_counts(adata, layer="count")
    with pytest.raises(ValueError, match="adata has no X"):
        find_counts(anndata.AnnData(obs=adata.obs, var=adata.var))


def test_raw_is_taken_where_it_has_more_genes(cells: anndata.AnnData) -> None:
    genes = GeneSpace(list(cells.raw.var_names))
    found = find_values(cells, genes, layer=None, gene_column=None)
    assert found.place == "raw" and found.X.shape[1] == cells.raw.n_vars and found.kind.kind == "log1p"
    assert found.genes.n_matched == cells.raw.n_vars
    # Not where it is asked for X, or has no more of the encoder's genes.
    assert find_values(cells, genes, layer="X", gene_column=None).place == "X"
    assert find_values(cells, GeneSpace(list(cells.var_names)), layer=None, gene_column=None).place == "X"


def test_raw_of_another_kind_is_left_alone(cells: anndata.AnnData) -> None:
    genes = GeneSpace(list(cells.raw.var_names))
    scaled = cells.raw.to_adata()
    scaled.X = scaled.X.toarray() - 1
    cells.raw = scaled
    assert find_values(cells, genes, layer=None, gene_column=None).place == "X"


def test_names_in_a_column_of_var_may_be_the_index_of_raw(cells: anndata.AnnData) -> None:
    genes = GeneSpace(list(cells.raw.var_names))
    cells.var["symbol"] = cells.var_names
    cells.var_names = [f"g{i}" for i in range(cells.n_vars)]
    found = find_values(cells, genes, layer=None, gene_column="symbol")
    assert found.place == "raw" and found.genes.n_matched == cells.raw.n_vars


def test_values_come_over_the_genes_of_an_encoder() -> None:
    adata = anndata.AnnData(np.array([[1.0, 3.0, 6.0], [0.0, 5.0, 5.0], [2.0, 0.0, 8.0]]))
    adata.var_names = ["CD3E", "MS4A1", "CD3E-copy"]
    adata.var["symbol"] = ["CD3E", "MS4A1", "CD3E"]
    genes = GeneSpace(["NKG7", "MS4A1", "CD3E"])
    expected = np.array([[0, 3, 7], [0, 5, 5], [0, 0, 10]])
    for logged in (False, True):
        if logged:
            adata.X = np.log1p(adata.X / adata.X.sum(axis=1, keepdims=True) * 1e4)
        values = find_values(adata, genes, layer=None, gene_column="symbol")
        linear = values.linear().toarray() / (1000 if logged else 1)
        np.testing.assert_allclose(linear, expected, rtol=1e-5)
        np.testing.assert_array_equal(values.linear(np.array([0, 2])).toarray(), values.linear().toarray()[[0, 2]])
        kept = values.aligned(slice(1, 3)).toarray()
        np.testing.assert_allclose(np.expm1(kept) / 1000 if logged else kept, expected[1:], rtol=1e-5)
        assert values.linear(np.array([], dtype=int)).shape == (0, 3)
        np.testing.assert_array_equal(np.vstack([block for _, block in values.blocks(chunk_size=2)]), adata.X)


@pytest.mark.filterwarnings("ignore:The data have", "ignore:Most hits")
def test_labels_are_those_of_all_genes(cells: anndata.AnnData) -> None:
    everything = cells.raw.to_adata()
    for adata in (cells, everything):
        scim.tl.annotate(adata)
    np.testing.assert_allclose(cells.obsm["X_scim"], everything.obsm["X_scim"], atol=1e-5)
    assert (cells.obs["scim_label"].astype(str) == everything.obs["scim_label"].astype(str)).all()
    assert cells.uns["scim"]["embed"]["input"]["layer"] == "raw"
    scim.tl.query(cells, groupby="cell_type", k=10)
    scim.tl.query(everything, groupby="cell_type", k=10)
    assert scim.get.hits(cells)["row"].tolist() == scim.get.hits(everything)["row"].tolist()


@pytest.mark.filterwarnings("ignore:The data have", "ignore:Cells will rarely be labelled")
@pytest.mark.parametrize("keep", ["X", "counts"])
def test_raw_may_go_once_cells_are_embedded(cells: anndata.AnnData, keep: str) -> None:
    whole = scim.tl.annotate(cells, copy=True)
    scim.tl.embed(cells)
    if keep == "counts":
        cells.layers["counts"] = cells.X.copy()
        cells.X = cells.X.toarray() - 1
    del cells.raw
    scim.tl.annotate(cells)
    assert cells.uns["scim"]["annotate"]["novelty"] == "expression"
    np.testing.assert_array_equal(cells.obsm["X_scim"], whole.obsm["X_scim"])


def test_share_of_mapped_expression_is_that_of_linear_values() -> None:
    rng = np.random.default_rng(0)
    X = rng.poisson([4.0, 1.0, 3.0, 3.0], (700, 4)).astype("float32") + [1, 0, 0, 0]
    names = ["Cd3e", "Gm42418", "Ms4a1", "Nkg7"]
    genes = GeneSpace(["CD3E", "MS4A1"])
    for logged in (False, True):
        scale = 1e4 / X.sum(axis=1, keepdims=True)
        adata = anndata.AnnData(np.log1p(X * scale) if logged else X)
        adata.var_names = names
        values = find_values(adata, genes, layer=None, gene_column=None)
        linear = X * scale if logged else X
        # Nkg7 is mapped, though the encoder lacks it. The share is that of 500 of the cells.
        assert values.share_mapped == pytest.approx(linear[:, [0, 2, 3]].sum() / linear.sum(), abs=0.01)
        assert organism_facts(values)["share_expression_mapped"] == values.share_mapped
    adata.var_names = ["CD3E", "MALAT1", "MS4A1", "NKG7"]
    values = find_values(adata, genes, layer=None, gene_column=None)
    assert values.share_mapped == 1 and organism_facts(values) == {"organism": "human"}
