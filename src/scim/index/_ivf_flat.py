"""Approximate search of 20,000 to 100,000 cells: lists around centres, searched exactly."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from .._disk import sha256, sync, write_tensors
from .._threads import one_thread_of_faiss
from ._effort import Effort
from ._exact import ExactIndex
from ._files import index_is_whole
from ._lists import Lists
from ._plan import IndexPlan
from ._protocol import ApproximateIndex, Hits
from ._trials import cells_to_try, found_in_lists, true_neighbours, worse_of
from ._vectors import FixedVectors

#: Name of such an index in a manifest.
LISTS = "lists"
#: Numbers of neighbours that the index is tried for.
_DEPTHS = (10, 50, 1_000)
#: Lists per square root of the number of cells.
_LISTS_PER_ROOT = 2
#: Cells of each list that its centre is learned from.
_LEARNED_PER_LIST = 64
#: Cells whose neighbours are searched to try the index.
_TRIALS = 200


class IvfFlatIndex(ApproximateIndex):
    """Search the lists nearest to a query; if few cells may be found, search all of them exactly.

    ``facts`` are what :func:`~scim.index.build_index` returned; ``plan`` has the sizes from which on lists are
    searched.
    """

    name = "faiss"

    def __init__(self, vectors: FixedVectors, folder: Path, facts: Mapping[str, Any], plan: IndexPlan) -> None:
        super().__init__(ExactIndex(vectors))
        self._folder, self._facts, self._plan = folder, facts, plan
        self._effort = Effort(facts["trials"], float(facts["target"]), int(facts["lists"]), len(vectors))
        self._opened: Lists | None = None

    def _search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None) -> Hits | None:
        n_allowed = self.vectors.count(allowed)
        effort = self._effort if recall is None else self._effort.aiming(recall)
        visits = int(np.ceil(effort.visits(k) * len(self.vectors) / max(n_allowed, 1)))
        # A filter that leaves few cells, or very many neighbours: most lists would be visited.
        if n_allowed < self._plan.index_from_cells or 2 * visits > int(self._facts["lists"]):
            return None
        lists = self._lists()
        return lists.search(self.vectors, queries, k, lists.nearest(queries, visits), allowed)

    def _lists(self) -> Lists:
        """Read the index, or make it again if it is missing or damaged."""
        if self._opened is None:
            if index_is_whole(self._folder, self._facts):
                self._opened = Lists(**load_file(self._folder / str(self._facts["file"])))
            else:
                self._opened = _make_lists(self.vectors, seed=int(self._facts["seed"]))
        return self._opened


def build_lists(
    vectors: FixedVectors, path: Path, plan: IndexPlan, groups: np.ndarray | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Group the cells into lists, write these to ``path`` and try them; see :func:`~scim.index.build_index`.

    Return the description of the file, and measurements.
    """
    lists = _make_lists(vectors, seed=plan.seed)
    write_tensors(path, {"centres": lists.centres, "starts": lists.starts, "rows": lists.rows})
    sync(path)
    file = {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}
    return file, {"lists": len(lists), "trials": _try(lists, vectors, groups, seed=plan.seed)}


def _make_lists(vectors: FixedVectors, *, seed: int) -> Lists:
    """Group all cells that have a direction around centres."""
    import faiss

    n_lists = max(1, int(_LISTS_PER_ROOT * np.sqrt(len(vectors))))
    chosen = np.random.default_rng(seed).permutation(len(vectors))[: _LEARNED_PER_LIST * n_lists]
    learned = vectors.take(np.sort(chosen))
    kmeans = faiss.Kmeans(vectors.n_latent, n_lists, niter=10, seed=seed + 1, min_points_per_centroid=1)
    with one_thread_of_faiss():  # in rounds this short, threads mostly wait for each other
        kmeans.train(learned[learned.any(axis=1)])
    centres: np.ndarray = np.asarray(kmeans.centroids)
    rows, members = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for at, block in vectors.blocks():
        rows.append(at)
        members.append(faiss.knn(np.ascontiguousarray(block), centres, 1)[1][:, 0].astype(np.int64))
    return Lists.of(centres, np.concatenate(members), np.concatenate(rows))


def _try(lists: Lists, vectors: FixedVectors, groups: np.ndarray | None, *, seed: int) -> dict[str, Any]:
    """Search neighbours of cells, in all studies and in others, and record their share by the number of lists."""
    members = np.full(len(vectors), -1, dtype=np.int64)
    members[lists.rows] = np.repeat(np.arange(len(lists)), np.diff(lists.starts))
    made = []
    for cells, apart in cells_to_try(np.sort(lists.rows), groups, seed=seed + 1):
        rows = np.sort(cells[:_TRIALS])
        order = lists.nearest(vectors.take(rows), len(lists))
        truth, counts = true_neighbours(vectors, rows, min(max(_DEPTHS), len(vectors) - 1), apart)
        trials = {}
        for depth in _DEPTHS:
            near = counts & (np.cumsum(counts, axis=1) <= depth)
            visits, found = found_in_lists(order, np.where(near, members[truth], -1))
            # Every cell of a list is compared exactly: candidates lose nothing.
            trials[str(depth)] = {"visits": visits, "found": found, "among": {"1": 1.0}}
        made.append(trials)
    return reduce(worse_of, made)
