"""Approximate search with faiss: lists of cells around centres, of which a query looks through the nearest few."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..encoder._folder import sync
from ._exact import ExactBackend, blocks
from ._segments import take_vectors

#: From this many cells on, an index is worth its place.
WORTH = 20_000
#: Share of the true neighbours that a search is to find, and of how many neighbours that is measured.
RECALL, DEPTHS = 0.98, (50, 1_000)
#: Lists per square root of the number of cells; cells of each list that its centre is learned from; trial queries.
_LISTS, _LEARNED_FROM, _TRIALS = 3, 64, 200


def build_index(segments: list[np.ndarray], path: Path, *, seed: int) -> dict[str, Any]:
    """Build an index, find out how many lists a search has to visit, and write it.

    Parameters
    ----------
    segments
        Vectors of each segment, int16 (n_i, d).
    path
        File to write.
    seed
        Seed of the centres and of the trial.

    Returns
    -------
    What the manifest says of the index: its file, lists, lists to visit by number of neighbours, and recall there.
    """
    import faiss

    index = _fill(segments, seed=seed)
    faiss.write_index(index, str(path))
    sync(path)
    visits, recall = _calibrate(index, segments, seed=seed)
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": _digest(path),
        "lists": int(index.nlist),
        "visits": {str(k): n for k, n in visits.items()},
        "recall": {str(k): r for k, r in recall.items()},
        "seed": seed,
    }


class FaissBackend:
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
        self.exact = ExactBackend(segments)
        self._path = folder / str(facts["file"])
        self._facts = facts
        self._opened: Any = None

    def search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Find neighbours, see :class:`~scim.reference._backend.Backend`."""
        import faiss

        n_cells = sum(map(len, self.segments))
        n_allowed = n_cells if allowed is None else int(allowed.sum())
        visits = int(np.ceil(self._visits(k) * n_cells / max(n_allowed, 1)))
        # A filter that leaves few cells, or very many neighbours: most lists would be visited.
        if n_allowed < WORTH or 2 * visits > int(self._facts["lists"]) or not len(queries):
            return self.exact.search(queries, k, allowed)
        # Kept until the search is over: faiss holds no reference to it.
        selector: Any = None
        if allowed is not None:
            bitmap: Any = faiss.IDSelectorBitmap
            selector = bitmap(np.packbits(allowed, bitorder="little"))
        parameters = _parameters(visits, selector)
        index = self._index()
        # Neighbours one after the other: they look through the same lists, which are in the cache then.
        order = np.argsort(faiss.downcast_index(index.quantizer).search(queries, 1)[1][:, 0], kind="stable")
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        squares, positions = (found[back] for found in index.search(queries[order], k, params=parameters))
        # Of unit vectors, the squared Euclidean distance is twice the cosine one.
        distances = np.clip(squares / 2, 0.0, 2.0).astype(np.float32)
        if (short := (positions < 0).any(axis=1)).any():
            positions[short], distances[short] = self.exact.search(queries[short], k, allowed)
        order = np.lexsort((positions, distances), axis=1)
        return np.take_along_axis(positions, order, 1), np.take_along_axis(distances, order, 1)

    def _visits(self, k: int) -> float:
        """Say how many lists to visit for k neighbours."""
        for depth in DEPTHS:
            if k <= depth:
                return float(self._facts["visits"][str(depth)])
        return float(self._facts["visits"][str(DEPTHS[-1])]) * k / DEPTHS[-1]

    def _index(self) -> Any:
        """Map the index in the file into memory, or make one anew where that is missing or damaged."""
        import faiss

        if self._opened is None:
            facts = self._facts
            if self._path.is_file() and self._path.stat().st_size == facts["bytes"]:
                if _digest(self._path) == facts["sha256"]:
                    self._opened = faiss.read_index(str(self._path), faiss.IO_FLAG_MMAP)
                    return self._opened
            warnings.warn(
                f"The index {self._path} is missing or damaged, and is made again in memory. Build the reference again "
                "to have it on disk.",
                UserWarning,
                stacklevel=6,
            )
            self._opened = _fill(self.segments, seed=int(facts["seed"]))
        return self._opened


def _fill(segments: list[np.ndarray], *, seed: int) -> Any:
    """Make an index of all cells that have a direction, by their positions."""
    import faiss

    n_cells, n_latent = sum(map(len, segments)), segments[0].shape[1]
    n_lists = max(1, int(_LISTS * np.sqrt(n_cells)))
    quantizer = faiss.IndexFlatL2(n_latent)
    index = faiss.IndexIVFFlat(quantizer, n_latent, n_lists, faiss.METRIC_L2)
    index.cp.seed, index.cp.niter = seed + 1, 10
    chosen = np.random.default_rng(seed).permutation(n_cells)[: _LEARNED_FROM * n_lists]
    learned = take_vectors(segments, np.sort(chosen))
    index.train(learned[learned.any(axis=1)])
    for rows, vectors in blocks(segments):
        index.add_with_ids(np.ascontiguousarray(vectors), rows.astype(np.int64))
    return index


def _calibrate(index: Any, segments: list[np.ndarray], *, seed: int) -> tuple[dict[int, int], dict[int, float]]:
    """Fewest lists with which cells of the reference find RECALL of their neighbours, and what they find then."""
    rows = np.random.default_rng(seed + 1).permutation(sum(map(len, segments)))[:_TRIALS]
    queries = take_vectors(segments, np.sort(rows))
    queries = queries[queries.any(axis=1)]
    visits, recall = {}, {}
    for depth in DEPTHS:
        truth, _ = ExactBackend(segments).search(queries, depth, None)
        n_visits = 1
        while True:
            _, found = index.search(queries, depth, params=_parameters(n_visits))
            share = np.mean([np.isin(a, b).mean() for a, b in zip(truth, found, strict=True)])
            if share >= RECALL or n_visits >= index.nlist:
                break
            n_visits = min(index.nlist, max(n_visits + 1, int(n_visits * 1.25)))
        visits[depth], recall[depth] = n_visits, round(float(share), 4)
    return visits, recall


def _parameters(n_visits: int, selector: Any = None) -> Any:
    import faiss

    parameters: Any = faiss.IVFSearchParameters()
    parameters.nprobe = n_visits
    if selector is not None:
        parameters.sel = selector
    return parameters


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
