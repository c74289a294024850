"""Processes that are killed while they write, and disks that are full: what was there before is there afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

KILLS = 12


def this_week() -> int:
    """Seed that changes each week: few kills a run, and many different ones in a year."""
    year, week, _ = datetime.now(UTC).isocalendar()
    return 100 * year + week


def run(folder: Path, *ops: str, seed: int = 0) -> dict:
    # One thread: a fork has no other than the one that forked.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    tests = Path(__file__).resolve().parents[2]
    env["PYTHONPATH"] = os.pathsep.join([str(tests), *filter(None, [env.get("PYTHONPATH")])])
    script = Path(__file__).with_name("_faults.py")
    command = [sys.executable, str(script), str(folder), str(KILLS), str(seed), *ops]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=600)
    assert done.returncode == 0, f"seed {seed}: {done.stderr[-3000:]}"
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
@pytest.mark.slow
def test_killed_at_random_points(tmp_path: Path) -> None:
    seed = int(os.environ.get("SCIM_KILLS_SEED", this_week()))
    # After each kill, the reference was opened, verified and searched: it is the old one or the new one.
    for op, result in run(tmp_path, "build", "add", "compact", seed=seed).items():
        assert result["kills"] == KILLS, (op, seed)
        # In the end, the work is done as if it had never been killed.
        assert result["same"], (op, seed)
        assert result["left"] == ["r.scim"], (op, seed)


@pytest.mark.slow
def test_full_disk(tmp_path: Path) -> None:
    result = run(tmp_path, "full-disk")["full-disk"]
    assert len(result["messages"]) == 3
    for message in result["messages"]:
        assert "The disk is full, or a file may not grow further" in message and "old.scim" in message
    assert result["same"]
    assert not [name for name in result["left"] if name.startswith(".")]
