"""Approximate search of many cells: lists of short codes in memory, and exact distances for what they put first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from .._threads import in_threads, one_thread_of_faiss
from ._exact import ExactIndex
from ._files import CODES, ORDERED, REST, ROWS, Opened, effort_of, index_is_whole, selector_of
from ._kernels import few_rows, rows_of
from ._pq_codes import ShortCodes
from ._protocol import distances_of
from ._rerank import ListOrderedVectors, compare_each

#: So few cells may be found that comparing with each of them takes less time.
FEW = 30_000
#: Queries of which faiss looks through the lists at once, so few that their tables stay in the processor's cache; those
#: that are put in the order of their lists; and candidates that are held at a time.
_QUERIES = 32
_SORTED = 8_192
_CANDIDATES = 4_000_000
#: Queries that are compared with each cell by themselves, and not in products.
_ONE_BY_ONE = 8


class IvfPqIndex:
    """Search codes of 4 bits per two dimensions in the lists nearest to a query, and rank the best again exactly.

    What is ranked again comes from the fixed-point vectors, so that distances are exact.

    Parameters
    ----------
    segments
        Vectors of each segment, int16 (n_i, d).
    folder
        Where the index lies.
    facts
        What :func:`~scim.index._ivf_pq_build.build_pq` returned.
    """

    name = "faiss"

    def __init__(self, segments: list[np.ndarray], folder: Path, facts: Mapping[str, Any]) -> None:
        self.segments = segments
        self.exact = ExactIndex(segments)
        self._folder, self._facts = folder, facts
        self._opened: Opened | None = None

    def search(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find neighbours, see :class:`~scim.index.Index`."""
        if allowed is not None and (rows := few_rows(allowed, FEW)) is not None:
            return self._compare(queries, k, allowed, rows)
        n_allowed = sum(map(len, self.segments)) if allowed is None else int(np.count_nonzero(allowed))
        if n_allowed <= FEW or 4 * k > n_allowed or not len(queries):
            return self._compare(queries, k, allowed)
        index = self._index()
        if recall is not None:
            index = replace(index, effort=index.effort.aiming(recall))
        n_candidates = min(index.effort.candidates(k) * (1 if allowed is None else 2), n_allowed)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        positions, similarity = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
        step = max(1, _CANDIDATES // n_candidates)
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            positions[part], similarity[part] = _search(index, queries[part], k, n_candidates, allowed)
        distances = distances_of(positions, similarity)
        if (short := (positions < 0).any(axis=1)).any():
            positions[short], distances[short] = self._compare(queries[short], k, allowed)
        return positions, distances

    def _compare(
        self, queries: np.ndarray, k: int, allowed: np.ndarray | None, rows: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compare with each cell that may be found, ``rows``: products of blocks pay from a few queries on."""
        if allowed is None or len(queries) > _ONE_BY_ONE:
            return self.exact.search(queries, k, allowed)
        rows = rows_of(allowed) if rows is None else rows
        positions, similarity = compare_each(self.segments, queries, rows, k)
        return positions, distances_of(positions, similarity)

    def _index(self) -> Opened:
        """Read the index, or make one anew where it is missing or damaged."""
        if self._opened is None:
            name = Path(str(self._facts["file"])).stem
            if not index_is_whole(self._folder, self._facts, later=[f"{name}{ORDERED}"]):
                from ._ivf_pq_build import make_again

                self._opened = make_again(self.segments, self._facts)
            else:
                self._opened = self._read(name)
        return self._opened

    def _read(self, name: str) -> Opened:
        import faiss

        rest = load_file(self._folder / f"{name}{REST}")
        rows = np.memmap(self._folder / f"{name}{ROWS}", dtype="<i4", mode="r")
        vectors = ListOrderedVectors(self.segments, self._folder / f"{name}{ORDERED}", rows, rest["sums"])
        codes = ShortCodes.of(faiss.read_index(str(self._folder / f"{name}{CODES}")))
        return Opened(codes, vectors, effort_of(rest, self._facts))


def _search(
    index: Opened, queries: np.ndarray, k: int, n_candidates: int, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions int64 and similarities float32 (m, k), best first; -1 and -inf for none."""
    positions, similarity = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), np.float32)
    wide = index.codes.wide(queries)
    selector = None if allowed is None else selector_of(allowed)

    def work(first: int, last: int) -> None:
        with one_thread_of_faiss():
            for start in range(first, last, _SORTED):
                some = slice(start, min(start + _SORTED, last))
                products, lists = _lists_to_visit(index, wide[some], k, allowed)
                # Neighbours side by side, for they visit the same lists.
                order = np.argsort(lists[:, 0], kind="stable")
                for mine in (order[i : i + _QUERIES] for i in range(0, len(order), _QUERIES)):
                    at = start + mine
                    found = index.codes.search(wide[at], n_candidates, lists[mine], products[mine], selector)
                    positions[at], similarity[at] = index.vectors.best(queries[at], found, k, allowed)

    in_threads(len(queries), work)
    return positions, similarity


def _lists_to_visit(
    index: Opened, queries: np.ndarray, k: int, allowed: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Products of centres float32 and lists int64 (m, n), nearest first; -1 for none."""
    if allowed is None:
        return index.codes.nearest_lists(queries, index.effort.visits(k))
    most = index.effort.most(k, np.count_nonzero(allowed) / len(allowed))
    products, lists = index.codes.nearest_lists(queries, most)
    return cut_lists(products, lists, index.effort.filtered(lists, k, allowed))


def cut_lists(products: np.ndarray, lists: np.ndarray, needed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep the first lists of each query, as many as it needs, (m,); -1 behind them.

    A query that is far from all that passes a filter visits none, finds none, and is compared with each.
    """
    width = max(int(needed.max()), 1)
    products, lists = np.ascontiguousarray(products[:, :width]), np.ascontiguousarray(lists[:, :width])
    lists[np.arange(width) >= needed[:, None]] = -1
    return products, lists
