"""Approximate search of 100,000 cells and more: lists of short codes in memory, and exact distances of candidates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from .._threads import in_threads, one_thread_of_faiss
from ._exact import ExactIndex, compare_each
from ._files import CODES, ORDERED, REST, ROWS, Opened, effort_of, index_is_whole, selector_of
from ._ivf_pq_build import make_again
from ._kernels import rows_of
from ._plan import IndexPlan
from ._pq_codes import ShortCodes
from ._protocol import ApproximateIndex, Hits
from ._rerank import ListOrderedVectors
from ._vectors import FixedVectors

#: Queries that faiss looks up at a time, so few that their tables stay in the processor's cache.
_QUERIES_AT_A_TIME = 32
#: Queries that are put in the order of their lists at a time.
_SORTED_QUERIES = 8_192
#: Candidates that are held at a time.
_CANDIDATES_AT_A_TIME = 4_000_000
#: Up to this many queries are compared cell by cell, and more in products of blocks.
_CELL_BY_CELL_QUERIES = 8


class IvfPqIndex(ApproximateIndex):
    """Look up codes of 4 bits per two dimensions in the lists nearest to a query, and rank the best again exactly.

    Candidates are ranked by the fixed-point vectors, so that distances are exact. ``facts`` are what
    :func:`~scim.index.build_index` returned; ``plan`` has the number of cells up to which codes are not looked up.
    """

    name = "faiss"

    def __init__(self, vectors: FixedVectors, folder: Path, facts: Mapping[str, Any], plan: IndexPlan) -> None:
        super().__init__(ExactIndex(vectors))
        self._folder, self._facts, self._plan = folder, facts, plan
        self._opened: Opened | None = None

    def _search(self, queries: np.ndarray, k: int, allowed: np.ndarray | None, recall: float | None) -> Hits | None:
        n_allowed = self.vectors.count(allowed)
        if n_allowed <= self._plan.exact_below_cells or 4 * k > n_allowed:
            return None
        index = self._index()
        if recall is not None:
            index = replace(index, effort=index.effort.aiming(recall))
        n_candidates = min(index.effort.candidates(k) * (1 if allowed is None else 2), n_allowed)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        hits, step = Hits.none(len(queries), k), max(1, _CANDIDATES_AT_A_TIME // n_candidates)
        for part in (slice(i, i + step) for i in range(0, len(queries), step)):
            hits.put(part, _look_up(index, queries[part], k, n_candidates, allowed))
        return hits

    def _compare(self, queries: np.ndarray, k: int, allowed: np.ndarray | None) -> Hits:
        """Compare with each cell that may be found. Products of blocks are faster from a few queries on."""
        if allowed is None or len(queries) > _CELL_BY_CELL_QUERIES:
            return super()._compare(queries, k, allowed)
        return compare_each(self.vectors, queries, rows_of(allowed), k)

    def _index(self) -> Opened:
        """Read the index, or make it again if it is missing or damaged."""
        if self._opened is None:
            name = Path(str(self._facts["file"])).stem
            whole = index_is_whole(self._folder, self._facts, later=[f"{name}{ORDERED}"])
            self._opened = self._read(name) if whole else make_again(self.vectors, self._facts)
        return self._opened

    def _read(self, name: str) -> Opened:
        import faiss

        rest = load_file(self._folder / f"{name}{REST}")
        rows = np.memmap(self._folder / f"{name}{ROWS}", dtype="<i4", mode="r")
        vectors = ListOrderedVectors(self.vectors, self._folder / f"{name}{ORDERED}", rows, rest["sums"])
        codes = ShortCodes.of(faiss.read_index(str(self._folder / f"{name}{CODES}")))
        return Opened(codes, vectors, effort_of(rest, self._facts))


def _look_up(index: Opened, queries: np.ndarray, k: int, n_candidates: int, allowed: np.ndarray | None) -> Hits:
    """Find candidates by their codes, and rank them."""
    hits, wide = Hits.none(len(queries), k), index.codes.wide(queries)
    selector = None if allowed is None else selector_of(np.packbits(allowed, bitorder="little"))

    def work(first: int, last: int) -> None:
        with one_thread_of_faiss():
            for start in range(first, last, _SORTED_QUERIES):
                part = slice(start, min(start + _SORTED_QUERIES, last))
                products, lists = _lists_to_visit(index, wide[part], k, allowed)
                # Similar queries side by side, for they visit the same lists.
                order = np.argsort(lists[:, 0], kind="stable")
                for mine in (order[i : i + _QUERIES_AT_A_TIME] for i in range(0, len(order), _QUERIES_AT_A_TIME)):
                    at = start + mine
                    found = index.codes.search(wide[at], n_candidates, lists[mine], products[mine], selector)
                    hits.put(at, index.vectors.best(queries[at], found, k, allowed))

    in_threads(len(queries), work)
    index.vectors.warn_if_lost()
    return hits


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

    A query that is far from every cell that passes a filter visits no list, and is compared with each cell instead.
    """
    width = max(int(needed.max()), 1)
    products, lists = np.ascontiguousarray(products[:, :width]), np.ascontiguousarray(lists[:, :width])
    lists[np.arange(width) >= needed[:, None]] = -1
    return products, lists
