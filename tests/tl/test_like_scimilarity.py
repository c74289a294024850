"""The verbs in SCimilarity's manner, against what SCimilarity 0.4.1 computed for the same cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad

import scim
from scim.tl._search_input import pool_groups

pytestmark = pytest.mark.filterwarnings("ignore:The data have 8", "ignore:.*no record of its encoder")


@pytest.fixture(scope="module")
def fixture(shared_dir: Path) -> Path:
    """What SCimilarity wrote and computed."""
    return shared_dir / "peer_bench" / "fixture"


@pytest.fixture(scope="module")
def expected(fixture: Path) -> dict[str, np.ndarray]:
    with np.load(fixture / "expected.npz") as saved:
        return dict(saved)


@pytest.fixture(scope="module")
def annotation(fixture: Path, tmp_path_factory: pytest.TempPathFactory) -> scim.Reference:
    return scim.Reference.from_scimilarity(fixture / "model", tmp_path_factory.mktemp("a") / "a.scim")


@pytest.fixture(scope="module")
def cellsearch(fixture: Path, tmp_path_factory: pytest.TempPathFactory) -> scim.Reference:
    pytest.importorskip("tiledb")
    path = tmp_path_factory.mktemp("s") / "s.scim"
    return scim.Reference.from_scimilarity(fixture / "model", path, part="cellsearch")


@pytest.fixture
def cells(fixture: Path) -> AnnData:
    return read_h5ad(fixture / "query_cells.h5ad")


@pytest.mark.parametrize(("vote", "column"), [("majority", "prediction"), ("weighted", "prediction_weighted")])
def test_votes_and_their_statistics(
    fixture: Path, annotation: scim.Reference, cells: AnnData, vote: str, column: str
) -> None:
    scim.tl.annotate(cells, annotation, vote=vote)
    theirs = pd.read_csv(fixture / "expected_annotation.csv", index_col=0)
    assert cells.obs["scim_label"].astype(str).tolist() == theirs[column].tolist()
    votes = cells.obsm["scim_votes"]
    for name in ("min_dist", "max_dist", "vs2nd", "vsAll"):
        np.testing.assert_allclose(votes[name], theirs[name], atol=1e-5)
    for name in ("vs2nd_weighted", "vsAll_weighted"):  # of inverse distances
        np.testing.assert_allclose(votes[name], theirs[name], atol=1e-3)
    share = "vsAll" if vote == "majority" else "vsAll_weighted"
    np.testing.assert_allclose(cells.obs["scim_confidence"], votes[share], atol=0.3)
    if vote == "majority":
        counted = theirs["hits"].map(pd.io.json.ujson_loads)
        scores = scim.get.scores(cells)
        for label in ("B cell", "fibroblast", "natural killer cell"):  # leaves, to which nothing adds up
            np.testing.assert_allclose(scores[label] * 50, [h.get(label, 0) for h in counted], atol=1e-4)


def test_safelist_and_blocklist(fixture: Path, annotation: scim.Reference, cells: AnnData) -> None:
    safe = {"label": ["T cell", "macrophage"]}
    scim.tl.annotate(cells, annotation, vote="majority", k=15, where=safe)
    theirs = pd.read_csv(fixture / "expected_annotation_safelist_k15.csv", index_col=0)
    assert cells.obs["scim_label"].astype(str).tolist() == theirs["prediction"].tolist()
    scim.tl.annotate(cells, annotation, vote="majority", exclude=safe)
    assert not set(cells.obs["scim_label"]) & set(safe["label"])


def test_exhaustive_search(fixture: Path, expected: dict, cellsearch: scim.Reference, cells: AnnData) -> None:
    where = {"tissue": "lung", "disease": "healthy"}
    queries = expected["embeddings"][:5]
    scim.tl.query(cells, cellsearch, vectors=queries, k=None, max_distance=0.05, where=where)
    mine, theirs = scim.get.hits(cells), pd.read_csv(fixture / "expected_search_exhaustive.csv")
    assert mine["query"].astype(int).tolist() == theirs["embedding_idx"].tolist()
    assert mine["cell_id"].astype(int).tolist() == theirs["index"].tolist()
    np.testing.assert_allclose(mine["distance"], theirs["query_nn_dist"], atol=1e-5)
    assert mine["author_label"].astype(str).tolist() == theirs["author_label"].tolist()


def test_centroid_and_coherence(expected: dict, cellsearch: scim.Reference, cells: AnnData) -> None:
    cells.obs["used"] = pd.Categorical(np.where(np.arange(200) % 10 == 0, "yes", None))
    genes = cellsearch.encoder.genes
    _, _, pooled = pool_groups(
        cells, genes, "used", np.arange(200), layer=None, gene_column=None, organism="auto", most=5
    )
    np.testing.assert_allclose(
        np.log1p(pooled.toarray() * (1e4 / pooled.sum())), expected["centroid"], rtol=1e-4, atol=1e-6
    )
    vector = cellsearch.encoder(pooled, kind="counts")
    np.testing.assert_allclose(vector, expected["centroid_embedding"], atol=1e-5)
    scim.tl.query(cells, cellsearch, groupby="used", k=100)
    coherence = cells.uns["scim_query"]["coherence"]
    assert 100 * coherence["coherence"].iloc[0] == pytest.approx(float(expected["query_coherence"]))


def test_attributions(fixture: Path, expected: dict, annotation: scim.Reference, cells: AnnData) -> None:
    pytest.importorskip("captum")
    encoder = annotation.encoder
    aligned = encoder.genes.match_adata(cells).align(cells.layers["counts"]).toarray()
    profiles = np.log1p(aligned * (1e4 / aligned.sum(axis=1, keepdims=True)))
    found = encoder.attribute(profiles[:4], profiles[100:104])
    np.testing.assert_allclose(found, expected["attributions"], atol=1e-4 * expected["attributions"].max())
    theirs = pd.read_csv(fixture / "expected_ranked_genes.csv")
    order = np.argsort(-found.mean(axis=0), kind="stable")[: len(theirs)]
    assert encoder.genes.names[order].tolist() == theirs["gene"].tolist()
    np.testing.assert_allclose(found.mean(axis=0)[order], theirs["attribution"], rtol=1e-4)
