"""Damaged files, several writers, readers that have a reference open while it changes, and folders that move."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from _made import index_sizes
from anndata import AnnData

from scim import Encoder, Reference
from scim._disk._lock import one_writer
from scim.reference import ReferenceFolderError
from scim.reference.store import _manifest
from scim.reference.versions import _commit

KEYS = {"labels_key": "cell_type", "study_key": "study", "obs_columns": ["tissue"]}
DAMAGES = ["missing", "truncated", "zeroed", "flipped", "swapped", "empty"]


@pytest.fixture(scope="module")
def _full(tmp_path_factory: pytest.TempPathFactory, _pbmc: AnnData, encoder: Encoder) -> Path:
    """Two references of two segments, with an index, tombstones and cells without counts."""
    folder = tmp_path_factory.mktemp("full")
    with pytest.MonkeyPatch.context() as patch:
        index_sizes(patch, index_from_cells=100)
        for name, start in (("a", 0), ("b", 1)):
            X = _pbmc.X.tolil()
            X[[4, 5, 600, 601]] = 0
            cells = AnnData(X.tocsr(), obs=_pbmc.obs, var=_pbmc.var)
            # Few neighbours are enough: so searches visit a part of the lists.
            made = Reference.build(folder / name, cells[start:450:2], encoder, recall=0.5, **KEYS)
            made.add({"more": cells[450 + start :: 2]})
            made.remove(rows=np.arange(0, len(made), 9))
    return folder


@pytest.fixture
def full(_full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    index_sizes(monkeypatch, index_from_cells=100)
    return Path(shutil.copytree(_full / "a", tmp_path / "a"))


def names(folder: Path) -> list[str]:
    """Files that the newest version of a reference is made of."""
    manifest = _manifest.read_manifest(folder)
    return sorted([*manifest["files"], "manifest.json", f"index/{manifest['index']['file']}"])


def damage(file: Path, how: str, other: Path) -> bool:
    """Put a damaged file in the place of a file; return whether it differs."""
    content = bytearray(file.read_bytes())
    new = {
        "truncated": content[: len(content) // 2],
        "zeroed": bytearray(len(content)),
        "flipped": content[: len(content) // 3]
        + bytes([content[len(content) // 3] ^ 4])
        + content[len(content) // 3 + 1 :],
        "swapped": bytearray(other.read_bytes()),
        "empty": bytearray(),
    }.get(how)
    file.unlink()
    if new is not None:
        file.write_bytes(new)
    return new != content


@pytest.mark.slow
@pytest.mark.parametrize("how", DAMAGES)
def test_every_file_in_turn(full: Path, _full: Path, how: str) -> None:
    whole = Reference.open(full)
    queries = whole.vectors()[::40]
    expected = whole.search(queries, k=5)
    counted = {"index": 0}
    for name in names(full):
        copy = Path(shutil.copytree(full, full.parent / "copy"))
        changed = damage(copy / name, how, _full / "b" / name)
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                opened = Reference.open(copy, verify="full")
                if changed and name.startswith("index/"):  # searches do without it, and verify names it
                    with pytest.raises(ReferenceFolderError, match=rf"{Path(name).name}.*reindex"):
                        opened.verify()
                else:
                    opened.verify()
                found = opened.search(queries, k=5)
                opened.metadata(found.indices.ravel())
                assert opened.encoder.id and opened.landmarks is not None
        except ReferenceFolderError as error:
            assert changed
            # A manifest of another reference is whole, and its files are not there.
            assert Path(name).name in str(error) or (how == "swapped" and name == "manifest.json")
        else:
            assert not changed or name.startswith("index/")
            counted["index"] += any("made again" in str(w.message) for w in caught)
            np.testing.assert_array_equal(found.indices, expected.indices)
            np.testing.assert_array_equal(found.distances, expected.distances)
        shutil.rmtree(copy)
    assert counted["index"] == 1


@pytest.mark.parametrize("how", DAMAGES)
def test_every_file_of_a_large_reference(full: Path, _full: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What large files are not compared with: nothing crashes, and what is read is within bounds."""
    monkeypatch.setattr(_manifest, "BLOCK_BYTES", 0)
    for name in names(full):
        if name == "manifest.json":
            continue
        copy = Path(shutil.copytree(full, full.parent / "copy"))
        same_size = (copy / name).stat().st_size
        changed = damage(copy / name, how, _full / "b" / name)
        same_size = (copy / name).is_file() and (copy / name).stat().st_size == same_size
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                opened = Reference.open(copy)
                found = opened.search(opened.vectors(opened.metadata().index[:5]), k=5, where={"tissue": "blood"})
                opened.metadata(found.indices[found.indices >= 0])
                assert opened.encoder.id and opened.landmarks is not None
        except (ReferenceFolderError, IndexError, ValueError):
            pass
        else:
            assert same_size or name.startswith("index/")
        if not name.startswith("index/") and changed:
            with pytest.raises(ReferenceFolderError, match=Path(name).name):
                _manifest.verify(copy, "full")
        shutil.rmtree(copy)


def test_a_sample_looks_into_large_files(
    pbmc: AnnData, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (_manifest, _commit):
        monkeypatch.setattr(module, "BLOCK_BYTES", 4_096)
    Reference.build(tmp_path / "r", pbmc, encoder, **KEYS)
    file = tmp_path / "r" / "segments/0001/vectors.i16"
    facts = _manifest.read_manifest(tmp_path / "r")["files"]["segments/0001/vectors.i16"]
    assert len(facts["blocks"]) == -(-file.stat().st_size // 4_096)
    for how in ("sizes", "sample", "full"):
        assert len(Reference.open(tmp_path / "r", verify=how)) == 700
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # in the last block, which each sample has
    file.unlink()
    file.write_bytes(content)
    damaged = Reference.open(tmp_path / "r")  # by its size, it is as it was
    for check in (lambda: Reference.open(tmp_path / "r", verify="sample"), lambda: damaged.verify("sample")):
        with pytest.raises(ReferenceFolderError, match=r"vectors\.i16 was changed.*block 5"):
            check()
    with pytest.raises(ReferenceFolderError, match=r"vectors\.i16 was changed"):
        damaged.verify()
    with pytest.raises(ValueError, match="verify='fast' is not known"):
        Reference.open(tmp_path / "r", verify="fast")  # type: ignore[arg-type]
    for other in (damaged, "nowhere.scim", None):
        with pytest.raises(ValueError, match="verify='fast' is not known"):
            Reference.open(other, verify="fast")  # type: ignore[arg-type]


# ---- several writers, and readers meanwhile ----------------------------------------------------------------------


def more(pbmc: AnnData, n: int = 60) -> dict[str, AnnData]:
    return {"new": pbmc[:n].copy()}


def test_second_writer_is_told_who_the_first_is(folder: Path, pbmc: AnnData, encoder: Encoder) -> None:
    reference = Reference.open(folder)
    with one_writer(folder, "an add"):
        for work in (
            lambda: reference.add(more(pbmc)),
            lambda: reference.remove(where={"study": "first"}),
            reference.compact,
            reference.reindex,
        ):
            with pytest.raises(BlockingIOError, match=r"written to by process \d+ on .* \(an add, since 20"):
                work()
        with pytest.raises(BlockingIOError, match="being written to"):
            Reference.build(folder, pbmc[:300], encoder, **KEYS, overwrite=True)
        assert len(Reference.open(folder)) == 700
    reference.add(more(pbmc))
    assert len(Reference.open(folder)) == 760
    assert not list(folder.glob(".*"))


def test_threads_of_one_process(folder: Path, pbmc: AnnData) -> None:
    results: list[object] = []
    barrier = threading.Barrier(3)
    cells = {name: pbmc[:40].copy() for name in ("x", "y", "z")}  # which no two threads may do at a time

    def add(name: str) -> None:
        reference = Reference.open(folder)
        barrier.wait()
        try:
            reference.add({name: cells[name]})
            results.append("done")
        except (BlockingIOError, ValueError) as error:
            results.append(error)

    threads = [threading.Thread(target=add, args=(name,)) for name in cells]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = results.count("done")
    assert len(results) == 3 and done >= 1
    assert len(Reference.open(folder, verify="full")) == 700 + 40 * done


def test_lock_of_a_process_that_was_killed(folder: Path, pbmc: AnnData) -> None:
    code = (
        "import sys, os, signal, pathlib\nfrom scim._disk._lock import one_writer\n"
        "with one_writer(pathlib.Path(sys.argv[1]), 'an add'):\n"
        "    print('held', flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert done.stdout.strip() == "held" and done.returncode == -9
    assert (folder / ".lock").exists()
    Reference.open(folder).add(more(pbmc))
    assert len(Reference.open(folder)) == 760


def test_readers_keep_what_they_opened(full: Path, pbmc: AnnData) -> None:
    def look(reference: Reference) -> tuple:
        hits = reference.search(queries, k=7)
        landmarks = reference.landmarks
        assert landmarks is not None
        return (
            hits.indices.tolist(),
            hits.distances.tolist(),
            reference.metadata().to_dict("list"),
            reference.n_cells,
            landmarks.rows.tolist(),
            reference.vectors().tobytes(),
            repr(reference),
        )

    queries = Reference.open(full).vectors()[::30]
    changes = [
        lambda writer: writer.add(more(pbmc)),
        lambda writer: writer.remove(where={"tissue": "blood"}),
        lambda writer: writer.compact(),
        lambda writer: writer.reindex(),
    ]
    for change in changes:
        before = look(Reference.open(full))
        reader, writer = Reference.open(full), Reference.open(full)
        change(writer)
        # Index and landmarks are read only now.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert look(reader) == before
        after = look(Reference.open(full))
        assert look(writer) == after != before or change is changes[-1]
        reader.refresh()
        assert look(reader) == after


def test_a_reader_two_versions_behind(full: Path, pbmc: AnnData) -> None:
    reader, writer = Reference.open(full), Reference.open(full)
    expected = Reference.open(full).search(reader.vectors()[:5], k=3).indices
    for _ in range(2):
        writer.remove(rows=np.array([writer.metadata().index[0]]))
        writer.compact()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where the index would have been used, it is made again
        found = reader.search(reader.vectors()[:5], k=3)
    np.testing.assert_array_equal(found.indices, expected)
    with pytest.raises(ReferenceFolderError, match="written to more than once.*refresh"):
        _ = reader.landmarks
    reader.refresh()
    assert reader.landmarks is not None


def test_readers_of_a_reference_that_is_replaced(folder: Path, pbmc: AnnData, encoder: Encoder) -> None:
    reader = Reference.open(folder)
    Reference.build(folder, pbmc[::2], encoder, **KEYS, overwrite=True)
    # Landmarks of another reference lie there now.
    with pytest.raises(ReferenceFolderError, match="landmarks.npz"):
        _ = reader.landmarks
    assert len(reader.metadata()) == 700
    reader.refresh()
    assert len(reader) == 350 and reader.landmarks is not None


@pytest.mark.parametrize("how", ["copied", "moved"])
def test_folders_elsewhere(full: Path, tmp_path: Path, how: str, pbmc: AnnData) -> None:
    queries = Reference.open(full).vectors()[:9]
    expected = Reference.open(full).search(queries, k=4).indices
    place = tmp_path / "andere Räume 二" / "Kopie.scim"
    place.parent.mkdir()
    (shutil.copytree if how == "copied" else shutil.move)(full, place)
    assert str(tmp_path) not in (place / "manifest.json").read_text(encoding="utf-8")
    reference = Reference.open(place, verify="full")
    np.testing.assert_array_equal(reference.search(queries, k=4).indices, expected)
    reference.add(more(pbmc))
    reference.compact()
    assert len(Reference.open(place, verify="full")) == len(reference)
