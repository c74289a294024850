"""Commands that work on a Dask cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import Result

from scim.reference.serving import _shards
from scim.reference.store import read_manifest

KEYS = ("--labels-key", "cell_type")


def test_workers_of_dask(
    scim_command: Callable[..., Result],
    built: Path,
    studies: Path,
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    distributed = pytest.importorskip("distributed", reason="needs dask.distributed: pip install 'scim-tools[dask]'")
    started: list[dict[str, object]] = []

    def cluster(**options: object) -> object:
        started.append(options)
        return processes(**options, processes=False)

    processes = distributed.LocalCluster
    monkeypatch.setattr(distributed, "LocalCluster", cluster)
    out = tmp_path / "dask.scim"
    done = scim_command("build", studies, *KEYS, "--encoder", encoder, "--out", out, "--workers", 1)
    assert done.exit_code == 0, done.output
    assert [options["n_workers"] for options in started] == [1]
    assert read_manifest(out)["files"] == read_manifest(built)["files"]


def test_workers_of_dask_search(
    scim_command: Callable[..., Result], built: Path, studies: Path, tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed", reason="needs dask.distributed: pip install 'scim-tools[dask]'")
    query = ("query", studies / "s0.h5ad", "--reference", built, "--k", 7)
    annotate = ("annotate", studies / "s0.h5ad", "--reference", built, "--vote", "ontology")
    threads = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**threads) as cluster:
        for name, command in (("hits", query), ("labels", annotate)):
            one, other = tmp_path / f"{name}.csv", tmp_path / f"{name}-dask.csv"
            assert scim_command(*command, "--out", one).exit_code == 0
            done = scim_command(*command, "--out", other, "--scheduler", cluster.scheduler_address)
            assert done.exit_code == 0, done.output
            pd.testing.assert_frame_equal(pd.read_csv(one), pd.read_csv(other))
    assert str(built) in _shards._opened  # the worker did search


def test_scheduler_that_is_not_there(
    scim_command: Callable[..., Result], fails: Callable[..., None], built: Path, studies: Path, tmp_path: Path
) -> None:
    pytest.importorskip("distributed", reason="needs dask.distributed: pip install 'scim-tools[dask]'")
    import dask

    command = ("query", studies / "s0.h5ad", "--reference", built, "--out", tmp_path / "hits.csv")
    with dask.config.set({"distributed.comm.timeouts.connect": "200ms"}):
        fails(scim_command(*command, "--scheduler", "tcp://127.0.0.1:1"), "--scheduler tcp://127.0.0.1:1", "Start one")
    assert not (tmp_path / "hits.csv").exists()


def test_one_kind_of_workers(
    scim_command: Callable[..., Result],
    fails: Callable[..., None],
    studies: Path,
    encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    command = ("build", studies, *KEYS, "--encoder", encoder, "--out", tmp_path / "made.scim", "--workers", 2)
    fails(scim_command(*command, "--scheduler", "tcp://127.0.0.1:1"), "--workers", "--scheduler")
    monkeypatch.setitem(sys.modules, "distributed", None)
    fails(scim_command(*command), "pip install 'scim-tools[dask]'")
    assert not (tmp_path / "made.scim").exists()
