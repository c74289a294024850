"""Search a reference on the workers of a Dask cluster on this machine, beside a search in one process.

Makes ``--cells`` vectors (see ``_search_data.py``), builds a reference of them, and searches held-out cells by the
index and with a filter. Recall is against exact search; ``memory_mb`` is what each worker holds of its own after that,
less what it held before. Workers share the machine, so that seconds say what the cluster costs, not what many machines
gain. Prints one JSON line.

Run ``python tests/benchmarks/cluster.py [--cells 1000000] [--workers 2]``; a million cells take about 0.7 GB of
disk.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from _search_data import Atlas, write_vectors
from _search_verbs import _build, _obs
from distributed import Client, LocalCluster

import scim
from scim.index._exact import ExactIndex

TRUE, BATCH, FILTER = 200, 2_000, {"tissue": ["tissue 1", "tissue 2"]}


def main() -> None:
    """Make, build, search, print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scratch", help="where the files go")
    arguments = parser.parse_args()
    line: dict[str, Any] = {"benchmark": "cluster", "cells": arguments.cells, "workers": arguments.workers}
    line["load"] = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path, studies, types = write_vectors(Path(scratch), arguments.cells)
        vectors = np.memmap(path, dtype="<i2", mode="r").reshape(arguments.cells, -1)
        _build(Path(scratch) / "atlas.scim", vectors, _obs(studies, types))
        reference = scim.Reference.open(Path(scratch) / "atlas.scim")
        asked = Atlas().held_out(BATCH)["held_out_cells"]
        options = {"n_workers": arguments.workers, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
        with LocalCluster(**options) as cluster, Client(cluster) as client:
            scim.Reference.open(None).search(np.ones((1, 64), np.float32), client=client)  # imports
            before = own_memory(client)
            for name, how in {"k50": {"k": 50}, "k1000": {"k": 1_000}, "filter": {"k": 50, "where": FILTER}}.items():
                line[name] = compare(reference, asked, client, **how)
            after = own_memory(client)
        line["memory_mb"] = [round((after[at] - before[at]) / 1e6) for at in sorted(before)]
        line["index_mb"] = round(reference._now.manifest["index"]["bytes"] / 1e6 - vectors.nbytes / 1e6)
    print(json.dumps(line))


def own_memory(client: Client) -> dict[str, int]:
    """Bytes that each worker holds of its own."""

    def rss() -> int:
        lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        return int(lines["RssAnon"].split()[0]) * 1024

    return dict(client.run(rss))


def compare(reference: scim.Reference, asked: np.ndarray, client: Client, **how: Any) -> dict[str, Any]:
    """Seconds and recall of both, and how many hits are the same, farther, or excluded by the filter."""
    allowed = reference.allowed(where=how.get("where"))
    truth = ExactIndex(reference._now.vectors).nearest(asked[:TRUE], how["k"], allowed).indices
    line: dict[str, Any] = {}
    found = {}
    for name, options in {"local": {}, "served": {"client": client}}.items():
        reference.search(asked[:100], **how, **options)  # what is read once
        start = time.perf_counter()
        found[name] = reference.search(asked, **how, **options)
        line[f"{name}_s"] = round(time.perf_counter() - start, 2)
        hits = found[name].indices[:TRUE]
        share = np.mean([np.isin(a, b).mean() for a, b in zip(truth, hits, strict=True)])
        line[f"{name}_recall"] = round(float(share), 4)
    local, served = found["local"], found["served"]
    line["same"] = round(float((local.indices == served.indices).mean()), 4)
    line["farther"] = int((served.distances > local.distances + 1e-6).sum())
    line["excluded"] = int((~allowed[served.indices]).sum())
    return line


if __name__ == "__main__":
    main()
