from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scim._disk._checksums import CheckedFile, FolderError, IndexFileError, check_blocks, check_files, describe_files

#: Content of a file, bytes in a block, and the place of a byte that is changed: any of them, in small files.
CONTENT = st.binary(min_size=1, max_size=200)
BLOCK = st.integers(1, 64)


@pytest.fixture(scope="module")
def scratch() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def flip(path: Path, content: bytes, place: int, bit: int) -> None:
    path.write_bytes(content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :])


def test_files_are_compared_by_size_then_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("1234")
    listed = describe_files(tmp_path, ["a", "b"])
    check_files(tmp_path, listed, FolderError)
    (tmp_path / "b").write_text("1235")
    with pytest.raises(FolderError, match="b was changed"):
        check_files(tmp_path, listed, FolderError)
    (tmp_path / "a").write_text("123")
    with pytest.raises(FolderError, match="a has 3 bytes where 4"):
        check_files(tmp_path, listed, FolderError)
    (tmp_path / "a").unlink()
    with pytest.raises(FolderError, match="a is missing"):
        check_files(tmp_path, listed, FolderError)
    with pytest.raises(FolderError, match="outside itself"):
        check_files(tmp_path, {"../x": {"bytes": 1, "sha256": ""}}, FolderError)


@given(content=CONTENT, block=BLOCK)
def test_description_is_that_of_the_blocks(scratch: Path, content: bytes, block: int) -> None:
    (scratch / "f").write_bytes(content)
    facts = describe_files(scratch, ["f"], block=block)["f"]
    assert facts["bytes"] == len(content) and facts["sha256"] == hashlib.sha256(content).hexdigest()
    parts = [content[i : i + block] for i in range(0, len(content), block)]
    assert facts.get("blocks") == (None if len(parts) == 1 else [hashlib.sha256(p).hexdigest() for p in parts])
    check_files(scratch, {"f": facts}, FolderError)
    check_blocks(scratch / "f", facts, range(len(facts.get("blocks", []))), FolderError)


@given(content=CONTENT, block=BLOCK, data=st.data())
def test_a_flipped_bit_anywhere_is_found(scratch: Path, content: bytes, block: int, data: st.DataObject) -> None:
    path = scratch / "f"
    path.write_bytes(content)
    facts = describe_files(scratch, ["f"], block=block)["f"]
    place = data.draw(st.integers(0, len(content) - 1))
    flip(path, content, place, data.draw(st.integers(0, 7)))
    with pytest.raises(FolderError, match="f was changed since it was written"):
        check_files(scratch, {"f": facts}, FolderError)
    if "blocks" not in facts:
        with pytest.raises(IndexFileError):
            CheckedFile(path, facts)
        return
    damaged = place // block
    others = [i for i in range(len(facts["blocks"])) if i != damaged]
    check_blocks(path, facts, others, FolderError)
    with pytest.raises(FolderError, match=f"block {damaged} differs"):
        check_blocks(path, facts, [*others, damaged], FolderError)
    file = CheckedFile(path, facts)
    assert file.read(damaged * block) == content[: damaged * block]
    with pytest.raises(IndexFileError):
        file.read(1)
    file.close()


@given(content=CONTENT, block=BLOCK, steps=st.lists(st.tuples(st.booleans(), st.integers(0, 70)), max_size=8))
def test_reads_and_skips_are_slices(scratch: Path, content: bytes, block: int, steps: list[tuple[bool, int]]) -> None:
    (scratch / "f").write_bytes(content)
    file, at = CheckedFile(scratch / "f", describe_files(scratch, ["f"], block=block)["f"]), 0
    for is_read, n in steps:
        n = min(n, len(content) - at)
        if is_read:
            assert file.read(n) == content[at : at + n]
        else:
            file.skip(n)
        at += n
    file.close()


def test_a_checked_file_of_another_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"1234567890")
    facts = describe_files(tmp_path, ["f"], block=4)["f"]
    (tmp_path / "f").write_bytes(b"123456789")
    with pytest.raises(IndexFileError):
        CheckedFile(tmp_path / "f", facts)
    with pytest.raises(IndexFileError):
        CheckedFile(tmp_path / "absent", facts)
