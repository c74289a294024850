"""Building the index of many cells: learned from a sample, filled block by block, tried on cells of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._disk import BLOCK_BYTES, describe_files, sync, write_tensors
from .._progress import progress_bar
from .._threads import in_threads, one_thread_of_faiss
from ._centres import LEARNED_FROM, ROUNDS, Centres, learn
from ._files import CODES, ORDERED, REST, ROWS, Opened, effort_of, selector_of
from ._pq_codes import FOR_LENGTH, KIND, Coder, ShortCodes, widened, width_of
from ._rerank import ListOrderedVectors, write_ordered
from ._trials import DEPTHS, cells_to_try, found_among, found_in_lists, true_neighbours, worse_of
from ._vectors import blocks, take_vectors

if TYPE_CHECKING:
    from tqdm.std import tqdm

#: Lists per square root of the number of cells; vectors that the codes are learned from.
_LISTS = 1
_CODES_FROM = 20_000
#: More lists than this are found through a graph.
_GRAPH = 16_384
#: Cells whose neighbours are looked for to try the index, and how many of them for more than ``_SHALLOW`` neighbours;
#: cells of the sample that says where a filter's cells are.
_TRIALS = 100
_DEEP = 25
_SHALLOW = 1_000
_SAMPLE = 65_536


def build_pq(
    segments: list[np.ndarray], path: Path, *, seed: int, recall: float, groups: np.ndarray | None = None
) -> dict[str, Any]:
    """Build an index, try it, and write its files beside ``path``.

    Memory holds 41 bytes a cell, a sample, and half a gigabyte of vectors at a time.

    Parameters
    ----------
    segments
        Vectors of each segment, int16 (n_i, d).
    path
        The files begin with its name, less its ending.
    seed
        Seed of the sample, the centres and the trial.
    recall
        Share of the true neighbours that a search is to find.
    groups
        Study of each cell, codes (n_cells,), if there are several: the index is tried on neighbours of other studies.

    Returns
    -------
    What the manifest says of the index: its files, lists, and the trials that say how far a search has to go.
    """
    files = {ending: path.with_name(f"{path.stem}{ending}") for ending in (REST, ROWS, CODES, ORDERED)}
    n_cells = sum(map(len, segments))
    with progress_bar(_work(n_cells), desc="Building the index", unit="cells") as bar:
        made = _make(segments, seed=seed, bar=bar)
        _write_codes(made.codes.index, files[CODES])
        files[ROWS].write_bytes(made.rows.astype("<i4").data)
        sums = write_ordered(segments, made.rows, files[ORDERED])
        write_tensors(files[REST], made.rest | {"sums": sums})
        bar.update(n_cells)
        facts = {"trials": _try(made, segments, groups, seed=seed), "target": recall}
        bar.update(n_cells)
    for file in files.values():
        sync(file)
    return {
        "kind": KIND,
        "file": path.with_suffix(REST).name,
        # Blocks are hashed too: workers of a cluster read some of them.
        "files": describe_files(path.parent, [f.name for f in files.values()], block=BLOCK_BYTES),
        "bytes": sum(f.stat().st_size for f in files.values()),
        "n_cells": n_cells,
        "lists": len(made.centres),
        **facts,
        "seed": seed,
    }


def make_again(segments: list[np.ndarray], facts: Mapping[str, Any]) -> Opened:
    """Make the index once more, in memory; candidates are ranked by the vectors of the cells themselves."""
    with progress_bar(_work(sum(map(len, segments))), desc="Building the index", unit="cells") as bar:
        made = _make(segments, seed=int(facts["seed"]), bar=bar)
    vectors = ListOrderedVectors(segments, None, made.rows, np.empty(0, dtype=np.uint64))
    return Opened(made.codes, vectors, effort_of(made.rest, facts))


@dataclass(frozen=True, eq=False)
class _Made:
    """Codes, centres, list of each cell (-1: none), place of its vector in the order of the lists, and the rest."""

    codes: ShortCodes
    centres: Centres
    members: np.ndarray
    rows: np.ndarray
    rest: dict[str, np.ndarray]


def n_lists_for(n_cells: int) -> int:
    """Say how many lists a number of cells is sorted into."""
    return max(1, int(_LISTS * np.sqrt(n_cells)))


def _work(n_cells: int) -> int:
    """Vectors that a progress bar counts."""
    return min(n_cells, LEARNED_FROM * n_lists_for(n_cells)) * ROUNDS + 3 * n_cells


def _make(segments: list[np.ndarray], *, seed: int, bar: tqdm) -> _Made:
    """Learn centres and codes from a sample, and sort all cells that have a direction into lists."""
    n_cells = sum(map(len, segments))
    n_lists = n_lists_for(n_cells)
    chosen = np.random.default_rng(seed).permutation(n_cells)[: LEARNED_FROM * n_lists]
    learned = take_vectors(segments, np.sort(chosen))
    learned = learned[learned.any(axis=1)]
    centres = learn(learned, min(n_lists, len(learned)), seed=seed, step=bar.update)
    few = learned[np.random.default_rng(seed).permutation(len(learned))[:_CODES_FROM]]
    del learned
    with one_thread_of_faiss():  # a thousand rounds so short that threads only wait for each other
        coder = Coder(_quantizer(centres.centres), centres.centres, few, centres.assign(few))
    members = np.full(n_cells, -1, dtype=np.int32)
    for rows, vectors in blocks(segments):
        mine = centres.assign(vectors)
        members[rows] = mine
        coder.add(vectors, rows.astype(np.int64), mine)
        bar.update(len(rows))
    order = np.argsort(members, kind="stable")[np.count_nonzero(members < 0) :]
    rows = np.full(n_cells, -1, dtype=np.int32)
    rows[order] = np.arange(len(order), dtype=np.int32)
    sampled = order[np.linspace(0, len(order) - 1, min(_SAMPLE, len(order))).astype(np.int64)]
    rest = {
        "sizes": np.bincount(members[order], minlength=len(centres)),
        "sample_positions": sampled,
        "sample_lists": members[sampled].astype(np.int64),
    }
    return _Made(coder.finish(), centres, members, rows, rest)


def _quantizer(centres: np.ndarray) -> Any:
    """Centres as faiss finds them, with zeros where a cell has the codes of its length."""
    import faiss

    n_codes, each = width_of(centres.shape[1])
    width = (n_codes + FOR_LENGTH) * each
    quantizer: Any
    if len(centres) > _GRAPH:
        quantizer = faiss.IndexHNSWFlat(width, 32)
        quantizer.hnsw.efConstruction, quantizer.hnsw.efSearch = 100, 256
    else:
        quantizer = faiss.IndexFlatL2(width)
    quantizer.add(widened(centres, width))
    return quantizer


def _write_codes(codes: Any, path: Path) -> None:
    """Write what faiss would, through a file of Python's: faiss itself says little of a full disk, or nothing."""
    import faiss

    failed: list[OSError] = []
    with open(path, "wb") as file:

        def write(content: bytes) -> int:
            try:
                return file.write(content) if not failed else len(content)
            except OSError as error:  # it must not pass through faiss
                failed.append(error)
                return len(content)

        faiss.write_index(codes, faiss.PyCallbackIOWriter(write))  # type: ignore[attr-defined]
        if failed:
            raise failed[0]


def _try(made: _Made, segments: list[np.ndarray], groups: np.ndarray | None, *, seed: int) -> dict[str, Any]:
    """Look for neighbours of cells, in all studies and in others, and record what share lies how far in."""
    n_cells = len(made.members)
    depths = [depth for depth in DEPTHS if depth <= max(n_cells // 10, 1)] or [min(DEPTHS)]
    shallow, deep = ([d for d in depths if (d <= _SHALLOW) is near] for near in (True, False))
    tried = []
    for cells, apart in cells_to_try(np.flatnonzero(made.members >= 0), groups, seed=seed + 1):
        trials = _try_some(made, segments, np.sort(cells[:_TRIALS]), shallow, apart)
        if deep:
            trials |= _try_some(made, segments, np.sort(cells[:_DEEP]), deep, apart)
        tried.append(trials)
    return reduce(worse_of, tried)


def _try_some(
    made: _Made, segments: list[np.ndarray], rows: np.ndarray, depths: list[int], groups: np.ndarray | None
) -> dict[str, Any]:
    """Try the index on the cells ``rows``, which ascend."""
    n_cells, queries = len(made.members), take_vectors(segments, rows)
    order = made.centres.by_distance(queries)
    truth, counts = true_neighbours(segments, rows, min(max(depths), n_cells - 1), groups)
    near = {depth: counts & (np.cumsum(counts, axis=1) <= depth) for depth in depths}
    inside = {depth: found_in_lists(order, np.where(near[depth], made.members[truth], -1)) for depth in depths}
    enough = {depth: min(int(np.searchsorted(found, 0.999)), len(found) - 1) for depth, (_, found) in inside.items()}
    most = min(max(DEPTHS[depth] * depth for depth in depths), n_cells)
    n_visits = max(visits[enough[depth]] for depth, (visits, _) in inside.items())
    candidates = np.empty((len(rows), most), dtype=np.int64)
    for mine, allowed in _apart(rows, groups):
        candidates[mine] = _candidates(made.codes, queries[mine], most, n_visits, allowed)
    trials = {}
    for depth, (visits, found) in inside.items():
        first = candidates[:, : DEPTHS[depth] * depth]
        among = found_among(first, truth, near[depth], depth, of=found[enough[depth]])
        trials[str(depth)] = {"visits": visits, "found": found, "among": among}
    return trials


def _apart(rows: np.ndarray, groups: np.ndarray | None) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yield which of ``rows`` are of a group, and the cells that are not, bool (n_cells,); all, where there is none."""
    if groups is None:
        yield np.arange(len(rows)), None
        return
    for group in np.unique(groups[rows]):
        yield np.flatnonzero(groups[rows] == group), groups != group


def _candidates(
    codes: ShortCodes, queries: np.ndarray, n: int, n_visits: int, allowed: np.ndarray | None
) -> np.ndarray:
    """Cells with the nearest codes, of those that are allowed, int64 (m, n); -1 for none."""
    found, wide = np.empty((len(queries), n), dtype=np.int64), codes.wide(queries)
    selector = None if allowed is None else selector_of(allowed)

    def work(first: int, last: int) -> None:
        with one_thread_of_faiss():
            mine = np.ascontiguousarray(wide[first:last])
            products, lists = codes.nearest_lists(mine, n_visits)
            found[first:last] = codes.search(mine, n, lists, products, selector)

    in_threads(len(queries), work)
    return found
