"""Which values of an AnnData are embedded."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scanpy as sc

import scim
from scim.counts._values import find_values
from scim.genes import GeneSpace


@pytest.fixture
def cells() -> anndata.AnnData:
    """Real cells, normalised and logged, with all genes in raw and a third of them in X."""
    adata = scim.datasets.pbmc68k()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.raw = adata
    return adata[:, ::3].copy()


def test_raw_is_taken_where_it_has_more_genes(cells: anndata.AnnData) -> None:
    genes = GeneSpace(list(cells.raw.var_names))
    place, X, kind, gene_map = find_values(cells, genes, layer=None, gene_column=None)
    assert place == "raw" and X.shape[1] == cells.raw.n_vars and kind.kind == "log1p"
    assert gene_map.n_matched == cells.raw.n_vars
    # Not where it is asked for X, or has no more of the encoder's genes.
    assert find_values(cells, genes, layer="X", gene_column=None)[0] == "X"
    assert find_values(cells, GeneSpace(list(cells.var_names)), layer=None, gene_column=None)[0] == "X"


def test_raw_of_another_kind_is_left_alone(cells: anndata.AnnData) -> None:
    genes = GeneSpace(list(cells.raw.var_names))
    scaled = cells.raw.to_adata()
    scaled.X = scaled.X.toarray() - 1
    cells.raw = scaled
    assert find_values(cells, genes, layer=None, gene_column=None)[0] == "X"


def test_names_in_a_column_of_var_may_be_the_index_of_raw(cells: anndata.AnnData) -> None:
    genes = GeneSpace(list(cells.raw.var_names))
    cells.var["symbol"] = cells.var_names
    cells.var_names = [f"g{i}" for i in range(cells.n_vars)]
    place, _, _, gene_map = find_values(cells, genes, layer=None, gene_column="symbol")
    assert place == "raw" and gene_map.n_matched == cells.raw.n_vars


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


@pytest.mark.filterwarnings("ignore:The data have", "ignore:Labels that only some studies")
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
