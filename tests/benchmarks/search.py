"""Search a reference of many cells, beside hnswlib and pynndescent.

Makes ``--cells`` vectors of 128 dimensions (200 types in 300 studies, see ``_search_data.py``), builds the index of a
reference over them, and searches cells that it does not hold, of its studies and of another one. Recall is against
exact search of the stored vectors. Peers are given the first ``--peer-cells`` cells, and scim the same once more,
because hnswlib as SCimilarity sets it takes minutes of CPU for a hundred thousand. Prints one JSON line.

Run ``python tests/benchmarks/search.py [--cells 1000000] [--peers hnswlib pynndescent] [--verbs]``; a million cells
take about 0.6 GB of disk and 2 GB of memory. What takes long to make (vectors, truth, indexes) is kept in a folder
with ``--keep``, so that latencies can be measured once more when the machine is quiet. Needs ``pip install hnswlib
pynndescent`` for the peers.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from _search_data import Atlas, kept, write_vectors
from _search_peers import hnswlib_search, pynndescent_search
from _versus_inputs import peak

from scim.index import ExactIndex, FixedVectors, Index, IndexPlan, build_index, open_index
from scim.index._vectors import to_float
from scim.reference.cells._filters import select

DEEP, SINGLE, FEW, BATCH = 10_000, 200, 20, 10_000


def main() -> None:
    """Make, build, search, print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--recall", type=float, default=0.985, help="share of the true neighbours that is aimed at")
    parser.add_argument("--batch-recall", type=float, default=0.96, help="the same, for the batch")
    parser.add_argument("--deep-recall", type=float, default=0.995, help="the same, for 10,000 neighbours once more")
    parser.add_argument("--peers", nargs="*", default=[], choices=["hnswlib", "pynndescent"])
    parser.add_argument("--peer-cells", type=int, default=100_000)
    parser.add_argument("--verbs", action="store_true", help="annotate and query, beside hnswlib and pandas")
    parser.add_argument("--keep", type=Path, help="folder for vectors, truth and indexes, which a later run takes up")
    arguments = parser.parse_args()
    line: dict[str, Any] = {"benchmark": "search", "cells": arguments.cells, "load": round(os.getloadavg()[0], 1)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if arguments.keep is None else arguments.keep
        folder.mkdir(exist_ok=True)
        # In a process of its own, so that its memory does not count.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            path, studies, types = pool.submit(write_vectors, folder, arguments.cells).result()
        vectors = np.memmap(path, dtype="<i2", mode="r").reshape(arguments.cells, -1)
        aims = {"batch": arguments.batch_recall, "deep": arguments.deep_recall}
        line["scim"] = ours(folder, vectors, studies, arguments.recall, aims)
        n = min(arguments.peer_cells, arguments.cells)
        if arguments.peers:
            line["peers"] = {"cells": n} | beside(folder, vectors[:n], studies[:n], arguments.peers, arguments.recall)
        if arguments.verbs:
            from _search_verbs import verbs

            line["verbs"] = verbs(folder, vectors[:n], studies[:n], types[:n], peer="hnswlib" in arguments.peers)
    print(json.dumps(line))


class Clock:
    """Wall and CPU seconds of a block."""

    def __enter__(self) -> Clock:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu


def memory() -> tuple[int, int]:
    """Bytes of this process that are its own, and of files mapped into it."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(lines[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))  # type: ignore[return-value]


def serving_memory(path: Path, n: int, place: Path, facts: dict, queries: dict) -> dict[str, float]:
    """Bytes per cell that a process takes to search, of its own, and of files that can be read again where it needs."""
    vectors = np.memmap(path, dtype="<i2", mode="r").reshape(n, -1)
    warm_up(vectors)  # what is imported and compiled does not grow with the cells
    before = memory()
    backend = open_index(FixedVectors([vectors]), IndexPlan(), place, facts)
    for i in range(SINGLE):
        backend.nearest(queries["held_out_cells"][i : i + 1], 50)
    own, mapped = (round((b - a) / n, 1) for a, b in zip(before, memory(), strict=True))
    return {"ram_bytes_per_cell": own, "mapped_bytes_per_cell": mapped}


def truth_of(folder: Path, vectors: np.ndarray, queries: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """True neighbours by exact search, named as ``held_out_cells@50``; kept, for they take longer than the searches."""

    def make() -> dict[str, np.ndarray]:
        found = {}
        for k, n in ((50, SINGLE), (DEEP, FEW)):
            asked = np.concatenate([some[:n] for some in queries.values()])
            positions = ExactIndex(FixedVectors([vectors])).nearest(asked, k).indices
            found |= {f"{w}@{k}": positions[i * n : (i + 1) * n] for i, w in enumerate(queries)}
        return found

    return kept(folder / f"truth-{len(vectors)}.npz", make)


def built(
    folder: Path, vectors: np.ndarray, studies: np.ndarray, recall: float
) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """Folder of the index, what its manifest would say of it, and what it took to build; taken up where it is kept."""
    place = folder / f"index-{len(vectors)}-{recall}"
    record = place / "facts.json"
    if not record.is_file():
        place.mkdir()
        with Clock() as clock:
            facts = build_index(FixedVectors([vectors]), place / "0001.safetensors", IndexPlan(recall=recall), studies)
        cost = {"build_cpu_s": round(clock.cpu, 1), "build_s": round(clock.wall, 1), "build_peak_gib": round(peak(), 2)}
        record.write_text(json.dumps([facts, cost]))
    return place, *json.loads(record.read_text())


def ours(
    folder: Path, vectors: np.ndarray, studies: np.ndarray, recall: float, aims: dict[str, float]
) -> dict[str, Any]:
    """Build and search with and without filters."""
    warm_up(vectors)
    n = len(vectors)
    place, facts, line = built(folder, vectors, studies, recall)
    line["disk_bytes_per_cell"] = round(facts["bytes"] / n, 1)
    queries = Atlas().held_out(BATCH)
    truth = truth_of(folder, vectors, queries)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        line |= pool.submit(serving_memory, Path(vectors.filename), n, place, facts, queries).result()
    backend = open_index(FixedVectors([vectors]), IndexPlan(), place, facts)
    for which, asked in queries.items():
        line[which] = search_one_by_one(lambda q, k: backend.nearest(q, k).indices, asked, truth, which)
    deep = open_index(FixedVectors([vectors]), IndexPlan(), place, facts | {"target": aims["deep"]})
    line["deep"] = search_one_by_one(
        lambda q, k: deep.nearest(q, k).indices, queries["held_out_cells"], truth, "held_out_cells"
    )
    quick = open_index(FixedVectors([vectors]), IndexPlan(), place, facts | {"target": aims["batch"]})
    line["batch"] = search_batch(lambda q, k: quick.nearest(q, k).indices, queries["held_out_cells"], truth)
    rng = np.random.default_rng(5)
    columns = {"donor": rng.integers(0, 500, n), "tissue": Atlas().tissue_of_study[studies], "study": studies}
    cells = pa.table({name: _text(codes) for name, codes in columns.items()})
    largest = str(np.bincount(studies).argmax())
    line["filters"] = {
        name: search_filtered(backend, cells, vectors, queries["held_out_cells"][: 2 * FEW], **condition)
        for name, condition in {
            "donor, 0.2 %": {"where": {"donor": "7"}},
            "a rare tissue": {"where": {"tissue": "9"}},
            "the largest study left out": {"exclude": {"study": largest}},
        }.items()
    }
    return line


def _text(codes: np.ndarray) -> pa.DictionaryArray:
    """Numbers as the text that a reference would hold of them."""
    values = [str(i) for i in range(int(codes.max()) + 1)]
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), values)


def warm_up(vectors: np.ndarray) -> None:
    """Compile what is compiled once per installation."""
    some, plan = FixedVectors([vectors[:5_000]]), IndexPlan(recall=0.9, short_codes_from_cells=5_000)
    with tempfile.TemporaryDirectory() as scratch:
        facts = build_index(some, Path(scratch) / "0001.safetensors", plan)
        backend = open_index(some, plan, Path(scratch), facts)
        backend.nearest(to_float(vectors[:3]), 5, np.arange(5_000) % 2 == 0)
    ExactIndex(some).nearest(to_float(vectors[:3]), 5)


def share(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true neighbours among those found."""
    return round(float(np.mean([np.isin(t, f).mean() for f, t in zip(found, truth, strict=True)])), 4)


def search_one_by_one(
    search: Callable[[np.ndarray, int], Any], queries: np.ndarray, truth: dict[str, np.ndarray], which: str
) -> dict:
    """Recall and time of searches for 50 and 10,000 neighbours, a query at a time."""
    line = {}
    for k, n in ((50, SINGLE), (DEEP, FEW)):
        search(queries[-1:], k)
        seconds, found = [], []
        with Clock() as clock:
            for i in range(n):
                with Clock() as one:
                    found.append(search(queries[i : i + 1], k)[0])
                seconds.append(one.wall)
        line[f"recall@{k}"] = share(np.stack(found), truth[f"{which}@{k}"])
        line |= {f"p50_ms@{k}": 1e3 * np.median(seconds), f"p95_ms@{k}": 1e3 * np.percentile(seconds, 95)}
        line[f"cpu_ms@{k}"] = 1e3 * clock.cpu / n
    return {name: round(float(value), 4) for name, value in line.items()}


def search_batch(search: Callable[[np.ndarray, int], Any], queries: np.ndarray, truth: dict[str, Any]) -> dict:
    """Recall and rate of many searches for 50 neighbours at once, when what they read was read before."""
    search(queries, 50)
    with Clock() as clock:
        found = search(queries, 50)
    rates = {"queries_per_s": len(queries) / clock.wall, "queries_per_cpu_s": len(queries) / clock.cpu}
    return {"recall@50": share(found[:SINGLE], truth["held_out_cells@50"])} | {k: round(v) for k, v in rates.items()}


def search_filtered(
    backend: Index, cells: pa.Table, vectors: np.ndarray, queries: np.ndarray, **condition: Any
) -> dict[str, Any]:
    """Recall, time with and without finding out which cells pass, and cells found that do not."""
    select(cells, **condition)
    with Clock() as choosing:
        allowed = select(cells, **condition)
    assert allowed is not None
    backend.nearest(queries[:1], 50, allowed)
    with Clock() as clock:
        found = np.concatenate([backend.nearest(queries[i : i + 1], 50, allowed).indices for i in range(len(queries))])
    truth = ExactIndex(FixedVectors([vectors])).nearest(queries, 50, allowed).indices
    return {
        "share": round(float(allowed.mean()), 4),
        "recall@50": share(found, truth),
        "leaked": int((~allowed[found]).sum()),
        "filter_cpu_ms": round(1e3 * choosing.cpu, 2),
        "search_ms": round(1e3 * clock.wall / len(queries), 2),
        "search_cpu_ms": round(1e3 * clock.cpu / len(queries), 2),
    }


def beside(folder: Path, vectors: np.ndarray, studies: np.ndarray, peers: list[str], recall: float) -> dict[str, Any]:
    """Build and search by scim and by the peers, of the same vectors."""
    queries = Atlas().held_out(BATCH)
    truth = truth_of(folder, vectors, queries)
    makers: dict[str, Callable[[], tuple[Callable[[np.ndarray, int], Any], float]]] = {
        "hnswlib": lambda: hnswlib_search(folder, vectors),
        "pynndescent": lambda: pynndescent_search(vectors),
        "scim": lambda: scim_search(folder, vectors, studies, recall),
    }
    lines = {}
    for name in ["scim", *peers]:
        before = memory()[0]
        search, seconds = makers[name]()
        line: dict[str, Any] = {"build_cpu_s": round(seconds, 1)}
        line |= search_one_by_one(search, queries["held_out_cells"], truth, "held_out_cells")
        line["batch"] = search_batch(search, queries["held_out_cells"], truth)
        line["ram_bytes_per_cell"] = round((memory()[0] - before) / len(vectors), 1)
        lines[name] = line
    return lines


def scim_search(
    folder: Path, vectors: np.ndarray, studies: np.ndarray, recall: float
) -> tuple[Callable[[np.ndarray, int], Any], float]:
    """Build scim's index and search it; and the CPU seconds of the build."""
    place, facts, cost = built(folder, vectors, studies, recall)
    backend = open_index(FixedVectors([vectors]), IndexPlan(), place, facts)
    return lambda queries, k: backend.nearest(queries, k).indices, cost["build_cpu_s"]


if __name__ == "__main__":
    main()
