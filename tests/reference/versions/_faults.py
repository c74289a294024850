"""Change a reference in processes that are killed on the way; run by test_faults_killed.py.

Each attempt is a fork of this process, which has done the same work before, so that nothing is left to import or
compile. The fork kills itself with SIGKILL, at a file operation or a CPU time that was drawn at random from all that
the work takes.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from _made import index_sizes
from anndata import AnnData
from scipy import sparse
from tqdm.auto import tqdm

import scim
from scim.genes import GeneSpace
from scim.index import _ivf_flat
from scim.reference.build import _journal, _parts

KEYS = {"labels_key": "cell_type", "study_key": "study", "obs_columns": ["tissue"]}
GENES = [f"ENSG{i:011d}" for i in range(1, 121)]


def make_encoder() -> scim.Encoder:
    matrix = np.random.default_rng(0).normal(size=(16, len(GENES))).astype(np.float32)
    return scim.Encoder(GeneSpace(GENES), {"output.weight": matrix, "output.bias": np.zeros(16, dtype=np.float32)})


def make_cells(n: int, seed: int, study: str) -> AnnData:
    """Cells of three types."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, n)
    rates = np.random.default_rng(1).gamma(0.5, 2, size=(3, len(GENES)))
    obs = pd.DataFrame(
        {
            "cell_type": pd.Categorical(np.array(["T cell", "B cell", "monocyte"])[kinds]),
            "study": pd.Categorical([study] * n),
            "tissue": pd.Categorical(rng.choice(["blood", "lung"], n)),
        },
        index=[f"{study}-{i}" for i in range(n)],
    )
    counts = sparse.csr_matrix(rng.poisson(rates[kinds]).astype(np.float32))
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=GENES))


def settings() -> None:
    """Indexes and stages for hundreds of cells."""
    warnings.simplefilter("ignore")
    # The lock of tqdm is one for all forks, and a fork that is killed while it holds it would stop the next ones.
    tqdm.monitor_interval = 0
    tqdm.set_lock(threading.RLock())
    index_sizes(pytest.MonkeyPatch(), index_from_cells=200)
    _ivf_flat._TRIALS = 20
    _parts.STAGE = _journal.STAGE = 100


def in_child(work: Callable[[], None], *, event: int | None = None, seconds: float | None = None) -> int:
    """Run in a fork; return its status: -9 if it was killed.

    Parameters
    ----------
    work
        What to do.
    event
        Kill at this file operation (or other thing that Python audits), counted from 1.
    seconds
        Kill after this much CPU time.
    """
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.alarm(300)  # what hangs fails
    events = 0

    def kill(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def count(*_: object) -> None:
        nonlocal events
        events += 1
        if events == event:
            kill()

    try:
        started = time.process_time()
        sys.addaudithook(count)
        if seconds is not None:
            signal.signal(signal.SIGPROF, kill)
            signal.setitimer(signal.ITIMER_PROF, seconds)
        work()
        total = events
        Path("total.json").write_text(json.dumps([total, time.process_time() - started]))
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 - it is reported
        Path("error.txt").write_text(repr(error))
        os._exit(1)


def check(path: Path, sizes: set[int]) -> int:
    """Open, verify and search; return the number of cells, which must be one of ``sizes``."""
    reference = scim.Reference.open(path, verify="full")
    reference.verify()
    assert len(reference) in sizes, (len(reference), sizes)
    table = reference.metadata()
    assert len(table) == len(reference) and table["cell_id"].is_unique
    rows = table.index.to_numpy()[:: max(1, len(table) // 5)]
    found = reference.search(reference.vectors(rows), k=3)
    assert (found.distances[:, 0] < 1e-6).all()
    reference.metadata(found.indices.ravel())
    assert reference.label_model.matched().calibration.head is not None and reference.landmarks is not None
    return len(reference)


def prepare(folder: Path) -> scim.Reference:
    """A reference of two segments with an index, and a few cells removed."""
    parts = {"one": make_cells(150, 0, "one"), "two": make_cells(150, 1, "two")}
    reference = scim.Reference.build(folder / "old.scim", parts, make_encoder(), **KEYS)
    return reference


def trials(op: str, folder: Path, n_kills: int, seed: int) -> dict[str, object]:
    """Kill ``op`` so many times, and say what was found after each."""
    encoder = make_encoder()
    target = folder / "mit Leerzeichen é" / "r.scim"
    old = folder / "old.scim"
    files = folder / "files"
    work_before(op, folder)

    def fresh() -> None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(old, target)

    def build() -> None:
        scim.Reference.build(target, files, encoder, **KEYS, overwrite=True)

    def add() -> None:
        scim.Reference.open(target).add(make_cells(120, 9, "new"))

    def compact() -> None:
        scim.Reference.open(target).compact()

    work = {"build": build, "add": add, "compact": compact}[op]
    sizes = {"build": {300, 700}, "add": {300, 420}, "compact": {360}}[op]
    fresh()
    work()
    expected = contents(target)
    fresh()
    assert in_child(work) == 0, Path("error.txt").read_text()
    n_events, cpu = json.loads(Path("total.json").read_text())
    fresh()
    rng = np.random.default_rng(seed)
    kills, states = 0, []
    while kills < n_kills:
        at = {"event": int(rng.integers(1, n_events + 1))} if kills % 2 else {"seconds": rng.random() * cpu}
        status = in_child(work, **at)
        assert status in (0, -signal.SIGKILL), Path("error.txt").read_text()
        kills += status != 0
        n = check(target, sizes)
        states.append(n)
        if n == max(sizes) and op != "compact" or status == 0:
            fresh()
    fresh()
    assert in_child(work) == 0, Path("error.txt").read_text()
    check(target, {max(sizes)})
    left = sorted(p.name for p in target.parent.iterdir())
    return {"kills": kills, "states": states, "same": contents(target) == expected, "left": left}


def work_before(op: str, folder: Path) -> None:
    reference = prepare(folder)
    (folder / "files").mkdir()
    for i, name in enumerate(("x", "y")):
        make_cells(350, 5 + i, name).write_h5ad(folder / "files" / f"{name}.h5ad")
    if op == "compact":
        reference.add(make_cells(120, 9, "new"))
        reference.remove(rows=np.arange(0, 420, 7))


def contents(path: Path) -> dict[str, str]:
    """What is in the files of the newest version, by name; the manifest holds the time."""
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    hashes = {name: facts["sha256"] for name, facts in manifest["files"].items()}
    return hashes | {"index": (manifest["index"] or {}).get("sha256", "")}


def full_disk(folder: Path) -> dict[str, object]:
    """Build, with files that may not grow over 10 kB."""
    target = folder / "old.scim"
    before = {p.name: p.read_bytes() for p in target.rglob("*") if p.is_file()}
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
    messages = []
    for work in (
        lambda: scim.Reference.build(target, make_cells(2_000, 3, "big"), make_encoder(), **KEYS, overwrite=True),
        lambda: scim.Reference.open(target).add(make_cells(2_000, 3, "big")),
        lambda: scim.Reference.open(target).compact(),
    ):
        try:
            work()
            messages.append("")
        except OSError as error:
            messages.append(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    same = {p.name: p.read_bytes() for p in target.rglob("*") if p.is_file()} == before
    check(target, {420 - 60})
    return {"messages": messages, "same": same, "left": sorted(p.name for p in folder.iterdir())}


if __name__ == "__main__":
    settings()
    folder, n_kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    results = {}
    for op in sys.argv[4:]:
        (folder / op).mkdir()
        os.chdir(folder / op)
        if op == "full-disk":
            work_before("compact", folder / op)
            results[op] = full_disk(folder / op)
        else:
            results[op] = trials(op, folder / op, n_kills, seed)
    print(json.dumps(results))
