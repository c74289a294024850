"""Cells of SCimilarity's folders: those that its own code wrote, and broken ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scim
from scim.reference.store._manifest import ReferenceFolderError


@pytest.fixture
def fixture(shared_dir: Path) -> Path:
    """What SCimilarity 0.4.1 wrote, and computed with it."""
    return shared_dir / "peer_bench" / "fixture"


@pytest.fixture
def model(fixture: Path, tmp_path: Path) -> Path:
    """A copy that may be broken."""
    shutil.copytree(fixture / "model", tmp_path / "model")
    return tmp_path / "model"


def test_labelled_cells_and_their_neighbours(fixture: Path, tmp_path: Path) -> None:
    reference = scim.Reference.from_scimilarity(fixture / "model", tmp_path / "a.scim")
    expected = np.load(fixture / "expected.npz")
    assert len(reference) == 400
    np.testing.assert_allclose(reference.vectors(), expected["ref_embeddings"][:400], atol=1e-5)
    hits = reference.search(expected["embeddings"], k=50)
    np.testing.assert_array_equal(np.sort(hits.indices, axis=1), np.sort(expected["knn_idx"], axis=1))
    np.testing.assert_allclose(hits.distances, expected["knn_dist"], atol=1e-5)
    assert reference.terms.labels.tolist().count("CL:0000084") == 1  # T cell
    names = pd.read_csv(fixture / "model/annotation/reference_labels.tsv", sep="\t", header=None)
    assert reference.obs["label"].tolist() == names[0].tolist()
    assert reference.obs["study"].tolist() == names[1].tolist()
    assert reference.encoder.id == scim.Encoder.from_scimilarity(fixture / "model").id


def test_all_cells_with_their_metadata(fixture: Path, tmp_path: Path) -> None:
    pytest.importorskip("tiledb")
    reference = scim.Reference.from_scimilarity(fixture / "model", tmp_path / "s.scim", part="cellsearch")
    expected = np.load(fixture / "expected.npz")
    hits = reference.search(expected["embeddings"][:5], k=100)
    np.testing.assert_array_equal(np.sort(hits.indices, axis=1), np.sort(expected["search_idx"], axis=1))
    np.testing.assert_allclose(hits.distances, expected["search_dist"], atol=1e-5)
    table = pd.read_csv(fixture / "expected_search_nearest.csv")
    found = reference.metadata(hits.indices[0])
    first = table[table["embedding_idx"] == 0].set_index("index")
    for column in ("study", "sample", "tissue", "disease", "author_label", "data_type"):
        ids = found["cell_id"].astype(int)
        assert first.loc[ids, column].fillna("NA").tolist() == found[column].astype(str).tolist()
    assert first.loc[found["cell_id"].astype(int), "prediction"].tolist() == found["label"].tolist()


def test_read_in_small_blocks(fixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tiledb")
    whole = scim.Reference.from_scimilarity(fixture / "model", tmp_path / "s.scim", part="cellsearch")
    monkeypatch.setattr("scim.reference.build._scimilarity._BLOCK_CELLS", 333)
    parts = scim.Reference.from_scimilarity(fixture / "model", tmp_path / "p.scim", part="cellsearch")
    np.testing.assert_array_equal(parts.vectors(), whole.vectors())
    pd.testing.assert_frame_equal(parts.metadata().astype(str), whole.metadata().astype(str))


def test_former_names_and_unknown_labels(model: Path, tmp_path: Path) -> None:
    labels = model / "annotation/reference_labels.tsv"
    text = labels.read_text().replace("natural killer cell\t", "NK cell\t").replace("fibroblast\t", "native blob\t")
    labels.write_text(text)
    with pytest.warns(UserWarning, match="1 of 10 labels are not in the ontology.*'native blob'"):
        reference = scim.Reference.from_scimilarity(model, tmp_path / "a.scim")
    assert "CL:0000623" in reference.terms.labels
    assert "native blob" in reference.terms.labels


def test_labels_that_the_ontology_does_not_know_are_told_of(model: Path, tmp_path: Path) -> None:
    labels = model / "annotation/reference_labels.tsv"
    studies = [line.split("\t")[1] for line in labels.read_text().splitlines()]
    labels.write_text("\n".join(f"blob {i % 3}\t{study}" for i, study in enumerate(studies)))
    with pytest.warns(UserWarning, match="None of the 3 labels, such as 'blob 0', is in the ontology"):
        reference = scim.Reference.from_scimilarity(model, tmp_path / "a.scim")
    assert reference.info()["ontology"] == "flat"


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("T cell", r"has no study in line 6 \('T cell'\)"),
        ("T cell\t", "has no study in line 6"),
        ("\t", "has no study in line 6"),
        ("T cell\tone\rB cell\ttwo", "400 lines, but 401 cells"),
    ],
)
def test_a_broken_line_of_labels_is_named(model: Path, tmp_path: Path, line: str, text: str) -> None:
    labels = model / "annotation/reference_labels.tsv"
    lines = labels.read_text().splitlines()
    labels.write_bytes("\n".join([*lines[:5], line, *lines[6:]]).encode())
    with pytest.raises(ReferenceFolderError, match=rf"reference_labels\.tsv.* {text}|reference_labels\.tsv {text}"):
        scim.Reference.from_scimilarity(model, tmp_path / "a.scim")
    assert not (tmp_path / "a.scim").exists()


def test_an_ontology_is_no_path(model: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"ontology must be a scim\.CellOntology, got str"):
        scim.Reference.from_scimilarity(model, tmp_path / "a.scim", ontology="cl.owl")  # type: ignore[arg-type]


def test_can_be_extended_and_searched(fixture: Path, tmp_path: Path) -> None:
    from anndata import read_h5ad

    reference = scim.Reference.from_scimilarity(fixture / "model", tmp_path / "a.scim")
    cells = read_h5ad(fixture / "query_cells.h5ad")
    cells.obs["cell_type"] = "T cell"
    with pytest.warns(UserWarning, match="3.0%"):
        reference.add({"mine": cells}, labels_key="cell_type")
    assert len(reference) == 600
    assert len(scim.Reference.open(tmp_path / "a.scim")) == 600


@pytest.mark.parametrize("name", ["annotation/labelled_kNN.bin", "annotation/reference_labels.tsv", "encoder.ckpt"])
def test_a_missing_file_is_named(model: Path, tmp_path: Path, name: str) -> None:
    (model / name).unlink()
    with pytest.raises(FileNotFoundError, match=Path(name).name):
        scim.Reference.from_scimilarity(model, tmp_path / "a.scim")
    assert not (tmp_path / "a.scim").exists()


def test_broken_indexes_are_named(model: Path, tmp_path: Path) -> None:
    path = model / "annotation/labelled_kNN.bin"
    whole = path.read_bytes()

    def refused(content: bytes, text: str) -> None:
        path.write_bytes(content)
        with pytest.raises(ReferenceFolderError, match=text):
            scim.Reference.from_scimilarity(model, tmp_path / "a.scim")
        assert not (tmp_path / "a.scim").exists()

    refused(whole[:50], "truncated")
    refused(whole[: len(whole) // 2], "truncated")
    refused(b"\x00" * len(whole), "not an hnswlib index")
    head = np.frombuffer(whole[:48], dtype="<u8").copy()
    head[2] = 10**9
    refused(head.tobytes() + whole[48:], "truncated")
    head = np.frombuffer(whole[:48], dtype="<u8").copy()
    head[5] += 4
    refused(head.tobytes() + whole[48:], "127 numbers, the encoder makes 128")
    at = 96 + int(np.frombuffer(whole[:48], dtype="<u8")[4])
    refused(whole[:at] + (5000).to_bytes(8, "little") + whole[at + 8 :], "ids are not 0 to 399")
    at = 96 + int(np.frombuffer(whole[:48], dtype="<u8")[5])
    refused(whole[:at] + np.array(np.nan, "<f4").tobytes() + whole[at + 4 :], "not finite")
    path.write_bytes(whole)
    labels = model / "annotation/reference_labels.tsv"
    labels.write_text("\n".join(labels.read_text().splitlines()[:-1]))
    with pytest.raises(ReferenceFolderError, match=r"holds 400 cells, but .* names 399"):
        scim.Reference.from_scimilarity(model, tmp_path / "a.scim")


def test_without_tiledb_the_extra_is_named(fixture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tiledb", None)
    with pytest.raises(ImportError, match=r"scim-tools\[tiledb\]"):
        scim.Reference.from_scimilarity(fixture / "model", tmp_path / "s.scim", part="cellsearch")


def test_unknown_part_and_missing_search(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="part='search'.*'cellsearch'"):
        scim.Reference.from_scimilarity(model, tmp_path / "s.scim", part="search")  # type: ignore[arg-type]
    shutil.rmtree(model / "cellsearch")
    with pytest.raises(FileNotFoundError, match="cell_embedding"):
        scim.Reference.from_scimilarity(model, tmp_path / "s.scim", part="cellsearch")


def test_damaged_tables_are_named(model: Path, tmp_path: Path) -> None:
    labels = model / "annotation/reference_labels.tsv"
    labels.write_text("\n".join(line.split("\t")[0] for line in labels.read_text().splitlines()))
    with pytest.raises(ReferenceFolderError, match=r"reference_labels\.tsv has no label and study"):
        scim.Reference.from_scimilarity(model, tmp_path / "a.scim")
    pytest.importorskip("tiledb")
    (data,) = (model / "cellsearch/cell_embedding/__fragments").glob("*/a0.tdb")
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ReferenceFolderError, match="cell_embedding cannot be read"):
        scim.Reference.from_scimilarity(model, tmp_path / "s.scim", part="cellsearch")
    shutil.rmtree(model / "cellsearch/cell_metadata/__commits")
    with pytest.raises(ReferenceFolderError, match="cell_metadata"):
        scim.Reference.from_scimilarity(model, tmp_path / "s.scim", part="cellsearch")
    assert not (tmp_path / "s.scim").exists()
