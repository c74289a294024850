"""A name, or files, to an index: the only file that knows all kinds of indexes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._disk import sha256, sync, write_tensors
from .._warn import warn
from ._exact import ExactIndex
from ._ivf_flat import LISTS, IvfFlatIndex, _make_lists, _try
from ._plan import LARGE, RECALL
from ._protocol import Index
from ._vectors import split_at

BACKENDS = ("auto", "exact", "faiss", "pynndescent")


def open_index(
    name: str,
    segments: list[np.ndarray],
    *,
    seed: int = 0,
    folder: Path | None = None,
    index: Mapping[str, Any] | None = None,
) -> Index:
    """Open a backend.

    Parameters
    ----------
    name
        One of :data:`BACKENDS`.
    segments
        Vectors of all segments, int16 (n_i, d).
    seed
        Seed of what is built on opening.
    folder, index
        Where the index of a reference lies, and what its manifest says of it, where it has one. It may cover the first
        cells only; those behind them are searched exactly, and the hits merged.
    """
    if name == "pynndescent":
        from ._graph import GraphIndex

        return GraphIndex(segments, seed=seed)
    if index is not None and folder is not None:
        return _open_files(segments, folder, index)
    return ExactIndex(segments)


def build_index(
    segments: list[np.ndarray],
    path: Path,
    *,
    seed: int,
    recall: float = RECALL,
    groups: np.ndarray | None = None,
) -> dict[str, Any]:
    """Build an index, find out how many lists a search has to visit, and write it.

    Many cells get the index of :mod:`~scim.index._ivf_pq`, of several files that begin with the name of ``path``.

    Parameters
    ----------
    segments
        Vectors of each segment, int16 (n_i, d).
    path
        File to write.
    seed
        Seed of the centres and of the trial.
    recall
        Share of the true neighbours that a search is to find.
    groups
        Study of each cell, codes (n_cells,): with several, the index is tried on neighbours of other studies.

    Returns
    -------
    What the manifest says of the index: its files, the cells it covers, lists, and how many of them to visit.
    """
    if groups is not None and (groups == groups[0]).all():
        groups = None
    if sum(map(len, segments)) >= LARGE:
        from ._ivf_pq_build import build_pq

        return build_pq(segments, path, seed=seed, recall=recall, groups=groups)
    lists = _make_lists(segments, seed=seed)
    write_tensors(path, {"centres": lists.centres, "starts": lists.starts, "rows": lists.rows})
    sync(path)
    return {
        "kind": LISTS,
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "n_cells": sum(map(len, segments)),
        "lists": len(lists),
        "trials": _try(lists, segments, groups, seed=seed),
        "target": recall,
        "seed": seed,
    }


def _open_files(segments: list[np.ndarray], folder: Path, facts: Mapping[str, Any]) -> Index:
    """Backend of the index that ``facts`` tell of; cells behind those that it covers are searched exactly."""
    from ._composed import GrownIndex
    from ._ivf_pq import IvfPqIndex
    from ._pq_codes import KIND

    if "trials" not in facts or facts.get("kind") not in (LISTS, KIND):
        warn(
            "The index of this reference is of an older scim, and queries are compared with every cell instead. "
            "Reference.reindex() makes it anew."
        )
        return ExactIndex(segments)
    covered, later = split_at(segments, int(facts.get("n_cells", sum(map(len, segments)))))
    kind = IvfPqIndex if facts["kind"] == KIND else IvfFlatIndex
    indexed: Index = kind(covered, folder, facts)
    return GrownIndex(indexed, segments) if later else indexed
