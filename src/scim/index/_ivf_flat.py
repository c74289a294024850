"""Approximate search of a middling number of cells: lists around centres that faiss finds, searched exactly."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from .._threads import one_thread_of_faiss
from ._effort import Effort
from ._exact import ExactIndex
from ._files import index_is_whole
from ._lists import Lists
from ._plan import WORTH
from ._trials import cells_to_try, found_in_lists, true_neighbours, worse_of
from ._vectors import blocks, take_vectors

#: What the manifest calls such an index.
LISTS = "lists"
DEPTHS = (10, 50, 1_000)
#: Lists per square root of the number of cells; cells of each list that its centre is learned from; trial queries.
_LISTS = 2
_LEARNED_FROM = 64
_TRIALS = 200


class IvfFlatIndex:
    """Search the lists nearest to a query; where few cells may be found, all of them.

    Parameters
    ----------
    segments
        Vectors of each segment, int16 (n_i, d).
    folder
        Where the index lies.
    facts
        What :func:`build_index` returned.
    """

    name = "faiss"

    def __init__(self, segments: list[np.ndarray], folder: Path, facts: Mapping[str, Any]) -> None:
        self.segments = segments
        self.exact = ExactIndex(segments)
        self._folder, self._facts = folder, facts
        n_cells = sum(map(len, segments))
        self._effort = Effort(facts["trials"], float(facts["target"]), int(facts["lists"]), n_cells)
        self._opened: Lists | None = None

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find neighbours, see :class:`~scim.index.Index`."""
        n_cells = sum(map(len, self.segments))
        n_allowed = n_cells if allowed is None else int(np.count_nonzero(allowed))
        effort = self._effort if recall is None else self._effort.aiming(recall)
        visits = int(np.ceil(effort.visits(k) * n_cells / max(n_allowed, 1)))
        # A filter that leaves few cells, or very many neighbours: most lists would be visited.
        if n_allowed < WORTH or 2 * visits > int(self._facts["lists"]) or not len(queries):
            return self.exact.search(queries, k, allowed)
        lists = self._lists()
        positions, distances = lists.search(self.segments, queries, k, lists.nearest(queries, visits), allowed)
        if (short := (positions < 0).any(axis=1)).any():
            positions[short], distances[short] = self.exact.search(queries[short], k, allowed)
        return positions, distances

    def _lists(self) -> Lists:
        """Read the index, or make one anew where it is missing or damaged."""
        if self._opened is None:
            if index_is_whole(self._folder, self._facts):
                self._opened = Lists(**load_file(self._folder / str(self._facts["file"])))
            else:
                self._opened = _make_lists(self.segments, seed=int(self._facts["seed"]))
        return self._opened


def _make_lists(segments: list[np.ndarray], *, seed: int) -> Lists:
    """Group all cells that have a direction around centres."""
    import faiss

    n_cells, n_latent = sum(map(len, segments)), segments[0].shape[1]
    n_lists = max(1, int(_LISTS * np.sqrt(n_cells)))
    chosen = np.random.default_rng(seed).permutation(n_cells)[: _LEARNED_FROM * n_lists]
    learned = take_vectors(segments, np.sort(chosen))
    kmeans = faiss.Kmeans(n_latent, n_lists, niter=10, seed=seed + 1, min_points_per_centroid=1)
    with one_thread_of_faiss():  # short rounds, in which threads wait for each other more than they work
        kmeans.train(learned[learned.any(axis=1)])
    centres: np.ndarray = np.asarray(kmeans.centroids)
    rows, members = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for at, vectors in blocks(segments):
        rows.append(at)
        members.append(faiss.knn(np.ascontiguousarray(vectors), centres, 1)[1][:, 0].astype(np.int64))
    return Lists.of(centres, np.concatenate(members), np.concatenate(rows))


def _try(lists: Lists, segments: list[np.ndarray], groups: np.ndarray | None, *, seed: int) -> dict[str, Any]:
    """Look for neighbours of cells, in all studies and in others, and record what share lies in how many lists."""
    n_cells = sum(map(len, segments))
    members = np.full(n_cells, -1, dtype=np.int64)
    members[lists.rows] = np.repeat(np.arange(len(lists)), np.diff(lists.starts))
    made = []
    for cells, apart in cells_to_try(np.sort(lists.rows), groups, seed=seed + 1):
        rows = np.sort(cells[:_TRIALS])
        order = lists.nearest(take_vectors(segments, rows), len(lists))
        truth, counts = true_neighbours(segments, rows, min(max(DEPTHS), n_cells - 1), apart)
        trials = {}
        for depth in DEPTHS:
            near = counts & (np.cumsum(counts, axis=1) <= depth)
            visits, found = found_in_lists(order, np.where(near, members[truth], -1))
            # Every cell of a list is compared exactly: candidates lose nothing.
            trials[str(depth)] = {"visits": visits, "found": found, "among": {"1": 1.0}}
        made.append(trials)
    return reduce(worse_of, made)
