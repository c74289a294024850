"""scim beside SCimilarity 0.4.1: the same inputs, weights and threads, in turn, in one run.

Makes a model of SCimilarity's published size (28,231 genes, 1024-1024-1024 -> 128, random weights) and cells like those
of a Cell Ranger file, gives both to both, and writes ``docs/benchmarks/scimilarity.md``. The peer lives in an
environment of its own, which is made where none is given (about two gigabytes). Every figure comes from a fresh process
of its own; kernels that scim compiles once per installation are compiled before.

Run ``python tests/benchmarks/versus_scimilarity.py [--peer-python VENV/bin/python] [--cells 20000]``. Prints one JSON
line, and writes the table unless ``--out -`` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _versus_inputs import HIDDEN, LATENT, N_GENES

HERE = Path(__file__).resolve()
WORKER = "--worker"
PEER = "scimilarity==0.4.1"
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))


def main() -> None:
    """Prepare, let both work in turn, and write the table."""
    arguments = parse()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        folder = Path(scratch)
        peer = arguments.peer_python or install_peer(folder)
        pythons = {"peer": peer, "ours": sys.executable}
        for side in ("ours", "peer"):
            run(side, pythons[side], "prepare", folder, vars(arguments))
        rows = {}
        for task in ("embed", "annotate", "query", "train", "imports"):
            turns = [
                {side: run(side, python, task, folder, vars(arguments)) for side, python in pythons.items()}
                for _ in range(arguments.turns)
            ]
            rows[task] = {side: best([turn[side] for turn in turns]) for side in pythons}
        rows["backed"] = {"ours": run("ours", sys.executable, "backed", folder, vars(arguments))}
    rows["mine"] = mining(peer)
    report = {
        "benchmark": "versus_scimilarity",
        "cells": arguments.cells,
        "reference_cells": arguments.reference_cells,
        "threads": THREADS,
        "load": round(load, 1),
        "machine": machine(),
        "rows": rows,
    }
    print(json.dumps(report))
    if str(arguments.out) != "-":
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(page(report), encoding="utf-8")


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", default=os.environ.get("SCIM_PEER_PYTHON"))
    parser.add_argument("--cells", type=int, default=20_000)
    parser.add_argument("--reference-cells", type=int, default=90_000)
    parser.add_argument("--turns", type=int, default=2, help="times that each is run; the best counts")
    parser.add_argument("--scratch", help="where temporary files go, about 3 GB")
    parser.add_argument("--out", type=Path, default=HERE.parents[2] / "docs" / "benchmarks" / "scimilarity.md")
    return parser.parse_args()


def install_peer(folder: Path) -> str:
    """Make an environment with the peer, and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder / "peer"], check=True)
    python = str(folder / "peer" / "bin" / "python")
    import torch

    version = torch.__version__.split("+")[0]
    subprocess.run([python, "-m", "pip", "install", "-q", f"torch=={version}", PEER], check=True)
    return python


def run(side: str, python: str, task: str, folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run a task in a process of its own; what it printed last."""
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS), "NUMBA_NUM_THREADS": str(THREADS)}
    command = [python, str(HERE), WORKER, side, task, str(folder), json.dumps(arguments, default=str)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{task} of {side} ended with code {done.returncode}; its error is above.")
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.stdout.strip() else {}


def best(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """The smallest of each figure but rates, of which the largest."""
    return {
        key: (max if key.endswith("per_s") else min)(turn[key] for turn in turns)
        if isinstance(turns[0][key], int | float)
        else turns[0][key]
        for key in turns[0]
    }


def mining(peer: str) -> dict[str, dict[str, Any]]:
    """The figures of mining.py."""
    command = [sys.executable, str(HERE.parent / "mining.py"), "--peer-python", peer]
    line = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])
    return {"peer": {"seconds": line["peer_ms"] / 1e3}, "ours": {"seconds": line["ours_ms"] / 1e3}}


def machine() -> str:
    """Processor, in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
        flags = next(line for line in lines if line.startswith("flags"))
        units = [unit for unit in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if unit in flags.split()]
        return f"{name} ({', '.join(units)})"
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def page(report: dict[str, Any]) -> str:
    """The table as Markdown."""
    rows = report["rows"]

    def line(name: str, task: str, key: str, unit: str, digits: int) -> str:
        peer, ours = rows[task]["peer"][key], rows[task]["ours"][key]
        ratio = ours / peer if key.endswith("per_s") else peer / ours
        return f"| {name} | {peer:,.{digits}f} {unit} | {ours:,.{digits}f} {unit} | {ratio:,.1f}x |"

    lines = [
        line(f"counts to embedding, fp32, {report['cells']:,} cells", "embed", "per_s", "cells/s", 0),
        line("peak memory of this step", "embed", "peak_gib", "GiB", 2),
        line("load the encoder", "embed", "load_s", "s", 2),
        line(
            f"open {report['reference_cells']:,} cells and label {report['cells']:,}", "annotate", "per_s", "cells/s", 0
        ),
        line("peak memory of this step", "annotate", "peak_gib", "GiB", 2),
        line("100 queries, 1,000 hits each, with metadata", "query", "seconds", "s", 2),
        line("mine triplets of 1,000 cells", "mine", "seconds", "s", 4),
        line("training step of 1,000 cells", "train", "seconds", "s", 2),
        line("import the package", "imports", "seconds", "s", 2),
        line("import embed, annotate and query", "imports", "ready_s", "s", 2),
        line("size of the installation", "imports", "install_mb", "MB", 0),
    ]
    table = "\n".join(lines)
    backed_rows = rows["backed"]["ours"]
    return f"""# Speed compared with SCimilarity

scim and SCimilarity 0.4.1 run in turn on the same inputs, weights and threads, each in a new process. {N_GENES:,}
genes, {"-".join(map(str, HIDDEN))} -> {LATENT}, about 2,000 genes a cell. {report["threads"]} threads of
{report["machine"]}. The load was {report["load"]} before the run.

| | SCimilarity | scim | |
| --- | --- | --- | --- |
{table}

The embeddings differ by {rows["embed"]["ours"]["difference"]:.1g} at most. From a backed file, scim embeds
{backed_rows["per_s"]:,.0f} cells/s. This is {backed_rows["per_s"] / backed_rows["memory_per_s"]:.0%} of the speed from
memory ({backed_rows["memory_per_s"]:,.0f} cells/s). Peak memory is {backed_rows["peak_gib"]:.2f} GiB.

Command:

```bash
python tests/benchmarks/versus_scimilarity.py
```
"""


def work(side: str, task: str, folder: Path, arguments: dict[str, Any]) -> None:
    """Do a task of one side, in the process that was started for it, and print what it found."""
    import importlib
    import warnings

    warnings.simplefilter("ignore")
    answer = getattr(importlib.import_module(f"_versus_{side}"), task)(folder, arguments)
    if answer is not None:
        print(json.dumps(answer))


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        work(sys.argv[2], sys.argv[3], Path(sys.argv[4]), json.loads(sys.argv[5]))
    else:
        main()
