"""Journal of a build on disk, from which an interrupted build continues."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from ..._disk import (
    LOCK,
    WRITER,
    check_target,
    explain_full_disk,
    move_into_place,
    new_parents,
    one_writer,
    plain,
    sha256,
    sync,
)
from ..._warn import warn
from .. import store

#: Cells of a stage, after which the work is recorded.
STAGE = 20_000
#: Keep the work of a build that ends with an error from this number of finished cells on.
WORTH_KEEPING = 20_000
#: Ending of the hidden folder of a build.
_ENDING = ".building"


class Journal:
    """Records of finished work. Each record is a number of cells of one part of the data.

    The folder of the build holds ``journal.jsonl``, ``stages/``, and ``reference/``, which becomes the reference.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.folder, self.stages = root, root / "reference", root / "stages"
        self.segment = self.folder / store.SEGMENTS / "0001"
        self._path = root / "journal.jsonl"
        self._plan: str | None = None
        self.records: list[dict[str, Any]] = []

    @property
    def n_cells(self) -> int:
        """Number of finished cells."""
        return sum(int(record["n_cells"]) for record in self.records)

    def begin(self, plan: Mapping[str, Any] | None, *, resume: bool) -> None:
        """Continue with the recorded work if it has the same plan, or delete it.

        The plan is everything that the result depends on, besides the data. Without a plan, the build cannot continue.
        """
        self._plan = None if plan is None else json.dumps(plain(plan), sort_keys=True)
        lines = list(self._read())
        if lines and resume and self._plan is not None and lines[0].get("plan") == self._plan:
            self.records = self._whole(lines[1:])
        elif len(lines) > 1 and resume:
            warn(f"A build of {self._target()} that was interrupted had other arguments. It starts again.")
        _delete(self.folder, but=self.segment / store.VECTORS if self.records else None)
        self.folder.mkdir(exist_ok=True)
        self._clear()
        if self.n_cells:
            warn(
                f"Continuing a build of {self._target()} that was interrupted: {self.n_cells:,} cells are done. "
                "resume=False starts again."
            )

    def append(self, record: Mapping[str, Any]) -> None:
        """Record finished work, whose files are on the disk."""
        self.records.append(dict(record))
        _write_lines(self._path, [record], mode="a")

    def rewind(self, n_records: int) -> None:
        """Delete all but the first records."""
        if n_records < len(self.records):
            self.records = self.records[:n_records]
            self._clear()

    def done(self, part: int) -> list[dict[str, Any]]:
        """Return the records of one part of the data."""
        return [record for record in self.records if record["part"] == part]

    def _target(self) -> str:
        return self.root.name.removeprefix(".").removesuffix(_ENDING)

    def _read(self) -> Iterator[dict[str, Any]]:
        """Yield the records up to the first that was not finished."""
        with suppress(OSError), open(self._path, encoding="utf-8", errors="replace") as file:
            for line in file:
                check, _, text = line.rstrip("\n").partition(" ")
                if not line.endswith("\n") or hashlib.sha256(text.encode()).hexdigest()[:16] != check:
                    return
                yield json.loads(text)

    def _whole(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the records up to the first whose files have changed."""
        kept = []
        with suppress(OSError), open(self.segment / store.VECTORS, "rb") as vectors:
            for record in records:
                named = [self.stages / str(name) for name in record["files"]]
                if hashlib.sha256(vectors.read(int(record["bytes"]))).hexdigest() != record["vectors"]:
                    break
                if any(not path.is_file() or sha256(path) != record["files"][path.name] for path in named):
                    break
                kept.append(record)
        return kept

    def _clear(self) -> None:
        """Delete the parts of the segment that have no record."""
        listed = {name for record in self.records for name in record["files"]}
        for path in self.stages.iterdir() if self.stages.is_dir() else ():
            if path.name not in listed:
                path.unlink()
        vectors = self.segment / store.VECTORS
        if self.records:
            os.truncate(vectors, sum(int(record["bytes"]) for record in self.records))
        _delete(self.segment, but=vectors if self.records else None)
        self.stages.mkdir(exist_ok=True)
        partial = self._path.with_name(".journal")
        _write_lines(partial, [{"plan": self._plan}, *self.records], mode="w")
        os.replace(partial, self._path)
        sync(self.root)


def _write_lines(path: Path, records: Sequence[Mapping[str, Any]], *, mode: str) -> None:
    """Write records with a hash each, so that unfinished records can be found."""
    with open(path, mode, encoding="utf-8") as file:
        for record in records:
            text = json.dumps(plain(record))
            file.write(f"{hashlib.sha256(text.encode()).hexdigest()[:16]} {text}\n")
        file.flush()
        os.fsync(file.fileno())


def _delete(folder: Path, *, but: Path | None = None) -> None:
    """Delete a folder, except for one file in it and the folders that contain it."""
    for path in sorted(folder.rglob("*"), reverse=True) if folder.is_dir() else ():
        if but is None or not but.is_relative_to(path):
            path.rmdir() if path.is_dir() else path.unlink()
    if but is None and folder.is_dir():
        folder.rmdir()


@contextmanager
def building(path: Path, *, overwrite: bool, plan: Mapping[str, Any] | None, resume: bool) -> Iterator[Journal]:
    """Lock the folder of a build, and move the result to ``path`` if the block ends without an error.

    The folder of a build is a hidden folder next to ``path``, so that the next build of the same path finds it. It is
    kept if the process dies, or after an error with at least :data:`WORTH_KEEPING` finished cells. ``plan`` and
    ``resume`` are those of :meth:`Journal.begin`. Another process that is building it is a BlockingIOError.
    """
    check_target(path, marker=store.MANIFEST, what="reference", overwrite=overwrite)
    place = path.absolute()
    root = place.parent / f".{place.name}{_ENDING}"
    with new_parents(place):
        root.mkdir(exist_ok=True)
        with one_writer(root, f"a build of {place.name}"):
            journal = Journal(root)
            try:
                journal.begin(plan, resume=resume)
                with explain_full_disk(path):
                    yield journal
                for file in journal.folder.rglob("*"):
                    if file.is_file():
                        sync(file)
                # A folder may have appeared during the build.
                check_target(path, marker=store.MANIFEST, what="reference", overwrite=overwrite)
                with one_writer(place, "a build that replaces it") if place.is_dir() else nullcontext():
                    move_into_place(journal.folder, place)
                _remove(root)
            except BaseException as error:
                if plan is not None and journal.n_cells >= WORTH_KEEPING:
                    error.add_note(
                        f"{journal.n_cells:,} cells are done and kept. Build it again to continue from there."
                    )
                else:
                    _remove(root)
                raise


def _remove(root: Path) -> None:
    for child in root.iterdir():
        if child.name not in (LOCK, WRITER):
            shutil.rmtree(child) if child.is_dir() else child.unlink()
    for name in (WRITER, LOCK):
        with suppress(OSError):
            (root / name).unlink()
    with suppress(OSError):
        root.rmdir()
