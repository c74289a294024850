"""Cells that are removed, and references that are rewritten without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from _made import index_sizes
from anndata import AnnData

import scim
from scim import Encoder, Reference
from scim.reference.store._manifest import read_manifest

KEYS = {"labels_key": "cell_type", "study_key": "study", "obs_columns": ["tissue", "channel", "depth"]}


def test_removed_cells_never_come_back(folder: Path, vectors: np.ndarray) -> None:
    before = Reference.open(folder)
    gone = before.allowed(where={"study": "second"})
    labels = before.obs["label"].astype(str)
    reference = Reference.open(folder)
    assert reference.remove(where={"study": "second"}) == gone.sum()
    left = np.flatnonzero(~gone)
    for opened in (reference, Reference.open(folder, verify="full")):
        assert len(opened) == opened.n_cells == 700 - gone.sum() and opened.n_rows == 700
        assert f"{len(left)} cells" in repr(opened) and "2 studies" in repr(opened)
        for hits in (
            opened.search(vectors, k=len(left)),
            opened.search(vectors[gone], k=None, max_distance=2.0),
            opened.search(vectors, k=9, where={"tissue": "blood"}),
            opened.search(vectors, k=9, exclude={"study": "first"}, max_per_group={"label": 4}),
            opened.search(vectors, k=9, within=np.ones(700, dtype=bool)),
        ):
            assert not gone[hits.indices[hits.indices >= 0]].any()
        assert not opened.allowed()[gone].any()
        assert (opened.label_codes[gone] == -1).all()
        assert opened.info()["studies"] == ["first", "third"]
        assert opened.metadata().index.tolist() == opened.obs["study"].index.tolist() == left.tolist()
        assert "second" not in opened.obs["study"].cat.categories
        assert opened.metadata(left)["label"].astype(str).tolist() == labels[left].tolist()
        np.testing.assert_array_equal(opened.vectors(), opened.vectors(left))
        assert not np.isin(opened.landmarks.rows, np.flatnonzero(gone)).any()
        distances = opened.label_model.matched().distances(vectors[gone][:20])
        np.testing.assert_allclose(distances, opened.search(vectors[gone][:20], k=1).distances[:, 0], atol=1e-6)
        for bad in (opened.metadata, opened.vectors):
            with pytest.raises(IndexError, match="1 cells that were removed"):
                bad(np.flatnonzero(gone)[:1])
        with pytest.raises(ValueError, match="were removed"):
            opened.search(vectors, where={"study": "second"})
        with pytest.raises(ValueError, match="no cell has study='secnd'. Available: 'first', 'third'."):
            opened.search(vectors, where={"study": "secnd"})
    assert read_manifest(folder)["version"] == 2  # an older scim would show them


def test_compacting_is_like_building_without_them(
    folder: Path, pbmc: AnnData, encoder: Encoder, tmp_path: Path
) -> None:
    reference = Reference.open(folder)
    gone = reference.allowed(where={"channel": ["1", "5"]})
    reference.remove(where={"channel": ["1", "5"]})
    background = reference.label_model.background()
    reference.compact()
    built = Reference.build(tmp_path / "b", pbmc[~gone], encoder, **KEYS)
    for opened in (reference, Reference.open(folder, verify="full")):
        assert opened.n_rows == opened.n_cells == built.n_cells
        assert opened.metadata().astype(str).equals(built.metadata().astype(str))
        np.testing.assert_array_equal(opened.vectors(), built.vectors())
        # What was calibrated without the cells removed is what is calibrated where they never were.
        np.testing.assert_array_equal(opened.label_model.background(), background)
        np.testing.assert_array_equal(opened.label_model.background(), built.label_model.background())
        np.testing.assert_array_equal(
            opened.label_model.matched().calibration.head.weights, built.label_model.matched().calibration.head.weights
        )
        assert opened.terms.to_dict() == built.terms.to_dict()
        np.testing.assert_array_equal(opened.landmarks.rows, built.landmarks.rows)
    text = (folder / "segments/0002/cells.arrow").read_bytes()
    assert b"\x00\x005\x00" not in text and reference.obs["channel"].cat.categories.tolist() == [
        "2",
        "3",
        "4",
        "6",
        "7",
        "8",
    ]
    assert read_manifest(folder)["version"] == 1
    # The files of the version before are for those who have it open, and go with the next call.
    assert (folder / "segments/0001/vectors.i16").is_file()
    reference.compact()
    assert [p.name for p in (folder / "segments").iterdir()] == ["0002"]
    assert len(Reference.open(folder, verify="full")) == built.n_cells


def test_cells_come_again_after_they_were_removed(folder: Path, pbmc: AnnData) -> None:
    reference = Reference.open(folder)
    third = pbmc[pbmc.obs["study"] == "third"].copy()
    with pytest.raises(ValueError, match="are in the reference already"):
        reference.add(third)
    reference.remove(where={"study": "third"})
    reference.add(third)
    assert len(reference) == 700 and reference.n_rows == 700 + len(third)
    assert reference.info()["studies"] == ["first", "second", "third"]
    reference.remove(rows=np.arange(700, reference.n_rows))
    assert len(reference) == 700 - len(third)
    reference.compact()
    assert reference.n_rows == len(reference) == 700 - len(third)


def test_labels_that_only_removed_cells_had(folder: Path, vectors: np.ndarray) -> None:
    reference = Reference.open(folder)
    before = len(reference.terms.labels)
    label = str(reference.obs["label"].iloc[0])
    n = int((reference.obs["label"] == label).sum())
    assert reference.remove(where={"label": label}) == n
    assert len(reference.terms.labels) == before - 1 and label not in reference.info()["labels"]
    assert reference.info()["labelled_cells"] == 700 - n
    probabilities = reference.label_model.matched().calibration.head.probabilities(vectors, before - 1)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_verbs_work_without_the_cells_removed(folder: Path, pbmc: AnnData) -> None:
    reference = Reference.open(folder)
    reference.remove(where={"channel": ["1", "5"]})
    scim.tl.annotate(pbmc, reference)
    scim.tl.query(pbmc, reference, groupby="cell_type", k=20)
    hits = scim.get.hits(pbmc)
    assert not hits["channel"].isin(["1", "5"]).any()
    summary = pbmc.uns["scim_query"]["summary"]
    assert not summary["value"].isin(["1", "5"]).any()
    reference.compact()
    again = pbmc.copy()
    scim.tl.query(again, reference, groupby="cell_type", k=20)
    assert again.uns["scim_query"]["summary"].astype(str).equals(summary.astype(str))
    assert scim.get.hits(again)["cell_id"].tolist() == hits["cell_id"].tolist()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({}, ValueError, "Give where=, exclude= or rows="),
        ({"where": {"study": "fourth"}}, ValueError, "no cell has study='fourth'"),
        ({"where": {"studdy": "x"}}, KeyError, "studdy"),
        ({"rows": np.array([700])}, IndexError, "from 0 to 699"),
        ({"rows": np.arange(700)}, ValueError, "No labelled cell of 700 would be left"),
    ],
)
def test_wrong_arguments(folder: Path, options: dict, error: type[Exception], text: str) -> None:
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(error, match=text):
        Reference.open(folder).remove(**options)
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_index_serves_until_it_is_built_anew(
    pbmc: AnnData, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_sizes(monkeypatch, index_from_cells=200)
    reference = Reference.build(tmp_path / "r", pbmc[:600], encoder, **KEYS)
    more = pbmc[600:].copy()
    more.obs["study"] = "new"
    reference.add(more)
    reference.remove(rows=np.arange(0, 700, 2))
    assert read_manifest(tmp_path / "r")["index"]["n_cells"] == 600
    queries = encoder.embed(pbmc)
    found = reference.search(queries, k=5).indices
    assert (found % 2 == 1).all() and found.max() >= 600
    reference.reindex()
    manifest = read_manifest(tmp_path / "r")
    assert manifest["index"]["n_cells"] == 700 and manifest["index"]["file"] == "0004.safetensors"
    assert (reference.search(queries, k=5).indices % 2 == 1).all()
    reference.compact()
    assert read_manifest(tmp_path / "r")["index"]["n_cells"] == 350


@pytest.mark.parametrize("own", [False, True])
def test_sql_tells_positions_from_a_column_that_is_called_row(
    pbmc: AnnData, encoder: Encoder, tmp_path: Path, own: bool
) -> None:
    pytest.importorskip("duckdb")
    pbmc.obs["row"] = ["A", "B"] * 350
    keys = {**KEYS, "obs_columns": ["row"] if own else []}
    reference = Reference.build(tmp_path / "r.scim", pbmc, encoder, **keys)
    for n_cells in (700, 600):
        found = reference.sql("select row, cell_id from cells")
        assert found["cell_id"].tolist() == reference.obs["cell_id"].tolist() and list(found) == ["row", "cell_id"]
        rows = reference.obs["row"].astype(str) if own else reference.obs["cell_id"].index
        assert found["row"].tolist() == rows.tolist() and len(found) == n_cells
        reference.remove(rows=np.arange(100) if n_cells == 700 else [100])
    with pytest.raises(ValueError, match="The query is empty"):
        reference.sql("")


def test_rows_and_columns_by_name(folder: Path) -> None:
    reference = Reference.open(folder)
    assert list(reference.metadata([0, 1], "label")) == ["label"]
    with pytest.raises(TypeError, match="rows must be positions"):
        reference.metadata(["a"])
