from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from scim._disk import _atomic as _folder
from scim._disk._atomic import check_target, explain_full_disk, new_folder, new_parents

OPTIONS = {"marker": "mark", "what": "thing"}


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "new"
    with new_folder(target, **OPTIONS, overwrite=False) as scratch:
        (scratch / "mark").write_text("1")
        assert not target.exists()
    assert names(target) == ["mark"]
    assert names(target.parent) == ["new"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_nothing_is_left_of_a_failure(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        with new_folder(tmp_path / "a" / "new", **OPTIONS, overwrite=False) as scratch:
            (scratch / "mark").write_text("half")
            raise error
    assert names(tmp_path) == []


def test_old_folder_comes_back_if_the_move_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "thing"
    target.mkdir()
    (target / "mark").write_text("old")
    replace = os.replace

    def fail_on_new(source: Path, to: Path) -> None:
        if ".new-" in Path(source).name:
            raise OSError(errno.EIO, "broken disk")
        replace(source, to)

    monkeypatch.setattr(_folder.os, "replace", fail_on_new)
    # Where the system cannot swap folders, the old one is moved aside first.
    monkeypatch.setattr(_folder, "_exchange", lambda *_: False)
    with pytest.raises(OSError, match="broken disk"):
        with new_folder(target, **OPTIONS, overwrite=True) as scratch:
            (scratch / "mark").write_text("new")
    assert (target / "mark").read_text() == "old"
    assert names(tmp_path) == ["thing"]


def test_target_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="exists already"):
        with new_folder(tmp_path / "thing", **OPTIONS, overwrite=False):
            (tmp_path / "thing").mkdir()
            (tmp_path / "thing" / "mark").write_text("another process")
    assert (tmp_path / "thing" / "mark").read_text() == "another process"
    assert names(tmp_path) == ["thing"]


def test_target_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file is not a folder"):
        check_target(tmp_path / "file" / "a" / "new", **OPTIONS, overwrite=False)


def test_read_only_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_folder.os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="read-only"):
        check_target(tmp_path / "new", **OPTIONS, overwrite=False)


def test_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # root passes os.access, and only the write itself fails.
    def refuse(**_: object) -> str:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(_folder.tempfile, "mkdtemp", refuse)
    with pytest.raises(PermissionError, match="Read-only file system.*Choose another path"):
        with new_folder(tmp_path / "a" / "new", **OPTIONS, overwrite=False):
            pass
    assert names(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a place where nobody can write")
def test_a_place_where_an_administrator_cannot_write_either() -> None:
    with (
        pytest.raises(PermissionError, match="Choose another path"),
        new_folder(Path("/proc/new"), **OPTIONS, overwrite=False),
    ):
        pass


def test_of_two_that_finish_at_once_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, late = tmp_path / "target", tmp_path / "late"
    for folder in (path, late):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    seen = iter([False, True])  # the other one comes between the look and the move
    monkeypatch.setattr(_folder.os.path, "lexists", lambda path: next(seen))
    with pytest.raises(FileExistsError, match="by another process in the meantime"):
        _folder.move_into_place(late, path)
    assert (path / "file").read_text() == "target" and (late / "file").exists()


def test_a_folder_that_is_something_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text").write_text("mine")
    with pytest.raises(FileExistsError, match="is not a thing"):
        check_target(tmp_path / "notes", **OPTIONS, overwrite=True)
    check_target(tmp_path, marker="notes/text", what="thing", overwrite=True)


def test_new_parents_go_again_unless_somebody_uses_them(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_parents(tmp_path / "a" / "b" / "file"):
        (tmp_path / "a" / "other").write_text("")
        raise RuntimeError
    assert names(tmp_path / "a") == ["other"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_is_explained(tmp_path: Path, number: int) -> None:
    with pytest.raises(OSError, match=r"The disk is full.*while writing .*r\.scim.*Make room") as caught:
        with explain_full_disk(tmp_path / "r.scim"):
            raise OSError(number, "in the words of the system")
    assert caught.value.errno == number
    with pytest.raises(OSError, match="^.Errno 5. something else$"), explain_full_disk(tmp_path):
        raise OSError(errno.EIO, "something else")
