"""How long does mining take, beside SCimilarity's selector on the same embeddings in the same run?

A batch of 1,000 cells, 50 Cell Ontology terms, 15 studies, embedded as a partly trained encoder would. The two take
turns, on the same two cores; the peer lives in an environment of its own, so it runs in a subprocess, with the bundled
Cell Ontology (it would download one). Ours is timed as the training plan calls it, distances and argument checks
included; the peer as its loss calls it. A pair is looked at from both ends here and from one there, so ours looks at
twice as many.

Run ``python tests/benchmarks/mining.py --peer-python VENV/bin/python`` (or set ``SCIM_PEER_PYTHON``) with a Python that
has scimilarity 0.4.1; without one, only ours is timed. Prints one JSON line. On a machine busy with other work the
wall times of two threads say little (``load`` is the load before the run); compare the processor times then, with
``NUMBA_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1``, since waiting threads burn time as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

MARGIN = 0.05
_WORKER = "--peer-worker"


def main() -> None:
    """Time both and print the comparison."""
    arguments = parse()
    load = os.getloadavg()[0]
    batch, names, ontology = make_batch(arguments)
    with tempfile.TemporaryDirectory() as folder:
        peer = start_peer(arguments.peer_python, Path(folder), batch, names, ontology)
        ours, theirs = take_turns(arguments, batch, peer)
    print(json.dumps(report(arguments, load, ours, theirs)))


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", default=os.environ.get("SCIM_PEER_PYTHON"))
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--terms", type=int, default=50)
    parser.add_argument("--studies", type=int, default=15)
    parser.add_argument("--noise", type=float, default=0.15, help="spread of a term: from 0.05, trained, to 0.3, not")
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--per-turn", type=int, default=10, help="our calls in a turn, to one of the peer")
    return parser.parse_args()


def make_batch(arguments: argparse.Namespace) -> tuple[dict[str, np.ndarray], list[str], Any]:
    """Embeddings clustered by term, and the terms, drawn from the deeper ones of the Cell Ontology."""
    from scim.ontology import CellOntology

    ontology = CellOntology.bundled()
    rng = np.random.default_rng(0)
    deep = sorted(term for term in ontology.ids if term.startswith("CL:") and ontology.depth(term) >= 5)
    terms = rng.choice(deep, arguments.terms, replace=False).tolist()
    labels = np.arange(arguments.cells, dtype=np.int32) % arguments.terms
    centres = rng.standard_normal((arguments.terms, 128))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    z = centres[labels] + arguments.noise * rng.standard_normal((arguments.cells, 128))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    batch = {
        "z": z.astype(np.float32),
        "labels": labels,
        "studies": rng.integers(0, arguments.studies, arguments.cells).astype(np.int32),
        "comparable": np.asarray(ontology.term_space(terms).comparable),
    }
    return batch, [ontology.name(term) for term in terms], ontology


def take_turns(
    arguments: argparse.Namespace, batch: dict[str, np.ndarray], peer: Peer | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Medians of both, in milliseconds, and what they found."""
    from scim.model._mining import MiningOptions, mine_triplets

    def call(seed: int) -> int:
        return len(mine_triplets(**batch, options=MiningOptions(margin=MARGIN, seed=seed)).anchor)

    _, first = clock(lambda: call(0))  # compiles, or reads what was compiled before
    wall, cpu, peer_wall, peer_cpu, found = [], [], [], [], 0
    for turn in range(arguments.turns):
        for i in range(arguments.per_turn):
            busy = time.process_time()
            found, seconds = clock(lambda seed=turn * arguments.per_turn + i: call(seed))
            wall.append(1e3 * seconds)
            cpu.append(1e3 * (time.process_time() - busy))
        if peer is not None:
            answer = peer.turn()
            peer_wall.append(1e3 * answer["seconds"])
            peer_cpu.append(1e3 * answer["cpu_seconds"])
    ours = {"ms": np.median(wall), "best_ms": min(wall), "cpu_ms": np.median(cpu), "n": found, "first_s": first}
    if peer is None:
        return ours, None
    theirs = {"ms": np.median(peer_wall), "best_ms": min(peer_wall), "cpu_ms": np.median(peer_cpu), "n": peer.last["n"]}
    return ours, theirs | {"versions": peer.stop()}


def report(
    arguments: argparse.Namespace, load: float, ours: dict[str, Any], theirs: dict[str, Any] | None
) -> dict[str, Any]:
    """The line that is printed."""
    import numba
    import torch

    line = {
        "benchmark": "mining",
        "ours_ms": round(ours["ms"], 2),
        "peer_ms": None,
        "ratio": None,
        "ours_best_ms": round(ours["best_ms"], 2),
        "ours_cpu_ms": round(ours["cpu_ms"], 2),
        "ours_first_call_s": round(ours["first_s"], 2),
        "n": arguments.cells,
        "terms": arguments.terms,
        "studies": arguments.studies,
        "noise": arguments.noise,
        "n_triplets": {"ours": ours["n"], "peer": None},
        "threads": torch.get_num_threads(),
        "load": round(load, 1),
        "versions": {"python": sys.version.split()[0], "numpy": np.__version__, "numba": numba.__version__},
    }
    if theirs is None:
        return line | {"note": "no peer: give --peer-python or SCIM_PEER_PYTHON"}
    line |= {
        "peer_ms": round(theirs["ms"], 1),
        "ratio": round(theirs["ms"] / ours["ms"], 1),
        "peer_best_ms": round(theirs["best_ms"], 1),
        "peer_cpu_ms": round(theirs["cpu_ms"], 1),
        "cpu_ratio": round(theirs["cpu_ms"] / ours["cpu_ms"], 1),
    }
    line["n_triplets"]["peer"] = theirs["n"]
    line["versions"]["peer"] = theirs["versions"]
    return line


def clock(work: Callable[[], Any]) -> tuple[Any, float]:
    """Result of ``work`` and its seconds."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


class Peer:
    """The process in which the peer runs; answers each line with one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._versions = self._ask(None)["versions"]
        self.last: dict[str, Any] = {}
        self.turn()

    def turn(self) -> dict[str, Any]:
        """Mine once; the seconds and the number of triplets."""
        self.last = self._ask("mine")
        return self.last

    def stop(self) -> dict[str, str]:
        """End the process; its versions."""
        pipe(self._process.stdin).close()
        self._process.wait(timeout=60)
        return self._versions

    def _ask(self, question: str | None) -> dict[str, Any]:
        if question:
            print(question, file=pipe(self._process.stdin), flush=True)
        answer = pipe(self._process.stdout).readline()
        if not answer:
            raise SystemExit(f"The peer ended with code {self._process.wait()}; its error is above.")
        return json.loads(answer)


def pipe(stream: IO[str] | None) -> IO[str]:
    """The stream, which is there because the process was started with it."""
    if stream is None:
        raise RuntimeError("the peer was started without pipes")
    return stream


def start_peer(
    python: str | None, folder: Path, batch: dict[str, np.ndarray], names: list[str], ontology: Any
) -> Peer | None:
    """Write what the peer needs and start it."""
    if not python:
        return None
    if not Path(python).exists():
        raise SystemExit(f"--peer-python={python} does not exist.")
    for name, array in batch.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "names.json").write_text(json.dumps(names))
    stanzas = [
        "\n".join(["[Term]", f"id: {t}", f"name: {ontology.name(t)}", *(f"is_a: {p}" for p in ontology.parents(t))])
        for t in ontology.ids
    ]
    (folder / "cl.obo").write_text("format-version: 1.2\n\n" + "\n\n".join(stanzas) + "\n")
    command = [python, __file__, _WORKER, str(folder)]
    return Peer(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))


def peer_worker(folder: Path) -> None:
    """Mine with SCimilarity whenever a line comes in; runs in its environment, which has no scim."""
    from importlib.metadata import version

    import obonet

    read = obonet.read_obo
    obonet.read_obo = lambda *_, **__: read(str(folder / "cl.obo"))  # the peer always downloads
    from scimilarity.triplet_selector import TripletSelector

    selector = TripletSelector(margin=MARGIN, negative_selection="semihard")
    z, labels, studies = (np.load(folder / f"{name}.npy") for name in ("z", "labels", "studies"))
    names = dict(enumerate(json.loads((folder / "names.json").read_text())))
    versions = {name: version(name) for name in ("scimilarity", "numpy", "torch")}
    print(json.dumps({"versions": versions}), flush=True)
    for _ in sys.stdin:
        busy = time.process_time()
        (triplets, _, _), seconds = clock(lambda: selector.get_triplets_idx(z, labels, names, studies))
        busy = time.process_time() - busy
        print(json.dumps({"seconds": seconds, "cpu_seconds": busy, "n": len(triplets[0])}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [_WORKER]:
        peer_worker(Path(sys.argv[2]))
    else:
        main()
