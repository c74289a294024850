"""One writer at a time: a lock of the operating system, which goes when its process does."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

#: The lock, and who holds it: files of a folder that is being written.
LOCK = ".lock"
WRITER = ".writer.json"


@contextmanager
def one_writer(folder: Path, what: str) -> Iterator[None]:
    """Keep other processes, and threads, from writing to a folder meanwhile.

    The lock is the operating system's: that of a process that was killed is gone, and what it left is no hindrance.

    Raises
    ------
    BlockingIOError
        Somebody else is writing to it; the message says who.
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
        with suppress(OSError):  # it only serves the message
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
