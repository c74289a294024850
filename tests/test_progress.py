"""The progress bar counts, and stays silent for quick work."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

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


def test_a_notebook_shows_the_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(_progress, "log_every", None)  # a command sets it for its process
    with progress_bar(10, desc="Working") as bar:
        assert bar.disable  # stderr is not a terminal here
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    with progress_bar(10, desc="Working") as bar:
        assert not bar.disable
    assert capsys.readouterr().err.strip() == ""  # it was quick


def test_the_console_of_ipython_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "log_every", None)
    shell = SimpleNamespace(config={})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    with progress_bar(10, desc="Working") as bar:
        assert bar.disable


def test_a_kernel_of_jupyter_shows_a_bar_and_no_warning() -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient, of the documentation")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    code = (
        "import time\nfrom scim import _progress\n_progress._DELAY_SECONDS = 0.05\n"
        "with _progress.progress_bar(20, desc='Working') as bar:\n"
        "    for _ in range(20):\n        time.sleep(0.02)\n        bar.update(1)"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown = str(notebook.cells[0].outputs)
    assert "Working" in shown and "Warning" not in shown
