"""Folders that are whole or not there: written beside their place, and checked before anything parses them."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

#: Version of the formats that this scim writes and reads, where they have no version of their own.
FORMAT = 1

_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
_REMEDY = "Copy the folder again, or make it again."


class FolderError(ValueError):
    """A folder is not what it should be: something else, damaged, edited, or written by a newer scim."""


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


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file that others may read as far as the umask allows: its own writer lets nobody else."""
    from safetensors.numpy import save

    path.write_bytes(save(dict(tensors)))


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


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_files(root: Path, names: Iterable[str], *, block: int | None = None) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files below ``root``, by name; for those larger than ``block`` bytes of each block too."""
    return {name: _describe(root / name, block) for name in sorted(names)}


def _describe(path: Path, block: int | None) -> dict[str, Any]:
    size = path.stat().st_size
    if block is None or size <= block:
        return {"bytes": size, "sha256": sha256(path)}
    whole, blocks = hashlib.sha256(), []
    with open(path, "rb") as file:
        while part := file.read(block):
            whole.update(part)
            blocks.append(hashlib.sha256(part).hexdigest())
    return {"bytes": size, "sha256": whole.hexdigest(), "block": block, "blocks": blocks}


def check_blocks(path: Path, expected: Mapping[str, Any], which: Iterable[int], error: type[FolderError]) -> None:
    """Compare some blocks of a large file with what :func:`describe_files` said of them.

    Raises
    ------
    FolderError
        As ``error``: a block has another content.
    """
    with open(path, "rb") as file:
        for i in which:
            file.seek(i * expected["block"])
            if hashlib.sha256(file.read(expected["block"])).hexdigest() != expected["blocks"][i]:
                raise error(f"{path} was changed since it was written (the SHA-256 of block {i} differs). {_REMEDY}")


def check_files(
    root: Path,
    files: Mapping[str, Mapping[str, Any]],
    error: type[FolderError],
    *,
    content: Callable[[str], bool] = lambda name: True,
) -> None:
    """Compare files with their description: size first, then content, for the names that ``content`` says so of.

    Raises
    ------
    FolderError
        As ``error``: a file is missing, has another size, or another content; the message names it.
    """
    for name, expected in files.items():
        path = root / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise error(f"{root} lists a file outside itself: {name}. {_REMEDY}")
        if not path.is_file():
            raise error(f"{path} is missing. {_REMEDY}")
        if (size := path.stat().st_size) != expected["bytes"]:
            raise error(f"{path} has {size:,} bytes where {expected['bytes']:,} were written. {_REMEDY}")
        if content(name) and sha256(path) != expected["sha256"]:
            raise error(f"{path} was changed since it was written (its SHA-256 differs). {_REMEDY}")


def write_json(path: Path, kind: str, content: Mapping[str, Any], *, version: int = FORMAT) -> dict[str, Any]:
    """Write a description of ``kind`` with its own hash, in a single step: readers see the old or the new one."""
    document = plain({"format": kind, "version": version, **content})
    document["sha256"] = _digest(document)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)
    return document


def read_json(path: Path, kind: str, error: type[FolderError], *, newest: int = FORMAT) -> dict[str, Any]:
    """Read what :func:`write_json` wrote, of versions up to ``newest``.

    Raises
    ------
    FolderError
        As ``error``: the file is something else, of a newer version, or was damaged or edited.
    """
    try:
        document = json.loads(path.read_bytes().decode("utf-8"))
    except ValueError as problem:
        raise error(f"{path} is damaged: {problem}. {_REMEDY}") from problem
    if not isinstance(document, dict) or document.get("format") != kind:
        raise error(f"{path} does not describe a {kind.replace('-', ' ')}.")
    version = document.get("version")
    if isinstance(version, int) and version > newest:
        raise error(f"{path} has format {version}, this scim reads up to {newest}. Update scim-tools.")
    if document.get("sha256") != _digest(document):
        raise error(f"{path} was changed since it was written (its SHA-256 differs). {_REMEDY}")
    return document


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps({k: v for k, v in document.items() if k != "sha256"}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """Value as JSON has it: NumPy's numbers and arrays, sets, paths and not-a-numbers become what is nearest."""
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=str)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)
