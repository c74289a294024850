"""Folders and files that appear whole or not at all: written under another name first, then renamed."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def check_target(path: Path, *, overwrite: bool, marker: str | None = None, what: str = "file") -> None:
    """Raise an error, before any work, if the file or folder ``path`` cannot or must not be written.

    ``what`` says what it will be, in words. With ``overwrite``, a folder may be replaced if it holds the file
    ``marker``, which shows that it is one of ours. Without a ``marker``, ``path`` is to be a file.
    """
    if os.path.lexists(path):
        if not overwrite:
            raise FileExistsError(f"{path} exists already. Choose another path, or pass overwrite=True.")
        empty = path.is_dir() and not any(path.iterdir())
        if not (path.is_file() if marker is None else empty or (path / marker).is_file()):
            kind = f"an {what}" if what[0] in "aeiou" else f"a {what}"
            raise FileExistsError(f"{path} is not {kind}, so it is not overwritten. Choose another path.")
    folder = path.absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(f"{path} cannot be made: {folder} is not a folder. Choose another path.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be made: {folder} is read-only. Choose another path.")
    try:  # os.access tells an administrator that nothing is read-only
        os.rmdir(tempfile.mkdtemp(dir=folder, prefix=f".{path.name}.new-"))
    except OSError as error:
        raise PermissionError(f"{path} cannot be made: {error}. Choose another path.") from error


@contextmanager
def new_folder(path: Path, *, marker: str, what: str, overwrite: bool) -> Iterator[Path]:
    """Yield an empty folder that replaces ``path`` if the block ends well, and is removed if it does not.

    An existing folder at ``path`` stays unchanged until then. See :func:`check_target` for parameters.
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
            scratch.chmod(0o755)  # mkdtemp gives access to its user only
            # Another process may have made the target in the meantime.
            check_target(path, marker=marker, what=what, overwrite=overwrite)
            move_into_place(scratch, place)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a scratch path of the same name, and put the file that it wrote in the place of ``path``."""
    place = path.resolve()
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.new-") as folder:
        scratch = Path(folder) / place.name
        write(scratch)
        os.replace(scratch, place)


@contextmanager
def new_parents(path: Path) -> Iterator[None]:
    """Make the folders above ``path``. If the block ends with an error, remove the new ones.

    If the system does not allow writing there, the error is a PermissionError, whichever error the system raises.
    """
    made: list[Path] = []  # innermost first
    try:
        missing = [folder for folder in path.parents if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        made = missing
        yield
    except BaseException as error:
        for folder in made:
            with suppress(OSError):  # another process has put something there
                folder.rmdir()
        # On some read-only file systems, root gets FileNotFoundError instead of PermissionError.
        there = path.parent.is_dir()
        hidden = isinstance(error, FileNotFoundError) and there and Path(str(error.filename)).parent == path.parent
        denied = hidden or (isinstance(error, OSError) and error.errno in _DENIED)
        if denied and not isinstance(error, PermissionError):
            raise PermissionError(f"{path} cannot be written: {error}. Choose another path.") from error
        raise


def move_into_place(scratch: Path, path: Path) -> None:
    """Rename a finished folder to ``path``. An existing folder there is replaced, and kept if the renaming fails."""
    if not os.path.lexists(path):
        try:
            os.replace(scratch, path)
        except OSError as error:
            if os.path.lexists(path):
                raise FileExistsError(
                    f"{path} was made by another process in the meantime, and is kept. Choose another path."
                ) from error
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
    """Swap two folders in one step if the system can, so that a killed process leaves one of them at each path."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # another system than Linux, or an old Linux
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(swap(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def sync(path: Path) -> None:
    """Write a file, or the names in a folder, through to the disk, so that they survive a power cut."""
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
    """Explain the errors that mean a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(
            error.errno,
            f"The disk is full, or a file may not grow further, while writing {path} ({error}). What was there before "
            "is unchanged. Make room and try again",
        ) from error
