"""Folders of downloads in ``SCIM_HOME``, and files that killed processes left there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..._disk import LOCK, WRITER, one_writer

#: Prefix of the folders that archives are unpacked to.
SCRATCH = ".unpack-"
_DAY_SECONDS = 24 * 60 * 60
#: Seconds after which files are deleted. An interrupted download can continue for longer.
_MAX_AGE_SECONDS = {f"{SCRATCH}*": _DAY_SECONDS, ".*.scim.new-*": _DAY_SECONDS, "downloads/*": 7 * _DAY_SECONDS}


@contextmanager
def download_folder(home: Path, name: str) -> Iterator[Path]:
    """Lock a folder below ``home`` for one download, and delete it unless the block ends with an error.

    ``name`` must be unique for the content of the download. If another process or thread is downloading it, this raises
    a BlockingIOError.
    """
    folder = home / "downloads" / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with one_writer(folder, "install-reference"):
            yield folder
            clear(folder)
    finally:
        with suppress(OSError):  # files are kept, or another process has started
            folder.rmdir()


def clear(folder: Path) -> None:
    """Delete the downloaded files, but not the lock."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in (LOCK, WRITER):
            path.unlink(missing_ok=True)


def remove_leftovers(home: Path) -> None:
    """Delete files of killed processes that are so old that no process can be using them."""
    for pattern, seconds in _MAX_AGE_SECONDS.items():
        for path in home.glob(pattern):
            with suppress(OSError):
                # The time of modification comes from an archive, the time of change from the system.
                if time.time() - path.lstat().st_ctime < seconds:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
