"""What the suites of annotation.py consist of, one job a cell of the table, and where each job's result is kept."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from _annotation_methods import METHODS
from _annotation_scim import LABELLINGS, TRAININGS
from _annotation_tasks import BLOOD_FILES, GROUPS, Condition

CLEAN = Condition()
#: Held-out studies of log values, and of 1,460 genes: no thinning and no larger panel changes them.
_SYMPHONY, _LAVAGE = "symphony", "lavage"
_OTHERS = [method for method in METHODS if method not in TRAININGS]
#: Methods in which nothing is drawn: each seed gives the same.
_SEEDLESS = ["logistic regression", "logistic regression, balanced"]
_QUICK = [*_SEEDLESS, "PCA + kNN"]
_INSTANT = [*_QUICK, "Harmony + kNN"]
_EMBEDDED = ["PCA + kNN", "Harmony + kNN", "scVI + scArches + kNN", "scANVI + scArches", "SCimilarity, retrained"]
#: Fields of a row that say what it is of.
KEY = ["group", "held_out", "condition", "method", "seed"]
#: Parts of training that an ablation looks at the embedding without, too.
_MAPPED = ["scim", "scim, no triplet loss", "scim, no class loss", "scim, no ontology in training"]
#: Labels that are made rare, and the held-out studies without cells of it.
_RARE = {"B cell": (), "natural killer cell": (), "CD14 monocyte": (_LAVAGE,)}


@dataclass(frozen=True)
class Job:
    """One method on one task, by one seed."""

    group: str
    held_out: str
    condition: Condition
    method: str
    seed: int = 0

    @property
    def name(self) -> str:
        """What the job is, in a line, and where its result lies."""
        method = self.method.replace(" + ", "+").replace(", ", "-").replace(" ", "-")
        return f"{self.group}/{self.held_out}/{self.condition.key}/{method}.{self.seed}"

    def path(self, results: Path) -> Path:
        """File of the result."""
        return results / f"{self.name.replace(' ', '-')}.json"

    def to_json(self) -> str:
        """As one argument of a command."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Read what :meth:`to_json` gave."""
        fields = json.loads(text)
        return cls(**fields | {"condition": Condition(**fields["condition"])})


def _of_group(group: str, methods: Sequence[str]) -> Iterator[Job]:
    for held_out in GROUPS[group].held:
        for method in methods:
            yield Job(group, held_out, CLEAN, method)


def _platform() -> Iterator[Job]:
    # SCimilarity takes terms of the Cell Ontology only, and cell lines have none.
    yield from _of_group("platform", [m for m in ("scim", *_OTHERS) if not m.startswith("SCimilarity")])


def _robustness() -> Iterator[Job]:
    conditions: dict[Condition, tuple[str, ...]] = {CLEAN: ()}
    conditions |= {Condition(wrong=share): () for share in (0.1, 0.2, 0.3)}
    conditions |= {Condition(panel=n): (_SYMPHONY,) if n > 1_460 else () for n in (5_000, 2_000, 1_000)}
    conditions |= {Condition(depth=500): (_SYMPHONY,)}
    conditions |= {Condition(rare=label): without for label, without in _RARE.items()}
    for condition, left_out in conditions.items():
        for held_out in BLOOD_FILES:
            for method in ("scim", *_QUICK) if held_out not in left_out else ():
                yield Job("blood", held_out, condition, method)


SUITES = {
    "blood": lambda: _of_group("blood", ["scim", *_OTHERS]),
    "cells": lambda: _of_group("cells", ["scim", *_QUICK]),
    "distant": lambda: _of_group("distant", ["scim", *_OTHERS]),
    "later": lambda: _of_group("later", ["scim", *_OTHERS]),
    "chemistry": lambda: _of_group("chemistry", ["scim", *_OTHERS]),
    "platform": _platform,
    "pancreas": lambda: _of_group("pancreas", ["scim", *_OTHERS]),
    "integration": lambda: _of_group("integration", ["scim", *_EMBEDDED]),
    "robustness": _robustness,
    "ablation": lambda: chain(_of_group("blood", [*TRAININGS, *LABELLINGS]), _of_group("integration", _MAPPED)),
}


def jobs_of(
    suite: str,
    *,
    methods: Sequence[str] | None = None,
    studies: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    condition: Condition = CLEAN,
) -> list[Job]:
    """Jobs of a suite, with each seed, or the first for methods in which nothing is drawn; the quick ones first."""
    found = []
    for job in SUITES[suite]():
        if (methods and job.method not in methods) or (studies and job.held_out not in studies):
            continue
        if condition != CLEAN and suite != "robustness":
            job = replace(job, condition=condition)
        found += [replace(job, seed=seed) for seed in (seeds[:1] if job.method in _SEEDLESS else seeds)]
    order = {method: i for i, method in enumerate([*METHODS, *LABELLINGS])}
    return sorted(dict.fromkeys(found), key=lambda job: order[job.method])


def in_batches(jobs: Sequence[Job]) -> list[list[Job]]:
    """Jobs that share a task and are as quick as one another, together; the quick ones of all tasks first."""
    order = {method: 0 if method in _INSTANT else i for i, method in enumerate(METHODS)}
    # The default goes first, what is tried beside it comes together.
    order |= dict.fromkeys([method for method in TRAININGS if method != "scim"], len(METHODS))
    batches: dict[tuple[int, str, str, Condition], list[Job]] = {}
    for job in jobs:
        batches.setdefault((order[job.method], job.group, job.held_out, job.condition), []).append(job)
    return [batches[key] for key in sorted(batches, key=lambda key: key[0])]


def runner_of(job: Job) -> Job:
    """The job that gives this one's row, too: ways to label come with the training that they share."""
    return replace(job, method="scim") if job.method in LABELLINGS else job


def read_row(path: Path) -> dict[str, Any] | None:
    """A kept result, with the digits that tables of rows have, or None."""
    return json.loads(path.read_text(encoding="utf-8"), parse_float=_rounded) if path.is_file() else None


def _rounded(number: str) -> float:
    return round(float(number), 5)


def write_rows(path: Path, rows: Sequence[dict[str, Any]], *, besides: Path | None) -> None:
    """Write rows as one table, in the order of what they are of, with those that an earlier table has besides."""
    tables = [pd.DataFrame(rows), *([pd.read_csv(besides)] if besides else [])]
    table = pd.concat(tables).drop_duplicates(KEY).sort_values(KEY)
    table.to_csv(path, index=False, lineterminator="\n")


def unpack_rows(path: Path, jobs: Iterable[Job], results: Path) -> None:
    """Keep those rows of a table that are of these jobs, but for jobs with a result of their own."""
    table = pd.read_csv(path).astype(object)
    rows = {tuple(row[name] for name in KEY): row.dropna().to_dict() for _, row in table.iterrows()}
    for job in jobs:
        row = rows.get((job.group, job.held_out, job.condition.key, job.method, job.seed))
        if row and not job.path(results).is_file():
            keep_row(job.path(results), row)


def keep_row(path: Path, row: dict[str, Any]) -> None:
    """Write a result so that it is there as a whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(f".{os.getpid()}.tmp")
    whole.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    whole.replace(path)
