from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from scim._disk._checksums import FolderError
from scim._disk._documents import load_arrays, plain, read_json, write_json, write_tensors

NAME = st.text(max_size=8).filter(lambda name: name not in ("format", "version", "sha256"))
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | NAME,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def scratch() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_json_knows_its_own_hash(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    written = write_json(path, "scim-thing", {"名": [0.1, 1e-300, None], "n": 3})
    assert read_json(path, "scim-thing", FolderError) == written
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]
    path.write_text(path.read_text(encoding="utf-8").replace('"n": 3', '"n": 4'), encoding="utf-8")
    with pytest.raises(FolderError, match="m.json was changed"):
        read_json(path, "scim-thing", FolderError)
    with pytest.raises(FolderError, match="does not describe a scim reference"):
        read_json(path, "scim-reference", FolderError)


@given(content=st.dictionaries(NAME, VALUE, max_size=4))
def test_what_was_written_is_read(scratch: Path, content: dict[str, Any]) -> None:
    write_json(scratch / "m.json", "scim-thing", content)
    read = read_json(scratch / "m.json", "scim-thing", FolderError)
    assert {name: value for name, value in read.items() if name not in ("format", "version", "sha256")} == content


@given(content=st.dictionaries(NAME, VALUE, max_size=4), data=st.data())
def test_a_changed_byte_changes_no_document_unseen(scratch: Path, content: dict[str, Any], data: st.DataObject) -> None:
    path = scratch / "m.json"
    written = write_json(path, "scim-thing", content)
    text = bytearray(path.read_bytes())
    text[data.draw(st.integers(0, len(text) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(text))
    try:
        assert read_json(path, "scim-thing", FolderError) == written  # white space between values
    except FolderError as error:
        assert "m.json" in str(error)


def test_newer_formats_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "m.json", "scim-thing", {}, version=3)
    assert read_json(tmp_path / "m.json", "scim-thing", FolderError, newest=3)["version"] == 3
    with pytest.raises(FolderError, match=r"has format 3.*reads up to 2\. Update scim-tools"):
        read_json(tmp_path / "m.json", "scim-thing", FolderError, newest=2)


def test_plain_values() -> None:
    given = {
        1: np.int64(2),
        "a": np.array([1.5, np.nan]),
        "b": {"y", "x"},
        "c": (True, None),
        "d": Path("p"),
        "e": np.inf,
    }
    assert plain(given) == {"1": 2, "a": [1.5, None], "b": ["x", "y"], "c": [True, None], "d": "p", "e": None}


def test_arrays_are_read_and_nothing_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(3), y=np.array(["T cell"]))
    found = load_arrays(tmp_path / "a.npz", FolderError, remedy="Build it again.")
    assert found["x"].tolist() == [0, 1, 2] and found["y"].tolist() == ["T cell"]
    np.save(tmp_path / "b.npy", np.ones(2))
    assert load_arrays(tmp_path / "b.npy", FolderError, remedy="")[""].tolist() == [1, 1]
    np.save(tmp_path / "c.npy", np.array([{}], dtype=object))
    (tmp_path / "d.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    for name in ("c.npy", "d.npz", "absent.npy"):
        with pytest.raises(FolderError, match=rf"{name} is damaged: .*Build it again\."):
            load_arrays(tmp_path / name, FolderError, remedy="Build it again.")


def test_tensors_are_readable_by_others(tmp_path: Path) -> None:
    write_tensors(tmp_path / "t.safetensors", {"w": np.eye(2, dtype=np.float32)})
    np.testing.assert_array_equal(load_file(tmp_path / "t.safetensors")["w"], np.eye(2))
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "t.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
