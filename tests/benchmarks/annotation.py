"""How well does scim label studies, platforms and panels that it never saw, beside what else there is?

Suites, each of real studies of which every one is held out in turn (``_annotation_tasks.py``):

- ``blood``: pbmc3k, the two Zheng sets as one study, three chemistries of symphony, lung lavage; coarse labels
- ``cells``: the same studies, a fifth of the cells of each held out
- ``distant``: trained on all four, tested on studies too special to train on: inDrops with 100 counts a cell, sorted
  dendritic cells by Smart-seq2, two tumours, breast
- ``later``: trained on the same, tested on studies that no choice was ever made on: three of blood, tumours and skin
- ``chemistry``: the three chemistries of symphony, fine labels
- ``platform``: cell lines, CEL-seq2 against Drop-seq; labels outside the ontology
- ``pancreas``: islets by inDrop, Smart-seq2 and SMARTer, panels of 219 to 12,000 genes
- ``integration``: two of the blood studies held out together, and how well an embedding that was trained on the other
  two joins them, by scib-metrics
- ``robustness``: blood with wrong training labels, small panels, thinned counts, and labels cut to 20 training cells
- ``ablation``: blood, with parts of scim's training and labelling switched off or exchanged, and integration with parts
  of training switched off

Every method is trained on the same cells (``_annotation_methods.py``), in a process of its own whose peak memory and
seconds are noted. Methods other than scim are fitted anew to the genes that the held-out study measured. scVI, scANVI
and SCimilarity are kept small to end in minutes (``_annotation_deep.py`` says how small).

Run ``python tests/benchmarks/annotation.py --suite all --results FOLDER`` with the studies in ``SCIM_DATA`` or in
``../shared/data``. Each result is kept in the folder as one file: a run that was interrupted goes on where it stopped,
and rows of several runs come together. celltypist, harmonypy, scib-metrics, pytorch-metric-learning, and a Python that
has SCimilarity (``--peer-python`` or ``SCIM_PEER_PYTHON``) take part where they are there. Prints one JSON line, and
with ``--out`` writes a page of Markdown, its figure, and a table of all rows, from which ``--rows`` goes on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _annotation_methods import METHODS, missing
from _annotation_scim import LABELLINGS, TRAININGS, fingerprint
from _annotation_scores import can_score_integration, integration, rate
from _annotation_suites import (
    KEY,
    SUITES,
    Job,
    in_batches,
    jobs_of,
    keep_row,
    read_row,
    runner_of,
    unpack_rows,
    write_rows,
)
from _annotation_tasks import BLOOD_LABELS, GROUPS, Condition, Task, make_task

WORKER = "--worker"
#: What a worker's lines of rows begin with; libraries print others.
_MARK = "rows: "
#: Field of a row that names the file of an embedding that is to be scored.
_EMBEDDING = "embedding"


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", nargs="+", choices=[*SUITES, "all"], default=["blood"])
    parser.add_argument("--results", type=Path, help="folder that keeps each result, and that results are taken from")
    parser.add_argument("--rows", type=Path, help="table of an earlier run, as beside the page, to take results from")
    again = "do not take kept results of these methods; stale: nor those of scim from before the package changed"
    parser.add_argument("--again", nargs="+", choices=["stale", *METHODS], default=[], help=again)
    parser.add_argument("--no-run", action="store_true", help="take what is kept, and write the page")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of all in which something is drawn")
    parser.add_argument("--studies", nargs="+", choices=sorted({h for g in GROUPS.values() for h in g.held}))
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, *LABELLINGS])
    parser.add_argument("--wrong-labels", type=float, default=0.0, help="share of training labels drawn at random")
    parser.add_argument("--depth", type=int, help="counts that held-out cells are thinned to")
    parser.add_argument("--panel", type=int, help="genes of the held-out study that are kept, the most expressed ones")
    parser.add_argument("--rare", choices=list(BLOOD_LABELS), help="label of blood that 20 training cells keep")
    parser.add_argument("--peer-python", help="Python that has scimilarity")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds after which one method is given up")
    parser.add_argument("--out", type=Path, help="file for the Markdown tables; the figure goes beside it")
    return parser.parse_args()


def main() -> int:
    """Run what is not kept yet, and show all."""
    options = parse()
    if options.peer_python:
        os.environ["SCIM_PEER_PYTHON"] = options.peer_python
    suites = list(SUITES) if "all" in options.suite else list(dict.fromkeys(options.suite))
    condition = Condition(options.wrong_labels, options.depth, options.panel, options.rare)
    chosen = {"methods": options.methods, "studies": options.studies, "seeds": options.seeds, "condition": condition}
    plan = {suite: jobs_of(suite, **chosen) for suite in suites}
    with tempfile.TemporaryDirectory() as scratch:
        results = options.results or Path(scratch)
        if options.rows:
            unpack_rows(options.rows, [job for jobs in plan.values() for job in jobs], results)
        failed = [] if options.no_run else run_all(plan, results, options.again, options.timeout, Path(scratch))
        kept = {suite: [row for job in jobs if (row := read_row(job.path(results)))] for suite, jobs in plan.items()}
    rows = list({tuple(row[name] for name in KEY): row for found in kept.values() for row in found}.values())
    report_stale(rows)
    if options.out:
        from _annotation_page import write_page

        write_page(options.out, kept)
        write_rows(options.out.with_suffix(".csv"), rows, besides=options.rows)
    shown = {k: v if isinstance(v, int | float | list | None) else str(v) for k, v in vars(options).items()}
    print(json.dumps({"benchmark": "annotation", "options": shown, "failed": failed, "rows": rows}))
    return 1 if failed else 0


def run_all(plan: dict[str, list[Job]], results: Path, again: list[str], timeout: float, scratch: Path) -> list[str]:
    """Run every job without a kept result, quick methods of all suites first; names of those that failed."""
    runners: dict[Job, list[Job]] = {}
    for job in [job for jobs in plan.values() for job in jobs]:
        runners.setdefault(runner_of(job), []).append(job)
    now = fingerprint()

    def has_to_run(runner: Job, jobs: list[Job]) -> bool:
        rows = [read_row(job.path(results)) for job in jobs]
        stale = "stale" in again and any(row and row.get("scim", now) != now for row in rows)
        return runner.method in again or stale or not all(rows)

    todo = [runner for runner, jobs in runners.items() if has_to_run(runner, jobs)]
    left_out = {method: why for method in {job.method for job in todo} if (why := missing(method))}
    for method, why in left_out.items():
        print(f"{method} is left out: {why}.", file=sys.stderr)
    if any(job.group == "integration" for job in todo) and not can_score_integration():
        print("integration is left out: scib-metrics is not installed.", file=sys.stderr)
        todo = [job for job in todo if job.group != "integration"]
    batches = in_batches([job for job in todo if job.method not in left_out])
    failed, n, total = [], 0, sum(map(len, batches))
    for batch in batches:
        for job, rows, seconds in run_batch(batch, timeout, scratch):
            n += 1
            try:
                for row in rows:
                    score_embedding(job, row)
                    keep_row(replace(job, method=row["method"]).path(results), row)
            except (ValueError, RuntimeError) as error:  # scib-metrics may refuse one embedding; the other jobs go on
                print(f"{job.name} is not scored: {error!r}", file=sys.stderr)
                rows = []
            failed += [] if rows else [job.name]
            outcome = f"macro-F1 {rows[0]['macro_f1']:.3f}" if rows and "macro_f1" in rows[0] else "refused"
            print(f"{n}/{total} {job.name}: {outcome if rows else 'failed'}, {seconds:.0f} s", file=sys.stderr)
    return failed


def run_batch(jobs: list[Job], timeout: float, scratch: Path) -> Iterator[tuple[Job, list[dict[str, Any]], float]]:
    """Run jobs of one task: each with its rows, none where it failed, and its seconds."""
    command = [sys.executable, str(Path(__file__).resolve()), WORKER, str(timeout), str(scratch)]
    command += [job.to_json() for job in jobs]
    waiting, start = list(jobs), time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            if line.startswith(_MARK):
                yield waiting.pop(0), json.loads(line.removeprefix(_MARK)), time.perf_counter() - start
                start = time.perf_counter()
    for job in waiting:
        yield job, [], 0.0


def score_embedding(job: Job, row: dict[str, Any]) -> None:
    """Score the embedding that a row of integration names, all in this one process.

    What scib-metrics compiles at its first call takes twenty times as long as the scores.
    """
    if file := row.pop(_EMBEDDING, None):
        row |= integration(make_task(job.group, job.held_out, job.condition), np.load(file))
        Path(file).unlink()


def work_on(jobs: list[Job], timeout: float, scratch: Path) -> None:
    """Make the task that the jobs share, and do each in a fork, whose memory is its own; print their rows."""
    warnings.filterwarnings("ignore")
    task = make_task(jobs[0].group, jobs[0].held_out, jobs[0].condition)
    # Nothing has started a thread yet: a fork is safe, and need not load the studies and libraries again.
    context = multiprocessing.get_context("fork")
    for job in jobs:
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=lambda job=job, there=there: there.send(work(task, job, scratch)))
        process.start()
        there.close()
        try:
            rows = here.recv() if here.poll(timeout) else []
        except EOFError:
            rows = []
        process.kill() if not rows else process.join()
        print(_MARK + json.dumps(rows), flush=True)


def work(task: Task, job: Job, scratch: Path) -> list[dict[str, Any]]:
    """Do a job: its row, and those of other ways to label by the same model.

    A row of integration names the file in ``scratch`` that its embedding is left in.
    """
    forget_peak()
    wall, cpu = time.perf_counter(), cpu_seconds()
    about = {"group": job.group, "held_out": job.held_out, "condition": job.condition.key, "seed": job.seed}
    about |= {"n_train": task.merged.n_obs, "n_test": task.test.n_obs, "n_genes": len(task.columns)}
    about |= {"threads": os.environ.get("OMP_NUM_THREADS", "all")}
    if job.method in TRAININGS:
        about["scim"] = fingerprint()
    try:
        answer = METHODS[job.method](task, job.seed)
    except ValueError as error:
        if job.method not in TRAININGS:
            raise
        return [about | {"method": job.method, "refused": str(error)[:300]}]
    cost = {"seconds": time.perf_counter() - wall, "cpu_seconds": cpu_seconds() - cpu, "peak_gib": peak_gib()}
    rows = [about | {"method": job.method} | rate(task, answer) | cost]
    if job.group == "integration" and answer.embedding is not None:
        rows[0][_EMBEDDING] = str(scratch / f"{os.getpid()}.npy")
        np.save(rows[0][_EMBEDDING], answer.embedding)
    if answer.more is not None and (job.group, job.condition) == ("blood", Condition()):
        rows += [about | {"method": name} | rate(task, other) for name, other in answer.more().items()]
    return rows


def cpu_seconds() -> float:
    """Processor time of this process and of those that it started and that ended."""
    import resource

    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def forget_peak() -> None:
    """Start the peak of memory anew, where the system can: loading the studies is not a method's doing."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_gib() -> float:
    """Largest resident memory of this process, or of one that it started, in GiB."""
    import resource

    unit = 2**30 if sys.platform == "darwin" else 2**20
    peaks = [resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit]
    try:
        status = Path("/proc/self/status").read_text()
        peaks.append(next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 2**20)
    except (OSError, StopIteration):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
    return max(peaks)


def report_stale(rows: list[dict[str, Any]]) -> None:
    """Say so where kept rows of scim come from another state of the package."""
    now = fingerprint()
    stale = sorted({row["method"] for row in rows if row.get("scim", now) != now})
    if stale:
        print(f"Kept before scim changed; --again stale runs them anew: {', '.join(stale)}.", file=sys.stderr)


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        work_on([Job.from_json(text) for text in sys.argv[4:]], float(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(main())
