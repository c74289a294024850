"""Build an index of short codes: learned from a sample, filled block by block, tried on cells of its own."""

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
from ._plan import IndexPlan
from ._pq_codes import FOR_LENGTH, Coder, ShortCodes, widened, width_of
from ._rerank import ListOrderedVectors, write_ordered
from ._trials import DEPTHS, cells_to_try, found_among, found_in_lists, true_neighbours, worse_of
from ._vectors import FixedVectors

if TYPE_CHECKING:
    from tqdm.std import tqdm

#: Lists per square root of the number of cells.
_LISTS_PER_ROOT = 1
#: Vectors that the codes are learned from.
_LEARNED_FOR_CODES = 20_000
#: More centres than this are found through a graph.
_GRAPH_FROM_CENTRES = 16_384
#: Cells whose neighbours are searched to try the index.
_TRIALS = 100
#: Up to this many neighbours are searched for all of these cells, and more for the first few.
_SHALLOW_NEIGHBOURS = 1_000
_DEEP_TRIALS = 25
#: Cells of the sample by which a search estimates where the cells that pass a filter lie.
_SAMPLED_CELLS = 65_536


def build_pq(
    vectors: FixedVectors, path: Path, plan: IndexPlan, groups: np.ndarray | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build an index, try it, and write its files next to ``path``; see :func:`~scim.index.build_index`.

    Return the description of the files, and measurements. Memory holds 41 bytes a cell, a sample, and half a gigabyte
    of vectors at a time.
    """
    files = {ending: path.with_name(f"{path.stem}{ending}") for ending in (REST, ROWS, CODES, ORDERED)}
    with progress_bar(_work(len(vectors)), desc="Building the index", unit="cells") as bar:
        made = _make(vectors, seed=plan.seed, bar=bar)
        _write_codes(made.codes.index, files[CODES])
        files[ROWS].write_bytes(made.rows.astype("<i4").data)
        sums = write_ordered(vectors, made.rows, files[ORDERED])
        write_tensors(files[REST], made.rest | {"sums": sums})
        bar.update(len(vectors))
        trials = _try(made, vectors, groups, seed=plan.seed)
        bar.update(len(vectors))
    for file in files.values():
        sync(file)
    description = {
        "file": path.with_suffix(REST).name,
        # Blocks are hashed too, for workers of a cluster read parts of a file.
        "files": describe_files(path.parent, [f.name for f in files.values()], block=BLOCK_BYTES),
        "bytes": sum(f.stat().st_size for f in files.values()),
    }
    return description, {"lists": len(made.centres), "trials": trials}


def make_again(vectors: FixedVectors, facts: Mapping[str, Any]) -> Opened:
    """Make the index once more, in memory; candidates are ranked by the vectors of the cells themselves."""
    with progress_bar(_work(len(vectors)), desc="Building the index", unit="cells") as bar:
        made = _make(vectors, seed=int(facts["seed"]), bar=bar)
    ordered = ListOrderedVectors(vectors, None, made.rows, np.empty(0, dtype=np.uint64))
    return Opened(made.codes, ordered, effort_of(made.rest, facts))


@dataclass(frozen=True, eq=False)
class _Made:
    """An index in the making: codes of the cells, centres of the lists, and ``rest``, arrays that share one file.

    ``members`` are the lists of the cells, int32 (n_cells,), and ``rows`` the places of their vectors in the order of
    the lists, int32 (n_cells,); -1 for none.
    """

    codes: ShortCodes
    centres: Centres
    members: np.ndarray
    rows: np.ndarray
    rest: dict[str, np.ndarray]


def n_lists_for(n_cells: int) -> int:
    """Give the number of lists for a number of cells."""
    return max(1, int(_LISTS_PER_ROOT * np.sqrt(n_cells)))


def _work(n_cells: int) -> int:
    """Give the number of vectors that a progress bar counts."""
    return min(n_cells, LEARNED_FROM * n_lists_for(n_cells)) * ROUNDS + 3 * n_cells


def _make(vectors: FixedVectors, *, seed: int, bar: tqdm) -> _Made:
    """Learn centres and codes from a sample, and sort all cells that have a direction into lists."""
    n_cells = len(vectors)
    n_lists = n_lists_for(n_cells)
    chosen = np.random.default_rng(seed).permutation(n_cells)[: LEARNED_FROM * n_lists]
    learned = vectors.take(np.sort(chosen))
    learned = learned[learned.any(axis=1)]
    centres = learn(learned, min(n_lists, len(learned)), seed=seed, step=bar.update)
    few = learned[np.random.default_rng(seed).permutation(len(learned))[:_LEARNED_FOR_CODES]]
    del learned
    with one_thread_of_faiss():  # in a thousand rounds this short, threads mostly wait for each other
        coder = Coder(_quantizer(centres.centres), centres.centres, few, centres.assign(few))
    members = np.full(n_cells, -1, dtype=np.int32)
    for rows, block in vectors.blocks():
        mine = centres.assign(block)
        members[rows] = mine
        coder.add(block, rows.astype(np.int64), mine)
        bar.update(len(rows))
    order = np.argsort(members, kind="stable")[np.count_nonzero(members < 0) :]
    rows = np.full(n_cells, -1, dtype=np.int32)
    rows[order] = np.arange(len(order), dtype=np.int32)
    sampled = order[np.linspace(0, len(order) - 1, min(_SAMPLED_CELLS, len(order))).astype(np.int64)]
    rest = {
        "sizes": np.bincount(members[order], minlength=len(centres)),
        "sample_positions": sampled,
        "sample_lists": members[sampled].astype(np.int64),
    }
    return _Made(coder.finish(), centres, members, rows, rest)


def _quantizer(centres: np.ndarray) -> Any:
    """Index of the centres in faiss, with zeros in the dimensions that hold a cell's length."""
    import faiss

    n_codes, each = width_of(centres.shape[1])
    width = (n_codes + FOR_LENGTH) * each
    quantizer: Any
    if len(centres) > _GRAPH_FROM_CENTRES:
        quantizer = faiss.IndexHNSWFlat(width, 32)
        quantizer.hnsw.efConstruction, quantizer.hnsw.efSearch = 100, 256
    else:
        quantizer = faiss.IndexFlatL2(width)
    quantizer.add(widened(centres, width))
    return quantizer


def _write_codes(codes: Any, path: Path) -> None:
    """Write an index of faiss through a file of Python's, for faiss itself hardly reports a full disk."""
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


def _try(made: _Made, vectors: FixedVectors, groups: np.ndarray | None, *, seed: int) -> dict[str, Any]:
    """Search neighbours of cells, in all studies and in others, and record their share by lists and candidates."""
    n_cells = len(made.members)
    depths = [depth for depth in DEPTHS if depth <= max(n_cells // 10, 1)] or [min(DEPTHS)]
    shallow, deep = ([d for d in depths if (d <= _SHALLOW_NEIGHBOURS) is near] for near in (True, False))
    tried = []
    for cells, apart in cells_to_try(np.flatnonzero(made.members >= 0), groups, seed=seed + 1):
        trials = _try_cells(made, vectors, np.sort(cells[:_TRIALS]), shallow, apart)
        if deep:
            trials |= _try_cells(made, vectors, np.sort(cells[:_DEEP_TRIALS]), deep, apart)
        tried.append(trials)
    return reduce(worse_of, tried)


def _try_cells(
    made: _Made, vectors: FixedVectors, rows: np.ndarray, depths: list[int], groups: np.ndarray | None
) -> dict[str, Any]:
    """Try the index on the cells ``rows``, which ascend."""
    n_cells, queries = len(made.members), vectors.take(rows)
    order = made.centres.by_distance(queries)
    truth, counts = true_neighbours(vectors, rows, min(max(depths), n_cells - 1), groups)
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
    """Yield which of ``rows`` are of a group, and the cells of other groups, bool (n_cells,), or None for all cells."""
    if groups is None:
        yield np.arange(len(rows)), None
        return
    for group in np.unique(groups[rows]):
        yield np.flatnonzero(groups[rows] == group), groups != group


def _candidates(
    codes: ShortCodes, queries: np.ndarray, n: int, n_visits: int, allowed: np.ndarray | None
) -> np.ndarray:
    """Cells with the nearest codes, among those that are allowed, int64 (m, n); -1 for none."""
    found, wide = np.empty((len(queries), n), dtype=np.int64), codes.wide(queries)
    selector = None if allowed is None else selector_of(np.packbits(allowed, bitorder="little"))

    def work(first: int, last: int) -> None:
        with one_thread_of_faiss():
            mine = np.ascontiguousarray(wide[first:last])
            products, lists = codes.nearest_lists(mine, n_visits)
            found[first:last] = codes.search(mine, n, lists, products, selector)

    in_threads(len(queries), work)
    return found
