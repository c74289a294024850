"""scim.tl.annotate and scim.tl.query, beside the same made of hnswlib, votes in Python and pandas; for search.py."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from _search_data import TYPES, Atlas
from _search_peers import hnswlib_index
from scipy import sparse

import scim
from scim.genes import GeneSpace
from scim.index import IndexPlan
from scim.index._vectors import to_float
from scim.ontology import CellOntology
from scim.reference.build._recipe import Recipe
from scim.reference.build._segment import write_blocks
from scim.reference.versions._create import create

LABELLED, QUERIES, HITS, ROUNDS = 100_000, 100, 10_000, 3
#: Ways to label: as by default, which searches for the nearest cell only, and by votes of 50.
_ANNOTATE: dict[str, dict[str, Any]] = {
    "default": {},
    "votes": {"vote": "ontology"},
    "votes_of_90_percent": {"vote": "ontology", "recall": 0.9},
    "majority": {"vote": "majority"},
}


def verbs(folder: Path, vectors: np.ndarray, studies: np.ndarray, types: np.ndarray, *, peer: bool) -> dict[str, Any]:
    """Seconds of labelling 100,000 embedded cells, and of 100 queries of 10,000 hits with metadata and summary.

    Ours and the peer's come in turn, three times, for the machine may be faster at one time than at another; the
    medians are given, and the rate of each round.
    """
    path, obs = folder / f"reference-{len(vectors)}.scim", _obs(studies, types)
    if not path.exists():
        _build(path, vectors, obs)
    reference = scim.Reference.open(path)
    asked = Atlas().held_out(LABELLED)["held_out_cells"]
    works = {f"annotate_{name}": partial(_annotate, reference, asked, options) for name, options in _ANNOTATE.items()}
    works["query"] = partial(_query, reference, asked[:QUERIES])
    for options in _ANNOTATE.values():  # what is compiled and read once is not counted
        _annotate(reference, asked[:200], options)
    _query(reference, asked[:2])
    peers = _peer(folder, vectors, obs, asked) if peer else {}
    seconds: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for name, work in (works | {f"peer_{name}": work for name, work in peers.items()}).items():
            seconds.setdefault(name, []).append(_seconds(work))
    line: dict[str, Any] = {"reference_cells": len(vectors), "labelled_cells": len(asked)}
    line |= {f"{name}_s": round(median(taken), 2) for name, taken in seconds.items()}
    for name in works if peer else ():
        theirs = seconds[f"peer_{name.split('_')[0]}"]
        rates = [round(b / a, 1) for a, b in zip(seconds[name], theirs, strict=True)]
        line[f"{name}_ratio"], line[f"{name}_ratios"] = median(rates), rates
    return line


def _annotate(reference: scim.Reference, asked: np.ndarray, options: dict[str, Any]) -> None:
    cells = ad.AnnData(sparse.csr_matrix((len(asked), 1), dtype=np.float32), obsm={"X_scim": asked})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "adata.obsm.*has no record of its encoder", UserWarning)
        scim.tl.annotate(cells, reference, **options)


def _query(reference: scim.Reference, asked: np.ndarray) -> None:
    empty = ad.AnnData(sparse.csr_matrix((1, 1), dtype=np.float32))
    scim.tl.query(empty, reference, vectors=asked, k=HITS)


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _obs(studies: np.ndarray, types: np.ndarray) -> pd.DataFrame:
    ontology = CellOntology.bundled()
    terms = sorted(t for t in ontology.ids if t.startswith("CL:") and ontology.depth(t) > 4)
    terms = np.random.default_rng(1).choice(terms, TYPES, replace=False)
    columns = {"label": terms[types], "study": [f"study {s}" for s in studies]}
    columns["tissue"] = [f"tissue {t}" for t in Atlas().tissue_of_study[studies]]
    return pd.DataFrame(columns, index=[f"r{i}" for i in range(len(types))])


def _build(path: Path, vectors: np.ndarray, obs: pd.DataFrame) -> None:
    n_latent = vectors.shape[1]
    weights = {"output.weight": np.ones((n_latent, 3), np.float32), "output.bias": np.zeros(n_latent, np.float32)}
    ontology = CellOntology.bundled()
    source = Recipe("label", "study", ["tissue"], None, None, None, ontology)
    create(
        path,
        scim.Encoder(GeneSpace(["CD3E", "MS4A1", "NKG7"], aliases=False), weights),
        ontology,
        IndexPlan(),
        lambda to: write_blocks(to.segment, [(source.cells(obs, ""), [to_float(vectors)])], n_cells=len(obs)),
        source={"labels_key": "label", "study_key": "study", "obs_columns": ["tissue"]},
        overwrite=False,
    )


def _peer(folder: Path, vectors: np.ndarray, obs: pd.DataFrame, asked: np.ndarray) -> dict[str, Callable[[], None]]:
    """Label and query as SCimilarity does: votes and summaries cell by cell in Python, metadata by row in pandas."""
    index, _ = hnswlib_index(folder, vectors)
    labels = obs["label"].to_numpy()

    def annotate() -> None:
        index.set_ef(100)
        found, distances = index.knn_query(asked, k=50)
        for hits, near in zip(found, distances, strict=True):
            votes: dict[str, float] = {}
            for label, distance in zip(labels[hits], near, strict=True):
                votes[label] = votes.get(label, 0.0) + 1 / max(float(distance), 1e-9)
            max(votes, key=votes.__getitem__)

    def query() -> None:
        index.set_ef(HITS)
        found, distances = index.knn_query(asked[:QUERIES], k=HITS)
        tables = []
        for i, (hits, near) in enumerate(zip(found, distances, strict=True)):
            table = obs.iloc[hits].assign(query=i, distance=near)
            Counter(table["study"])
            Counter(table["label"])
            tables.append(table)
        pd.concat(tables)

    return {"annotate": annotate, "query": query}
