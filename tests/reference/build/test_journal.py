"""Builds from files, part by part, that go on where they were interrupted."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import anndata
import numpy as np
import pytest
from anndata import AnnData

from scim import Encoder, Reference
from scim.reference.build import _journal, _parts
from scim.reference.store._manifest import read_manifest

KEYS = {"labels_key": "cell_type", "obs_columns": ["tissue", "depth"]}


@pytest.fixture(autouse=True)
def small_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages of a hundred cells, all worth keeping; blocks of fifty."""
    monkeypatch.setattr(_parts, "STAGE", 100)
    monkeypatch.setattr(_journal, "WORTH_KEEPING", 100)
    defaults = {**_parts.embed_value_blocks.__kwdefaults__, "chunk_size": 50}
    monkeypatch.setattr(_parts.embed_value_blocks, "__kwdefaults__", defaults)


@pytest.fixture
def files(pbmc: AnnData, tmp_path: Path) -> Path:
    """A folder of three studies, one of which keeps its counts in a layer of a matrix that is dense."""
    folder = tmp_path / "Meine Studien"
    folder.mkdir()
    for name in ("first", "second", "third"):
        part = pbmc[pbmc.obs["study"] == name].copy()
        part.write_h5ad(folder / f"{name}.h5ad")
    return folder


def contents(path: Path) -> dict[str, str]:
    return {name: facts["sha256"] for name, facts in read_manifest(path)["files"].items()}


class Stop(Exception):
    """The build was interrupted."""


def stop_after(monkeypatch: pytest.MonkeyPatch, n_blocks: int) -> list[int]:
    """Let embedding fail after some blocks, once; and count the cells that are embedded."""
    real, seen = _parts.embed_value_blocks, [0]
    left = [n_blocks]

    def embed(*args: object, **options: object) -> Iterator:
        for span, vectors in real(*args, **options):  # type: ignore[arg-type]
            left[0] -= 1
            if left[0] == -1:
                raise Stop
            seen[0] += len(vectors)
            yield span, vectors

    monkeypatch.setattr(_parts, "embed_value_blocks", embed)
    return seen


@pytest.fixture
def expected(files: Path, encoder: Encoder, tmp_path: Path) -> Reference:
    return Reference.build(tmp_path / "expected.scim", files, encoder, **KEYS)


def test_same_from_files_and_from_memory(
    files: Path, expected: Reference, pbmc: AnnData, encoder: Encoder, tmp_path: Path
) -> None:
    studies = {name: pbmc[pbmc.obs["study"] == name].copy() for name in ("first", "second", "third")}
    assert expected.info()["studies"] == list(studies)
    paths = sorted(files.iterdir())
    anndata.read_h5ad(paths[0]).write_zarr(files / "first.zarr")
    sources = [studies, paths, (str(p) for p in paths), {p.stem: p for p in paths}, [files / "first.zarr", *paths[1:]]]
    for i, source in enumerate(sources):
        made = Reference.build(tmp_path / f"{i}.scim", source, encoder, **KEYS)
        assert contents(made.path) == contents(expected.path), i
    one = Reference.build(tmp_path / "one.scim", str(paths[0]), encoder, **KEYS, study_key="channel")
    assert len(one) == len(studies["first"]) and one.info()["studies"] == ["1", "2", "3"]
    one.add(paths[1])
    assert len(one) == len(studies["first"]) + len(studies["second"])


def test_counts_in_layers_and_raw_of_files(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    expected = encoder.embed(pbmc)
    layered, raw = pbmc.copy(), pbmc.copy()
    layered.layers["counts"] = layered.X.copy()
    layered.X = layered.X.toarray() - 3.0
    layered.write_h5ad(tmp_path / "layered.h5ad")
    raw.raw = raw.copy()
    raw.X = raw.X.toarray() - 3.0
    raw[:, :100].copy().write_h5ad(tmp_path / "raw.h5ad")
    options = {"labels_key": "cell_type", "study_key": "study"}
    for name, layer in (("layered", "counts"), ("raw", "raw")):
        made = Reference.build(tmp_path / f"{name}.scim", tmp_path / f"{name}.h5ad", encoder, **options, layer=layer)
        np.testing.assert_allclose(made.vectors(), expected, atol=4e-5)


@pytest.mark.parametrize("n_blocks", [3, 9, 14])
def test_interrupted_builds_go_on(
    files: Path, expected: Reference, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_blocks: int
) -> None:
    seen = stop_after(monkeypatch, n_blocks)
    path = tmp_path / "r.scim"
    with pytest.raises(Stop) as caught:
        Reference.build(path, files, encoder, **KEYS)
    assert not path.exists()
    scratch = tmp_path / ".r.scim.building"
    assert scratch.is_dir()
    done = sum(record["n_cells"] for record in map(_record, (scratch / "journal.jsonl").read_text().splitlines()[1:]))
    assert 0 < done <= seen[0] and f"{done} cells are done and kept" in caught.value.__notes__[0]
    seen[0] = 0
    with pytest.warns(UserWarning, match=rf"Continuing a build of r\.scim.*: {done} cells are done"):
        made = Reference.build(path, files, encoder, **KEYS)
    assert seen[0] == 700 - done
    assert contents(path) == contents(expected.path)
    assert made.metadata().equals(expected.metadata())
    assert not scratch.exists()


def _record(line: str) -> dict:
    import json

    return json.loads(line.partition(" ")[2])


def interrupted(path: Path, data: object, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, n_blocks: int = 9) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, n_blocks)
        with pytest.raises(Stop):
            Reference.build(path, data, encoder, **KEYS)


def test_other_arguments_begin_afresh(
    files: Path, expected: Reference, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.scim"
    interrupted(path, files, encoder, monkeypatch)
    seen = stop_after(monkeypatch, 100)
    with pytest.warns(UserWarning, match="had other arguments. It starts again"):
        Reference.build(path, files, encoder, labels_key="cell_type")
    assert seen[0] == 700
    shutil.rmtree(path)
    interrupted(path, files, encoder, monkeypatch)
    seen = stop_after(monkeypatch, 100)
    Reference.build(path, files, encoder, **KEYS, resume=False)  # and no warning
    assert seen[0] == 700 and contents(path) == contents(expected.path)


def test_data_that_changed_are_done_again(
    files: Path, pbmc: AnnData, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.scim"
    interrupted(path, files, encoder, monkeypatch, 14)
    part = anndata.read_h5ad(files / "second.h5ad")[10:].copy()
    part.write_h5ad(files / "second.h5ad")
    with pytest.warns(UserWarning, match="Continuing a build"):
        made = Reference.build(path, files, encoder, **KEYS)
    fresh = Reference.build(tmp_path / "fresh.scim", files, encoder, **KEYS)
    assert len(made) == 690 and contents(path) == contents(fresh.path)


@pytest.mark.parametrize("change", ["nothing", "label", "value", "fewer"])
def test_data_in_memory(
    pbmc: AnnData, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path, studies = tmp_path / "r.scim", {n: pbmc[pbmc.obs["study"] == n].copy() for n in ("first", "second", "third")}
    interrupted(path, studies, encoder, monkeypatch, 9)
    if change == "label":
        studies["first"].obs["tissue"] = "liver"
    if change == "value":
        studies["first"].X = studies["first"].X[::-1]
    if change == "fewer":
        studies = {"second": studies["second"], "third": studies["third"]}
    seen = stop_after(monkeypatch, 100)
    with pytest.warns(UserWarning, match="Continuing a build"):
        made = Reference.build(path, studies, encoder, **KEYS)
    assert (seen[0] < len(made)) == (change == "nothing")
    fresh = Reference.build(tmp_path / "fresh.scim", studies, encoder, **KEYS)
    assert contents(path) == contents(fresh.path)


@pytest.mark.parametrize("name", ["journal.jsonl", "000002.arrow", "vectors.i16"])
def test_damaged_work_is_done_again(
    files: Path, expected: Reference, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "r.scim"
    interrupted(path, files, encoder, monkeypatch)
    (file,) = (tmp_path / ".r.scim.building").rglob(name)
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * 0.7)])
    with pytest.warns(UserWarning, match="Continuing a build"):
        Reference.build(path, files, encoder, **KEYS)
    assert contents(path) == contents(expected.path)


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        ("nothing.h5ad", FileNotFoundError, "no file .*nothing.h5ad"),
        (["first.h5ad", "frist.h5ad"], FileNotFoundError, "Did you mean 'first.h5ad'"),
        (["first.h5ad", "copy/first.h5ad"], ValueError, "Two files are named first"),
        ("notes.txt", ValueError, "neither an .h5ad nor a .zarr"),
        ("broken.h5ad", ValueError, "broken.h5ad cannot be read"),
        ("copy", ValueError, "holds no .h5ad or .zarr files"),
    ],
)
def test_paths_that_are_no_data(
    files: Path, encoder: Encoder, tmp_path: Path, data: object, error: type[Exception], text: str
) -> None:
    (files / "copy").mkdir()
    (files / "notes.txt").write_text("x")
    (files / "broken.h5ad").write_text("x")
    given = [files / name for name in data] if isinstance(data, list) else files / str(data)
    with pytest.raises(error, match=text):
        Reference.build(tmp_path / "r.scim", given, encoder, **KEYS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Meine Studien"]


def test_an_iterator_does_not_make_one_study_of_two_files(files: Path, encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "first.h5ad").write_bytes((files / "second.h5ad").read_bytes())
    with pytest.raises(ValueError, match="Two files are named first"):
        Reference.build(tmp_path / "r.scim", tmp_path.rglob("first.h5ad"), encoder, **KEYS)


def test_values_of_a_few_cells_that_changed_are_noticed(
    pbmc: AnnData, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"one": pbmc[:400].copy(), "two": pbmc[400:].copy()}
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        with pytest.raises(Stop):
            Reference.build(tmp_path / "a.scim", data, encoder, **KEYS)
    values = data["one"].X.tolil()
    values[203:206] = values[10:13]
    data["one"].X = values.tocsr()
    with pytest.warns(UserWarning, match="Continuing a build"):
        again = Reference.build(tmp_path / "a.scim", data, encoder, **KEYS)
    assert contents(again.path) == contents(Reference.build(tmp_path / "b.scim", data, encoder, **KEYS).path)


def test_studies_of_other_names_are_done_again(
    pbmc: AnnData, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pbmc[:400].copy(), pbmc[400:].copy()
    with monkeypatch.context() as patch:
        stop_after(patch, 9)
        with pytest.raises(Stop):
            Reference.build(tmp_path / "a.scim", {"one": first, "two": second}, encoder, **KEYS)
    with pytest.warns(UserWarning, match="Continuing a build"):
        again = Reference.build(tmp_path / "a.scim", {"eins": first, "zwei": second}, encoder, **KEYS)
    assert again.info()["studies"] == ["eins", "zwei"]
