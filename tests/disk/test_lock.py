from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from scim._disk._lock import LOCK, WRITER, one_writer


def test_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    with one_writer(tmp_path, "an add"):
        with pytest.raises(
            BlockingIOError, match=rf"process {os.getpid()} on .* \(an add, since 20.*nothing was changed"
        ):
            with one_writer(tmp_path, "a removal"):
                pytest.fail("two writers")
        assert json.loads((tmp_path / WRITER).read_text())["what"] == "an add"


def test_another_thread_is_another_writer(tmp_path: Path) -> None:
    refused: list[BaseException] = []

    def write() -> None:
        try:
            with one_writer(tmp_path, "an add"):
                pass
        except BlockingIOError as error:
            refused.append(error)

    with one_writer(tmp_path, "a removal"):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert len(refused) == 1


@pytest.mark.parametrize("error", [None, RuntimeError, KeyboardInterrupt])
def test_nothing_is_left_of_a_writer(tmp_path: Path, error: type[BaseException] | None) -> None:
    try:
        with one_writer(tmp_path, "an add"):
            if error is not None:
                raise error
    except (RuntimeError, KeyboardInterrupt):
        pass
    assert not any(tmp_path.iterdir())
    with one_writer(tmp_path, "an add"):
        pass


def test_a_killed_writer_is_no_hindrance(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys\nfrom scim._disk import one_writer\n"
        "with one_writer(pathlib.Path(sys.argv[1]), 'an add'):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode != 0
    assert (tmp_path / LOCK).exists() and (tmp_path / WRITER).exists()
    with one_writer(tmp_path, "an add"):
        pass
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "{}", "[1]", "\x00"])
def test_a_damaged_note_names_another_process(tmp_path: Path, text: str) -> None:
    with one_writer(tmp_path, "an add"):
        (tmp_path / WRITER).write_text(text)
        with pytest.raises(BlockingIOError, match="written to by another process"), one_writer(tmp_path, "an add"):
            pass
