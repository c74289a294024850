"""Processes that are killed while they write, and disks that are full: what was there before is there afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

KILLS = 20


def run(op: str, folder: Path, n: int = 0) -> dict:
    # One thread: a fork has no other than the one that forked.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    script = Path(__file__).with_name("_faults.py")
    command = [sys.executable, str(script), op, str(folder), str(n)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("op", ["build", "add", "compact"])
def test_killed_at_random_points(op: str, tmp_path: Path) -> None:
    # Each time, the reference was opened, verified and searched: it is the old one or the new one.
    result = run(op, tmp_path, KILLS)
    assert result["kills"] == KILLS
    # What is done in the end, after all that, is what is done without it.
    assert result["same"]
    assert result["left"] == ["r.scim"]


def test_full_disk(tmp_path: Path) -> None:
    result = run("full-disk", tmp_path)
    assert len(result["messages"]) == 3
    for message in result["messages"]:
        assert "The disk is full, or a file may not grow further" in message and "old.scim" in message
    assert result["same"]
    assert not [name for name in result["left"] if name.startswith(".")]
