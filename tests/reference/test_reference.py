from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scim import Encoder, Reference
from scim._disk._documents import write_json
from scim.reference import ReferenceFolderError

FILES = [
    "calibration.npz",
    "encoder/encoder.json",
    "encoder/encoder.safetensors",
    "encoder/genes.txt",
    "manifest.json",
    "segments/0001/cells.arrow",
    "segments/0001/landmarks.npz",
    "segments/0001/vectors.i16",
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "truncated", "empty", "edited"])
def test_damage_is_named(folder: Path, name: str, how: str) -> None:
    opened = Reference.open(folder)
    file = folder / name
    content = file.read_bytes()
    file.unlink()  # a new file, so that what is mapped into memory stays as it is
    if how == "edited":
        place = len(content) // 2
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    elif how != "missing":
        file.write_bytes(content[: len(content) // 2 if how == "truncated" else 0])

    def use() -> None:
        # Weights are read, and compared by more than their size, when they are needed.
        assert Reference.open(folder).encoder.id

    for check in (use, opened.verify):
        with pytest.raises(ReferenceFolderError, match=str(Path(name).parent) if check == use else name):
            check()


def test_whole_reference_verifies(reference: Reference) -> None:
    reference.verify()


def test_foreign_folders(folder: Path, encoder: Encoder, tmp_path: Path) -> None:
    encoder.save(tmp_path / "an.encoder")
    with pytest.raises(ReferenceFolderError, match="no manifest.json"):
        Reference.open(tmp_path / "an.encoder")
    with pytest.raises(ReferenceFolderError, match="is a file"):
        Reference.open(folder / "manifest.json")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "manifest.json").write_text('{"name": "a web page", "icons": []}')
    with pytest.raises(ReferenceFolderError, match="does not describe a scim reference"):
        Reference.open(tmp_path / "page")


def test_newer_format(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "manifest.json").write_text(json.dumps({**manifest, "version": 3}), encoding="utf-8")
    with pytest.raises(ReferenceFolderError, match="format 3, this scim reads up to 2.*Update"):
        Reference.open(folder)


@pytest.mark.parametrize(
    "key", ["files", "segments", "terms", "encoder_id", "source", "generation", "recall", "retired"]
)
def test_manifest_that_lacks_something(folder: Path, key: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest[key]
    write_json(folder / "manifest.json", "scim-reference", manifest)
    with pytest.raises(ReferenceFolderError, match=f"lacks '{key}'"):
        Reference.open(folder)


def test_segment_that_lacks_something(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["segments"][0]["n_empty"]
    write_json(folder / "manifest.json", "scim-reference", manifest)
    with pytest.raises(ReferenceFolderError, match="lacks 'n_empty'"):
        Reference.open(folder)


def test_manifest_that_leaves_a_file_out(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["files"]["segments/0001/vectors.i16"]
    write_json(folder / "manifest.json", "scim-reference", manifest)
    with pytest.raises(ReferenceFolderError, match="does not list segment 0001"):
        Reference.open(folder)


def test_manifest_of_another_encoder(folder: Path, other_encoder: Encoder) -> None:
    shutil.rmtree(folder / "encoder")
    other_encoder.save(folder / "encoder")
    with pytest.raises(ReferenceFolderError, match=r"encoder/encoder\.\w+ (was changed|has)"):
        Reference.open(folder)


def test_name_with_a_typo(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / ".blod.scim.building")
    with pytest.raises(
        FileNotFoundError, match="no reference .*Did you mean 'blood.scim'. Available: 'blood.scim'\\.$"
    ):
        Reference.open(folder.parent / "blod.scim")


def test_open_takes_a_reference_or_a_path(reference: Reference) -> None:
    assert Reference.open(reference) is reference
    assert len(Reference.open(str(reference.path))) == 700
    with pytest.raises(TypeError, match="got int"):
        Reference.open(3)


def test_metadata_of_some_cells(reference: Reference) -> None:
    rows = np.array([5, 699, 5])
    table = reference.metadata(rows, ["study", "cell_id"])
    assert list(table) == ["study", "cell_id"]
    assert table["cell_id"].tolist() == reference.obs["cell_id"].iloc[rows].tolist()
    assert len(reference.metadata(np.array([], dtype=int))) == 0
    mask = np.zeros(700, dtype=bool)
    mask[[3, 4]] = True
    assert reference.metadata(mask)["cell_id"].tolist() == reference.obs["cell_id"].iloc[[3, 4]].tolist()
    with pytest.raises(KeyError, match="columns='studdy'.*Did you mean 'study'"):
        reference.metadata(rows, ["studdy"])
    for bad in ([-1], [700], [0.5]):
        with pytest.raises(IndexError, match="from 0 to 699"):
            reference.metadata(np.array(bad))
        with pytest.raises(IndexError, match="from 0 to 699"):
            reference.vectors(np.array(bad))


def test_info_is_plain(reference: Reference) -> None:
    info = reference.info()
    assert json.loads(json.dumps(info)) == info
    assert (info["cells"], info["labelled_cells"], info["backend"]) == (700, 700, "exact")
    assert (
        info["bytes"]
        == sum(p.stat().st_size for p in reference.path.rglob("*") if p.is_file())
        - (reference.path / "manifest.json").stat().st_size
    )
    assert "700 cells, 10 labels, 3 studies (exact search" in repr(reference)
    assert {"blood", "lung", "brain"} <= set(Reference.open("human").info()["tissues"])


def test_opening_and_searching_load_no_torch(reference: Reference) -> None:
    code = (
        "import sys, scim; r = scim.Reference.open(sys.argv[1]);"
        "r.search(r.vectors([0]), k=3, where={'study': 'first'});"
        "print([m for m in ('torch', 'scanpy', 'scvi', 'pynndescent') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(reference.path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_obs_is_read_when_asked_for(reference: Reference) -> None:
    obs, table = reference.obs, reference.metadata()
    assert list(obs) == obs.columns == list(table) and obs.shape == table.shape and len(obs) == 700
    assert "label" in obs and "nothing" not in obs
    assert obs["label"].equals(table["label"]) and obs[["study", "depth"]].equals(table[["study", "depth"]])
    mask = obs["study"] == "first"
    assert obs[mask].astype(str).equals(table[mask].astype(str))
    assert obs.head(3).astype(str).equals(table.head(3).astype(str))
    assert obs.to_arrow().num_rows == obs.to_dataset().count_rows() == 700
    assert "700 cells x 7 columns" in repr(obs) and table["cell_id"][0] in repr(obs)
    with pytest.raises(AttributeError, match=r"no 'groupby'\. reference.metadata\(\)"):
        obs.groupby("study")
    with pytest.raises(KeyError, match="Did you mean 'study'"):
        _ = obs["studdy"]


def test_a_part_in_memory(folder: Path) -> None:
    reference = Reference.open(folder)
    reference.remove(where={"channel": "1"})
    part = reference.to_anndata(where={"tissue": "blood"}, exclude={"study": "third"})
    rows = part.obs["row"].to_numpy()
    expected = reference.allowed(where={"tissue": "blood"}, exclude={"study": "third"})
    np.testing.assert_array_equal(rows, np.flatnonzero(expected))
    np.testing.assert_array_equal(part.obsm["X_scim"], reference.vectors(rows))
    assert part.obs_names.tolist() == reference.metadata(rows)["cell_id"].tolist()
    assert part.n_vars == 0 and part.uns["scim"]["embed"]["encoder_id"] == reference.encoder_id
    assert reference.to_anndata().n_obs == len(reference) < 700
    part.write_h5ad(folder.parent / "part.h5ad")


def test_sql(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("duckdb")
    reference = Reference.open(folder)
    reference.remove(where={"channel": "1"})
    counted = reference.sql("select label, count(*) as n from cells group by label").set_index("label")["n"]
    assert counted.to_dict() == reference.obs["label"].astype(str).value_counts().to_dict()
    rows = reference.sql("select row from cells where study = 'first' order by row")["row"].to_numpy()
    np.testing.assert_array_equal(rows, np.flatnonzero(reference.allowed(where={"study": "first"})))
    with pytest.raises(ValueError, match="cannot run the query"):
        reference.sql("select nothing from cells")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ImportError, match=r"scim-tools\[sql\]"):
        reference.sql("select 1")
