"""Cells that the workers of a Dask cluster embed, to build a reference and to add to one."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anndata import AnnData
from scipy import sparse

from scim import Encoder, Reference
from scim.reference.build import _journal, _parts
from scim.reference.build import _remote as _embedding

pytest.importorskip("distributed", reason="needs dask.distributed: pip install 'scim-tools[dask]'")
pytestmark = pytest.mark.usefixtures("one_thread")

KEYS = {"labels_key": "cell_type", "obs_columns": ["tissue", "depth"]}


@pytest.fixture
def studies(pbmc: AnnData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Three files, one of them zarr and one stored by columns, of which a hundred cells are a stage."""
    monkeypatch.setattr(_parts, "STAGE", 100)
    monkeypatch.setattr(_journal, "WORTH_KEEPING", 100)
    monkeypatch.setattr(_embedding, "BLOCK_ROWS", 50)
    for function in (Encoder.embed_chunks, _parts.embed_value_blocks):
        monkeypatch.setattr(function, "__kwdefaults__", {**function.__kwdefaults__, "chunk_size": 50})
    first, second, third = (pbmc[pbmc.obs["study"] == name].copy() for name in ("first", "second", "third"))
    second.X = sparse.csc_matrix(second.X)
    first.write_h5ad(tmp_path / "first.h5ad")
    second.write_h5ad(tmp_path / "second.h5ad")
    third.write_zarr(tmp_path / "third.zarr")
    return [tmp_path / "first.h5ad", tmp_path / "second.h5ad", tmp_path / "third.zarr"]


def contents(reference: Reference) -> dict[str, str]:
    return {name: facts["sha256"] for name, facts in reference._now.manifest["files"].items()}


@pytest.fixture
def not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process embeds nothing but the landmarks."""

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("embedded in this process")

    monkeypatch.setattr(_parts, "embed_value_blocks", refuse)


@pytest.fixture
def kill_a_worker_after(client: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[type, str], list[int]]:
    """Kill a worker once a method was first called, and keep few blocks ahead; the list returned names the process."""

    def prepare(owner: type, name: str) -> list[int]:
        real, killed = getattr(owner, name), []

        def kill(self: Any, *about: Any) -> None:
            real(self, *about)
            if not killed:
                killed.append(next(iter(client.run(os.getpid).values())))
                os.kill(killed[0], signal.SIGKILL)

        monkeypatch.setattr(owner, name, kill)
        monkeypatch.setattr(_embedding, "_MIN_BLOCKS", 1)
        monkeypatch.setattr(_embedding, "_BLOCKS_PER_THREAD", 1)
        return killed

    return prepare


@pytest.fixture
def expected(studies: list[Path], encoder: Encoder, tmp_path: Path) -> dict[str, str]:
    return contents(Reference.build(tmp_path / "expected.scim", studies, encoder, **KEYS))


def test_build_is_that_of_one_process(
    expected: dict[str, str], not_here: None, studies: list[Path], encoder: Encoder, client: Any, tmp_path: Path
) -> None:
    before = set(client.futures)
    for i, data in enumerate([studies, iter(studies), {p.stem: str(p) for p in studies}]):
        made = Reference.build(tmp_path / f"{i}.scim", data, encoder, **KEYS, client=client)
        assert contents(made) == expected
    assert set(client.futures) <= before


def test_build_of_data_in_memory_says_so(
    expected: dict[str, str], studies: list[Path], pbmc: AnnData, encoder: Encoder, client: Any, tmp_path: Path
) -> None:
    memory = {p.stem: pbmc[pbmc.obs["study"] == p.stem].copy() for p in studies}
    with pytest.warns(UserWarning, match="data of 'first' are in memory, and are embedded in this process") as caught:
        made = Reference.build(tmp_path / "made.scim", memory, encoder, **KEYS, client=client)
    assert contents(made) == expected
    assert [w.filename for w in caught if "in memory" in str(w.message)] == [__file__]


def test_build_goes_on(
    expected: dict[str, str],
    not_here: None,
    studies: list[Path],
    encoder: Encoder,
    client: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An interrupted build goes on in the middle of a file, and notices a file that changed."""
    before = set(client.futures)
    real, noted = _journal.Journal.append, []

    def stop(self: Any, record: Any) -> None:
        real(self, record)
        noted.append(record)
        if len(noted) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(_journal.Journal, "append", stop)
    target = tmp_path / "made.scim"
    with pytest.raises(KeyboardInterrupt):
        Reference.build(target, studies, encoder, **KEYS, client=client)
    assert set(client.futures) <= before
    with pytest.warns(UserWarning, match="200 cells are done"):
        made = Reference.build(target, studies, encoder, **KEYS, client=client)
    assert contents(made) == expected
    noted.clear()
    shutil.rmtree(target)
    with pytest.raises(KeyboardInterrupt):
        Reference.build(target, studies, encoder, **KEYS, client=client)
    os.utime(studies[0])
    with pytest.warns(UserWarning, match="200 cells are done"):
        assert contents(Reference.build(target, studies, encoder, **KEYS, client=client)) == expected


def test_build_survives_a_worker_that_is_killed(
    expected: dict[str, str],
    not_here: None,
    studies: list[Path],
    encoder: Encoder,
    client: Any,
    tmp_path: Path,
    kill_a_worker_after: Any,
) -> None:
    killed = kill_a_worker_after(_journal.Journal, "append")
    made = Reference.build(tmp_path / "made.scim", studies, encoder, **KEYS, client=client)
    assert killed
    assert contents(made) == expected


def test_build_that_a_worker_refuses(
    studies: list[Path], encoder: Encoder, client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(cluster: Any, encoder: Encoder, folder: Path, *args: Any, **options: Any) -> Any:
        return _embedding.RemoteEmbedder(cluster, encoder, folder.with_name("nowhere"), *args, **options)

    target = tmp_path / "made.scim"
    with pytest.raises(TypeError, match=r"client must be a distributed\.Client, got str"):
        Reference.build(target, studies, encoder, **KEYS, client="tcp://127.0.0.1:8786")
    with monkeypatch.context() as patched:
        patched.setattr(_parts, "RemoteEmbedder", elsewhere)
        with pytest.raises(FileNotFoundError, match=r"The Dask worker tcp://127.* cannot see .*nowhere.*share"):
            Reference.build(target, studies, encoder, **KEYS, client=client)
    monkeypatch.setattr("scim.reference.build._remote.scim_version", lambda: "99.0")
    with pytest.raises(RuntimeError, match=r"has scim .*, and the client has 99\.0"):
        Reference.build(target, studies, encoder, **KEYS, client=client)
    assert not target.exists()


@pytest.fixture
def first(studies: list[Path], encoder: Encoder, tmp_path: Path) -> Path:
    """A reference of two files, and a copy to be added to without a cluster."""
    made = Reference.build(tmp_path / "one.scim", studies[:2], encoder, **KEYS)
    shutil.copytree(made.path, tmp_path / "local.scim")
    return made.path


def test_add_is_that_of_one_process(first: Path, studies: list[Path], client: Any, request: Any) -> None:
    local = Reference.open(first.with_name("local.scim"))
    local.add(studies[2:])
    request.getfixturevalue("not_here")
    added = Reference.open(first)
    added.add(studies[2:], client=client)
    assert contents(added) == contents(local)
    assert len(added) == 700


def test_add_survives_a_worker_that_is_killed(
    first: Path, studies: list[Path], client: Any, kill_a_worker_after: Any
) -> None:
    local = Reference.open(first.with_name("local.scim"))
    local.add(studies[2:])
    killed = kill_a_worker_after(_parts.PartWriter, "_note")
    added = Reference.open(first)
    added.add(studies[2:], client=client)
    assert killed
    assert contents(added) == contents(local)


def test_add_that_a_worker_refuses_changes_nothing(
    first: Path, studies: list[Path], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(path.name for path in first.rglob("*"))
    monkeypatch.setattr("scim.reference.build._remote.scim_version", lambda: "99.0")
    with pytest.raises(RuntimeError, match=r"has scim .*, and the client has 99\.0"):
        Reference.open(first).add(studies[2:], client=client)
    assert sorted(path.name for path in first.rglob("*")) == before
    assert len(Reference.open(first)) < 700
