"""One writer at a time: a lock of the operating system, which ends with its process."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

#: File that is locked while a folder is written.
LOCK = ".lock"
#: File that says who holds the lock.
WRITER = ".writer.json"


@contextmanager
def one_writer(folder: Path, what: str) -> Iterator[None]:
    """Prevent other processes and threads from writing to a folder during the block.

    If there is another writer, a BlockingIOError says which. A process that was killed no longer holds the lock, and
    the files that it left do not matter.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(
            f"{folder} is being written to by {_who(folder)}. Wait until that is done; nothing was changed."
        ) from None
    try:
        with suppress(OSError):  # the file only serves the message
            facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now(), "what": what}
            (folder / WRITER).write_text(json.dumps(facts), encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            (folder / WRITER).unlink()
        with suppress(OSError):  # Windows deletes no file that is open
            (folder / LOCK).unlink()
        lock.release()


def _who(folder: Path) -> str:
    try:
        facts = json.loads((folder / WRITER).read_text(encoding="utf-8"))
        return f"process {facts['pid']} on {facts['host']} ({facts['what']}, since {facts['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
