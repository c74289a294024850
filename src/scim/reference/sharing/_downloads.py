"""Folders for what is on its way to ``SCIM_HOME``, and what killed processes left there."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..._disk import LOCK, WRITER, one_writer

#: Begin of the name of a folder that an archive is unpacked to.
SCRATCH = ".unpack-"
_DAY = 24 * 60 * 60
#: Seconds after which nobody comes back for it; an interrupted download goes on for longer.
_OLD = {f"{SCRATCH}*": _DAY, ".*.scim.new-*": _DAY, "downloads/*": 7 * _DAY}


@contextmanager
def download_folder(home: Path, name: str) -> Iterator[Path]:
    """Folder of one download, for one process or thread at a time; it is kept if the block ends with an error.

    Parameters
    ----------
    home
        Folder that references are installed to.
    name
        What makes the download this one: nothing else goes to a folder of this name.

    Raises
    ------
    BlockingIOError
        Somebody else is at it.
    """
    folder = home / "downloads" / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with one_writer(folder, "install-reference"):
            yield folder
            clear(folder)
    finally:
        with suppress(OSError):  # something is kept, or somebody else has begun
            folder.rmdir()


def clear(folder: Path) -> None:
    """Remove what was downloaded, but not the lock."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in (LOCK, WRITER):
            path.unlink(missing_ok=True)


def remove_leftovers(home: Path) -> None:
    """Remove what killed processes left, once it is so old that none can be at it still."""
    for pattern, seconds in _OLD.items():
        for path in home.glob(pattern):
            with suppress(OSError):
                # The time of modification comes from an archive; that of change is the system's.
                if time.time() - path.lstat().st_ctime < seconds:
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
