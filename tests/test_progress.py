"""The progress bar counts, and stays silent for quick work."""

from __future__ import annotations

import time

import pytest

from scim import _progress
from scim._progress import progress_bar


def test_bar_counts_and_is_silent_when_quick(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(10, desc="cells", enabled=True) as bar:
        bar.update(4)
        assert bar.n == 4 and bar.total == 10
    assert capsys.readouterr().err.strip() == ""


def test_bar_can_be_switched_off() -> None:
    with progress_bar(10, desc="cells", enabled=False) as bar:
        assert bar.disable


def test_a_log_gets_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "log_every", 0.05)
    with _progress.progress_bar(40, desc="Working") as bar:
        for _ in range(40):
            bar.update(1)
            time.sleep(0.01)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 10
    assert all(line.startswith("Working:") and "/40" in line and "cells/s" in line for line in lines)
    with _progress.progress_bar(1, desc="Quick") as bar:
        bar.update(1)
    assert capsys.readouterr().err == ""
