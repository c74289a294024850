"""scim.tl.query: searches with cells, groups and vectors, what it writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scim
from scim.tl import _query
from scim.tl._groups import read_groups

BASE = ["query", "rank", "row", "cell_id", "distance", "pvalue", "label", "term_id", "study"]


def names_of(adata: anndata.AnnData) -> tuple[list[str], list[str], list[str]]:
    return list(adata.obs), list(adata.obsm), list(adata.uns)


def test_cells_are_searched_one_by_one(new: anndata.AnnData, reference: scim.Reference) -> None:
    cells = list(new.obs_names[[5, 2]])
    assert scim.tl.query(new, reference, cells=cells, k=7) is None
    hits = scim.get.hits(new)
    assert list(hits.columns[: len(BASE)]) == BASE
    assert list(hits["query"].unique()) == cells
    wanted = reference.search(reference.encoder.embed(new)[[5, 2]], 7)
    np.testing.assert_array_equal(hits["row"], wanted.indices.ravel())
    np.testing.assert_allclose(hits["distance"], wanted.distances.ravel(), atol=1e-6)
    assert list(hits["rank"]) == [*range(7), *range(7)]
    obs = reference.metadata(wanted.indices.ravel())
    assert list(hits["cell_id"]) == list(obs["cell_id"]) and list(hits["label"]) == list(obs["label"])
    np.testing.assert_allclose(hits["pvalue"], reference.label_model.distance_pvalue(wanted.distances.ravel()))
    assert new.uns["scim_query"]["params"]["kind"] == "cells"
    assert "coherence" not in new.uns["scim_query"]
    assert "X_scim" in new.obsm and "embed" in new.uns["scim"]


@pytest.mark.parametrize("how", ["mask", "series", "positions", "one name"])
def test_ways_to_name_cells(new: anndata.AnnData, reference: scim.Reference, how: str) -> None:
    mask = np.zeros(new.n_obs, dtype=bool)
    mask[[3]] = True
    cells = {
        "mask": mask,
        "series": pd.Series(mask, index=new.obs_names),
        "positions": [3],
        "one name": new.obs_names[3],
    }[how]
    scim.tl.query(new, reference, cells=cells, k=2)
    assert list(scim.get.hits(new)["query"]) == [new.obs_names[3]] * 2


@pytest.mark.parametrize(
    ("cells", "error", "message"),
    [
        (["nobody"], KeyError, "'nobody' is not in adata.obs_names"),
        (np.ones(3, dtype=bool), ValueError, "mask of 3 values"),
        (np.zeros(100, dtype=bool), ValueError, "without a True"),
        ([100], ValueError, "must be 0 to 99"),
        ([-1], ValueError, "must be 0 to 99"),
        ([], ValueError, "cells is empty"),
        ([0.5], TypeError, "names, positions or True and False"),
        (np.zeros((2, 2), dtype=int), ValueError, "shape"),
    ],
)
def test_cells_that_are_not_there(
    new: anndata.AnnData, reference: scim.Reference, cells: object, error: type[Exception], message: str
) -> None:
    before = names_of(new)
    with pytest.raises(error, match=message):
        scim.tl.query(new, reference, cells=cells, k=2)
    assert names_of(new) == before


def test_ambiguous_names_are_refused(new: anndata.AnnData, reference: scim.Reference) -> None:
    new.obs_names = ["twice", "twice", *new.obs_names[2:]]
    with pytest.raises(ValueError, match="obs_names_make_unique"):
        scim.tl.query(new, reference, cells=["twice"], k=2)


def test_groups_are_searched_with_their_pooled_counts(reference: scim.Reference) -> None:
    rng = np.random.default_rng(0)
    genes = list(reference.encoder.genes.names)
    counts = rng.poisson(0.5, (30, len(genes))).astype("f4")
    counts[:15] *= 20  # deep cells count more in a sum of counts
    adata = anndata.AnnData(sparse.csc_matrix(counts), var=pd.DataFrame(index=genes))
    adata.obs["group"] = pd.Categorical(["b", "a", None] * 10, categories=["b", "a", "unused"])
    scim.tl.query(adata, reference, groupby="group", k=5)
    mine = counts[1::3].sum(axis=0)
    centroid = reference.encoder(np.log1p(1e4 * mine / mine.sum())[None], kind="log1p")
    wanted = reference.search(centroid, 5)
    np.testing.assert_allclose(scim.get.hits(adata, query="a")["distance"], wanted.distances[0], atol=1e-5)
    assert adata.uns["scim_query"]["queries"] == ["b", "a"]
    assert adata.uns["scim_query"]["params"]["kind"] == "groups"
    # Of chosen cells only
    scim.tl.query(adata, reference, groupby="group", cells=[1, 4], k=5, key_added="few")
    mine = counts[[1, 4]].sum(axis=0)
    centroid = reference.encoder(mine[None], kind="counts")
    np.testing.assert_allclose(scim.get.hits(adata, "few")["distance"], reference.search(centroid, 5).distances[0])


def test_log1p_values_are_pooled_on_the_linear_scale(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.query(new, reference, groupby="cell_type", k=5)
    mine = np.expm1(new.X.toarray().astype(float))[(new.obs["cell_type"] == "B cell").to_numpy()].sum(axis=0)
    centroid = reference.encoder(mine[None].astype("f4"), kind="counts")
    np.testing.assert_allclose(
        scim.get.hits(new, query="B cell")["distance"], reference.search(centroid, 5).distances[0], atol=1e-5
    )
    assert (scim.get.hits(new, query="B cell")["label"] == "B cell").all()


def test_vectors_of_the_user(new: anndata.AnnData, reference: scim.Reference) -> None:
    vectors = reference.vectors(np.array([4, 9]))
    scim.tl.query(new, reference, vectors=vectors, k=3)
    hits = scim.get.hits(new)
    assert list(hits["query"].unique()) == ["0", "1"]
    assert list(hits.loc[hits["rank"] == 0, "row"]) == [4, 9]
    assert "X_scim" not in new.obsm
    scim.tl.query(new, reference, vectors=vectors[0], k=3)
    assert len(scim.get.hits(new)) == 3


@pytest.mark.parametrize("bad", [np.ones((2, 3)), np.full((2, 16), np.nan), np.ones((0, 16)), np.ones((2, 2, 16))])
def test_vectors_that_do_not_fit(new: anndata.AnnData, reference: scim.Reference, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="vectors"):
        scim.tl.query(new, reference, vectors=bad)
    assert "scim_query" not in new.uns


def test_filters_caps_and_distance(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.query(new, reference, cells=[0], k=40, where={"tissue": "blood"}, exclude={"sample": "s1"})
    hits = scim.get.hits(new)
    assert set(hits["tissue"]) == {"blood"} and "s1" not in set(hits["sample"])
    scim.tl.query(new, reference, cells=[0], k=40, max_per_group={"sample": 3})
    assert scim.get.hits(new)["sample"].value_counts().max() == 3
    limit = float(hits["distance"].median())
    scim.tl.query(new, reference, cells=[0], k=40, max_distance=limit)
    assert 0 < len(scim.get.hits(new)) <= 40 and scim.get.hits(new)["distance"].max() <= limit
    params = new.uns["scim_query"]["params"]
    assert params["max_distance"] == pytest.approx(limit)


def test_no_hit_within_the_distance(new: anndata.AnnData, reference: scim.Reference, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="No reference cell is a hit"):
        scim.tl.query(new, reference, groupby="cell_type", k=5, max_distance=0.0)
    assert len(scim.get.hits(new)) == 0
    assert (new.uns["scim_query"]["coherence"]["coherence"] == 0).all()
    assert len(scim.get.hits(new, query="B cell")) == 0
    new.write_h5ad(tmp_path / "none.h5ad")
    assert len(scim.get.hits(anndata.read_h5ad(tmp_path / "none.h5ad"))) == 0


def test_more_hits_than_cells(new: anndata.AnnData, reference: scim.Reference) -> None:
    with pytest.warns(UserWarning, match="k=1000 is more than"):
        scim.tl.query(new, reference, cells=[0], k=1000)
    assert len(scim.get.hits(new)) == 600


def test_too_many_hits_are_refused_with_a_remedy(
    new: anndata.AnnData, reference: scim.Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_query, "MAX_HITS", 500)
    before = names_of(new)
    with pytest.raises(ValueError, match="groupby=.*cells=, up to 50 at this k"):
        scim.tl.query(new, reference, k=10)
    with pytest.raises(ValueError, match="'channel' has 8 groups, but 5 can be searched"):
        scim.tl.query(new, reference, groupby="channel", k=100)
    assert names_of(new) == before
    scim.tl.query(new, reference, k=5)


def test_cells_without_counts_get_no_hits(new: anndata.AnnData, reference: scim.Reference) -> None:
    new.X = sparse.csr_matrix(np.vstack([np.zeros((2, new.n_vars)), new.X[2:].toarray()]).astype("f4"))
    with pytest.warns(UserWarning, match="1 queries have no counts"):
        scim.tl.query(new, reference, cells=[0, 5], k=3)
    assert set(scim.get.hits(new)["query"]) == {new.obs_names[5]}
    new.obs["empty"] = np.where(np.arange(new.n_obs) < 2, "empty", "full")
    with pytest.warns(UserWarning, match="no counts .* 'empty'"):
        scim.tl.query(new, reference, groupby="empty", k=3)
    coherence = new.uns["scim_query"]["coherence"].set_index("query")
    assert coherence.loc["empty", "coherence"] == 0 and coherence.loc["empty", "n_cells"] == 2
    with pytest.raises(ValueError, match="No query has counts"):
        scim.tl.query(new, reference, cells=[0, 1], k=3)


def test_coherence_tells_a_kind_from_a_mixture(new: anndata.AnnData, reference: scim.Reference) -> None:
    label = new.obs["cell_type"].astype(str)
    pair = ["B cell", "CD14-positive monocyte"]
    new.obs["pure"] = label.where(label.isin(pair), np.nan)
    new.obs["mixed"] = pd.Series("both", index=new.obs_names).where(label.isin(pair), np.nan)
    scim.tl.query(new, reference, groupby="pure", k=60)
    pure = new.uns["scim_query"]["coherence"]
    scim.tl.query(new, reference, groupby="mixed", k=60)
    mixed = new.uns["scim_query"]["coherence"]
    assert pure["coherence"].between(0, 1).all() and (pure["n_clusters"] == pure["n_cells"].clip(upper=10)).all()
    assert mixed["coherence"].iloc[0] < pure["coherence"].min()


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_results_round_trip(new: anndata.AnnData, reference: scim.Reference, tmp_path: Path, suffix: str) -> None:
    new.obs["group"] = new.obs["bulk_labels"]  # names with slashes
    scim.tl.query(new, reference, groupby="group", k=9, where={"tissue": ["blood"]}, max_per_group={"sample": 5})
    path = tmp_path / f"out.{suffix}"
    if suffix == "zarr":
        new.write_zarr(path)
    else:
        new.write_h5ad(path)
    back = anndata.read_zarr(path) if suffix == "zarr" else anndata.read_h5ad(path)
    for table in ("hits", "summary", "coherence"):
        one, two = back.uns["scim_query"][table], new.uns["scim_query"][table]
        assert list(one.columns) == list(two.columns) and len(one) == len(two)
        for column in one:
            pd.testing.assert_series_equal(one[column].astype(two[column].dtype), two[column])
    assert back.uns["scim_query"]["params"]["where"] == new.uns["scim_query"]["params"]["where"]
    assert len(scim.get.hits(back, query=new.obs["group"].iloc[0])) == 9


def test_missing_values_of_all_kinds_are_written(tmp_path: Path) -> None:
    cells = scim.datasets.pbmc68k()[:200].copy()
    cells.obs["flag"] = pd.array([True, False, None, None] * 50, dtype="boolean")
    cells.obs["number"] = pd.array([1, None, 3, 4] * 50, dtype="Int64")
    genes = scim.genes.GeneSpace.from_adata(cells)
    weights = {"output.weight": np.random.default_rng(0).normal(size=(8, len(genes))), "output.bias": np.zeros(8)}
    options = {"labels_key": "cell_type", "study_key": "channel", "obs_columns": ["flag", "number"]}
    reference = scim.Reference.build(tmp_path / "r.scim", cells, scim.Encoder(genes, weights), **options)
    query = scim.datasets.pbmc68k()[200:205].copy()
    scim.tl.query(query, reference, k=20)
    query.write_h5ad(tmp_path / "query.h5ad")
    hits = scim.get.hits(anndata.read_h5ad(tmp_path / "query.h5ad"))
    rows = hits["row"].to_numpy()
    expected = cells.obs["flag"].astype(object).to_numpy()[rows]
    assert [bool(x) if x is not pd.NA else None for x in hits["flag"]] == [
        bool(x) if x is not pd.NA else None for x in expected
    ]
    np.testing.assert_array_equal(hits["number"].isna(), rows % 4 == 1)


def test_copy_view_backed_dask_and_mudata(
    blood: anndata.AnnData, held_out: np.ndarray, new: anndata.AnnData, reference: scim.Reference, h5ad: Path
) -> None:
    da = pytest.importorskip("dask.array")
    mudata = pytest.importorskip("mudata")
    before = names_of(new)
    wanted = scim.get.hits(scim.tl.query(new, reference, groupby="cell_type", k=5, copy=True))
    assert names_of(new) == before
    view = blood[held_out]
    backed = anndata.read_h5ad(h5ad, backed="r")
    lazy = new.copy()
    lazy.X = da.from_array(new.X.toarray(), chunks=(30, -1))
    for other in (view, backed, lazy):
        scim.tl.query(other, reference, groupby="cell_type", k=5)
        np.testing.assert_allclose(scim.get.hits(other)["distance"], wanted["distance"], atol=1e-5)
    backed.file.close()
    data = mudata.MuData({"rna": new.copy()})
    scim.tl.query(data, reference, groupby="cell_type", k=5, mod="rna")
    assert len(scim.get.hits(data, mod="rna")) == len(wanted)


def test_an_embedding_of_another_encoder_is_left_and_another_made(
    new: anndata.AnnData, reference: scim.Reference
) -> None:
    weights = {name: -array for name, array in reference.encoder.weights.items()}
    scim.tl.query(new, reference, k=5, copy=True)
    scim.tl.embed(new, encoder=scim.Encoder(reference.encoder.genes, weights))
    other, before = new.obsm["X_scim"].copy(), names_of(new)
    with pytest.raises(ValueError, match="made by encoder"):
        scim.tl.query(new, reference, k=5, use_rep="X_scim")
    assert names_of(new) == before
    for groupby in (None, "cell_type"):  # the second time, the embedding is there, and keeps its record
        scim.tl.query(new, reference, groupby=groupby, k=5)
        np.testing.assert_array_equal(new.obsm["X_scim"], other)
        np.testing.assert_array_equal(new.obsm["X_scim_query"], reference.encoder.embed(new))
        assert new.uns["scim_query"]["embed"]["encoder_id"] == reference.encoder_id
        assert new.uns["scim_query"]["params"]["use_rep"] == "X_scim_query"


def test_arguments_that_do_not_fit(new: anndata.AnnData, reference: scim.Reference) -> None:
    before = names_of(new)
    with pytest.raises(KeyError, match="Did you mean 'cell_type'"):
        scim.tl.query(new, reference, groupby="celltype")
    with pytest.raises(ValueError, match="vectors are queries of their own"):
        scim.tl.query(new, reference, groupby="cell_type", vectors=np.ones(16))
    with pytest.raises(ValueError, match="max_distance"):
        scim.tl.query(new, reference, cells=[0], max_distance=3)
    with pytest.raises(KeyError, match="Did you mean 'sample'"):
        scim.tl.query(new, reference, cells=[0], max_per_group={"smple": 2})
    with pytest.raises(ValueError, match="leave none"):
        scim.tl.query(new, reference, cells=[0], exclude={"study": ["first", "second"]})
    with pytest.raises(ValueError, match="k must be at least 1"):
        scim.tl.query(new, reference, cells=[0], k=0)
    for wrong in ("text", [[1.0], [1.0, 2.0]], {"a": 1}):
        with pytest.raises(TypeError, match=r"vectors must be numbers \(n, 16\), got"):
            scim.tl.query(new, reference, vectors=wrong)  # type: ignore[arg-type]
    new.obs["nothing"] = np.nan
    with pytest.raises(ValueError, match="groupby='nothing' holds no group: all 100"):
        scim.tl.query(new, reference, groupby="nothing")
    assert names_of(new) == (before[0] + ["nothing"], *before[1:])


def test_what_others_wrote_is_not_erased(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.embed(new, reference)
    with pytest.raises(ValueError, match="is not a result of scim.tl.query"):
        scim.tl.query(new, reference, cells=[0], k=2, key_added="scim")
    scim.tl.query(new, reference, cells=[0], k=2)
    scim.tl.query(new, reference, groupby="cell_type", k=2)
    scim.tl.query(new, reference, cells=[1], k=2)
    assert set(new.uns["scim_query"]) == {"hits", "summary", "params", "queries", "reference", "versions"}


def test_a_mask_in_another_order_means_the_same_cells(new: anndata.AnnData, reference: scim.Reference) -> None:
    mask = pd.Series(np.arange(new.n_obs) < 3, index=new.obs_names)
    scim.tl.query(new, reference, cells=mask[::-1], k=2)
    assert new.uns["scim_query"]["queries"] == new.obs_names[:3].tolist()
    with pytest.raises(ValueError, match="whose index is not that of"):
        scim.tl.query(new, reference, cells=pd.Series([True], index=["who"]), k=2)


def test_coherence_is_under_the_caps_of_the_search(
    new: anndata.AnnData, reference: scim.Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, search = [], scim.Reference.search

    def spy(self: scim.Reference, *args: object, **options: object) -> object:
        seen.append(options.get("max_per_group"))
        return search(self, *args, **options)

    monkeypatch.setattr(scim.Reference, "search", spy)
    scim.tl.query(new, reference, groupby="cell_type", k=60, max_per_group={"study": 30})
    assert len(seen) > 1 and all(caps == {"study": 30} for caps in seen)


def test_a_list_of_columns_is_no_column(new: anndata.AnnData, reference: scim.Reference) -> None:
    with pytest.raises(TypeError, match="groupby must be the name of one column"):
        scim.tl.query(new, reference, groupby=["cell_type"])


def test_cells_may_be_a_slice(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.query(new, reference, cells=slice(1, 4), k=2)
    assert new.uns["scim_query"]["queries"] == list(new.obs_names[1:4])


def test_measurements_are_no_groups(new: anndata.AnnData, reference: scim.Reference) -> None:
    new.obs["score"] = np.linspace(0.5, 2, new.n_obs)
    new.obs["leiden"] = np.where(np.arange(new.n_obs) % 3, 10.0, 2.0)
    new.obs["mixed"] = pd.Categorical([1, "1"] * (new.n_obs // 2))
    with pytest.raises(ValueError, match=r"groupby='score' holds measurements \(such as 0.5.*pd.cut"):
        scim.tl.query(new, reference, groupby="score", k=5)
    with pytest.raises(ValueError, match="groupby='mixed' holds '1' more than once"):
        scim.tl.query(new, reference, groupby="mixed", k=5)
    assert "scim_query" not in new.uns
    scim.tl.query(new, reference, groupby="leiden", k=5)
    assert new.uns["scim_query"]["queries"] == ["2", "10"]
    assert len(scim.get.hits(new, query=2)) == 5
    many = pd.DataFrame({"total_counts": np.arange(300.0)})
    with pytest.raises(ValueError, match="groupby='total_counts' has 300 groups for 300 cells.*not of measurem"):
        read_groups(many, "total_counts", argument="groupby")
