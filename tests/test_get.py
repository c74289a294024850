"""Tables of what the verbs wrote, and the errors when they wrote nothing."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest

import scim


@pytest.fixture
def adata() -> anndata.AnnData:
    adata = anndata.AnnData(np.ones((2, 3), dtype="f4"))
    adata.obsm["scim_scores"] = pd.DataFrame(
        {"T cell": [0.9, 0.2], "B cell": [0.1, 0.8]}, index=adata.obs_names, dtype="f4"
    )
    hits = pd.DataFrame({"query": pd.Categorical(["a", "a", "b"]), "distance": [0.1, 0.2, 0.3]})
    adata.uns["scim_query"] = {"hits": hits, "queries": ["a", "b", "c"]}
    adata.uns["other"] = {"x": 1}
    return adata


def test_hits_of_all_or_one_query(adata: anndata.AnnData) -> None:
    assert scim.get.hits(adata)["distance"].tolist() == [0.1, 0.2, 0.3]
    one = scim.get.hits(adata, query="b")
    assert one["distance"].tolist() == [0.3] and list(one.index) == [0]
    assert scim.get.hits(adata, query=["b", "a"])["distance"].tolist() == [0.1, 0.2, 0.3]
    # A query that found nothing is not an unknown one.
    assert len(scim.get.hits(adata, query="c")) == 0


def test_hits_is_a_table_of_its_own(adata: anndata.AnnData) -> None:
    table = scim.get.hits(adata)
    table["distance"] = 0.0
    assert adata.uns["scim_query"]["hits"]["distance"].tolist() == [0.1, 0.2, 0.3]


def test_hits_that_are_not_there(adata: anndata.AnnData) -> None:
    with pytest.raises(KeyError, match="Did you mean 'scim_query'"):
        scim.get.hits(adata, "scim_qury")
    with pytest.raises(KeyError, match="Run scim.tl.query first"):
        scim.get.hits(adata, "other")
    with pytest.raises(KeyError, match="query='d' .*Available: 'a', 'b', 'c'"):
        scim.get.hits(adata, query="d")


def test_summary_by_column_and_enrichment(adata: anndata.AnnData) -> None:
    rows = [("a", "label", "T cell", 0.01), ("a", "label", "B cell", 1.0), ("a", "sample", "s1", np.nan)]
    table = pd.DataFrame([*rows, ("b", "label", "B cell", 0.04)], columns=["query", "column", "value", "fdr"])
    adata.uns["scim_query"]["summary"] = table
    assert len(scim.get.summary(adata)) == 4
    assert scim.get.summary(adata, fdr=0.05)["value"].tolist() == ["T cell", "B cell"]
    assert scim.get.summary(adata, query="a", column="label")["value"].tolist() == ["T cell", "B cell"]
    assert len(scim.get.summary(adata, query="c", column="label")) == 0
    with pytest.raises(KeyError, match="column='lable' .*Did you mean 'label'"):
        scim.get.summary(adata, column="lable")
    with pytest.raises(KeyError, match="query='d' is not a query of this result"):
        scim.get.summary(adata, query="d")
    with pytest.raises(ValueError, match="fdr must lie from 0 to 1"):
        scim.get.summary(adata, fdr=5)
    adata.uns["scim_query"]["summary"] = table.iloc[:0]
    assert len(scim.get.summary(adata, column="label")) == 0


def test_coherence_of_groups(adata: anndata.AnnData) -> None:
    with pytest.raises(KeyError, match="has no coherence. Run scim.tl.query with groupby="):
        scim.get.coherence(adata)
    adata.uns["scim_query"]["coherence"] = pd.DataFrame({"query": ["a", "b"], "coherence": [0.9, 0.1]})
    assert scim.get.coherence(adata, query=["b"])["coherence"].tolist() == [0.1]


def test_scores_of_all_or_some_terms(adata: anndata.AnnData) -> None:
    assert list(scim.get.scores(adata).columns) == ["T cell", "B cell"]
    assert list(scim.get.scores(adata, terms=["B cell"]).columns) == ["B cell"]
    assert scim.get.scores(adata, terms="T cell").iloc[:, 0].tolist() == pytest.approx([0.9, 0.2])
    table = scim.get.scores(adata)
    table["T cell"] = 0.0
    assert adata.obsm["scim_scores"]["T cell"].iloc[0] == pytest.approx(0.9)


def test_scores_that_are_not_there(adata: anndata.AnnData) -> None:
    with pytest.raises(KeyError, match="Run scim.tl.annotate first"):
        scim.get.scores(adata, "mine")
    with pytest.raises(KeyError, match="Did you mean 'T cell'"):
        scim.get.scores(adata, terms=["T cel"])


def test_clusters_of_all_or_some_groups(adata: anndata.AnnData) -> None:
    table = pd.DataFrame({"group": pd.Categorical(["0", "1"]), "label": ["T cell", "B cell"]})
    adata.uns["scim"] = {"clusters": table}
    assert scim.get.clusters(adata)["label"].tolist() == ["T cell", "B cell"]
    one = scim.get.clusters(adata, group="1")
    assert one["label"].tolist() == ["B cell"] and list(one.index) == [0]
    one["label"] = "x"
    assert adata.uns["scim"]["clusters"]["label"].tolist() == ["T cell", "B cell"]
    with pytest.raises(KeyError, match="group='2' .*Available: '0', '1'"):
        scim.get.clusters(adata, group=["0", "2"])


def test_clusters_that_are_not_there(adata: anndata.AnnData) -> None:
    with pytest.raises(KeyError, match="with by= first"):
        scim.get.clusters(adata, "other")
    with pytest.raises(KeyError, match="Did you mean 'other'"):
        scim.get.clusters(adata, "othr")


def test_modality() -> None:
    mudata = pytest.importorskip("mudata")
    rna = anndata.AnnData(np.ones((2, 3), dtype="f4"))
    rna.obsm["scim_scores"] = pd.DataFrame({"T cell": [1.0, 0.0]}, index=rna.obs_names)
    data = mudata.MuData({"rna": rna})
    assert scim.get.scores(data, mod="rna")["T cell"].tolist() == [1.0, 0.0]
