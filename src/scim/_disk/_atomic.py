"""Folders that are whole or not there: written beside their place, and checked before anything parses them."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def check_target(path: Path, *, marker: str, what: str, overwrite: bool) -> None:
    """Refuse a target that cannot or should not be written, before any work.

    Parameters
    ----------
    path
        Folder to be made.
    marker
        File that shows that a folder is one of ours, and may be replaced.
    what
        What it will be, in words.
    overwrite
        Allow to replace one.
    """
    if os.path.lexists(path):
        if not overwrite:
            raise FileExistsError(f"{path} exists already. Choose another path, or pass overwrite=True.")
        if not (path / marker).is_file() and (not path.is_dir() or any(path.iterdir())):
            raise FileExistsError(f"{path} is no {what}, so it is not overwritten. Choose another path.")
    folder = path.absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(f"{path} cannot be made: {folder} is not a folder. Choose another path.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be made: {folder} is read-only. Choose another path.")


@contextmanager
def new_folder(path: Path, *, marker: str, what: str, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``path`` if the block ends well, and vanishes if it does not.

    An old folder at ``path`` stays as it was until then. See :func:`check_target` for parameters.
    """
    check_target(path, marker=marker, what=what, overwrite=overwrite)
    place = path.absolute()
    with new_parents(place):
        scratch = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.new-"))
        try:
            yield scratch
            for file in scratch.rglob("*"):
                if file.is_file():
                    sync(file)
            scratch.chmod(0o755)  # mkdtemp lets nobody else in
            # It may have appeared while the work went on.
            check_target(path, marker=marker, what=what, overwrite=overwrite)
            move_into_place(scratch, place)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


@contextmanager
def new_parents(path: Path) -> Iterator[None]:
    """Make the folders above ``path``; those that were not there go again if the block ends with an error.

    Raises
    ------
    PermissionError
        The system does not let us write there, in whatever words.
    """
    made: list[Path] = []
    try:
        made = _make_parents(path.parent)
        yield
    except BaseException as error:
        for folder in reversed(made):
            _remove_empty(folder)
        # Where nothing can be written, an administrator is told that there is no such file.
        there = path.parent.is_dir()
        hidden = isinstance(error, FileNotFoundError) and there and Path(str(error.filename)).parent == path.parent
        denied = hidden or (isinstance(error, OSError) and error.errno in _DENIED)
        if denied and not isinstance(error, PermissionError):
            raise PermissionError(f"{path} cannot be written: {error}. Choose another path.") from error
        raise


def _make_parents(folder: Path) -> list[Path]:
    """Make ``folder`` with its parents, and say which of them were not there."""
    missing = [f for f in (folder, *folder.parents) if not f.exists()][::-1]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # somebody else has put something there
        pass


def move_into_place(scratch: Path, path: Path) -> None:
    """Rename a finished folder; an old one makes way only now, and comes back if that fails."""
    if not os.path.lexists(path):
        try:
            os.replace(scratch, path)
        except OSError as error:
            if os.path.lexists(path):
                raise FileExistsError(f"{path} was made by somebody else just now, and stays as it is.") from error
            raise
    elif _exchange(scratch, path):
        shutil.rmtree(scratch, ignore_errors=True)
    else:
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old-"))
        os.replace(path, aside / "old")
        try:
            os.replace(scratch, path)
        except BaseException:
            os.replace(aside / "old", path)
            raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    sync(path.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in a single step, where the system can: a process killed on the way leaves one or the other."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # no Linux, or an old one
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(swap(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, last through a power cut, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems cannot
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Say what it means where the system only says that there is no space."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(
            error.errno,
            f"The disk is full, or a file may not grow further, while writing {path} ({error}). What was there before "
            "is as it was. Make room and try again",
        ) from error
