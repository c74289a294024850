"""Unique cell ids, found without all ids in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..store import CELL_ID, STUDY

if TYPE_CHECKING:
    import pyarrow as pa

#: Known cells that are compared at a time.
_BATCH_ROWS = 262_144
#: Share of new cells with known ids from which on they are the same cells. Some barcodes of 10x occur in every study.
_SAME_CELLS_SHARE = 0.5


def distinct_ids(
    tables: Callable[[], Iterable[pa.Table]], known: Iterable[pa.Table] = (), *, is_unnamed: bool = False
) -> Iterator[Any]:
    """Yield the ids of the cells of each table. A repeated id gets its study as a prefix, and then a number.

    Ids are compared by a hash of 64 bits, so that memory is eight bytes a cell. If two different ids have the same hash
    (a chance of 3e-6 among 10 million), both get their study as a prefix, which does no harm.

    ``tables`` returns an iterator over the metadata of the new cells. Cells of the reference, ``known``, keep their
    ids: a new cell of the same study and id is a ValueError. If ``is_unnamed``, studies are named by numbers, so that
    cells with the ids of known cells may be the same cells.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    taken = _taken(tables, known, is_unnamed=is_unnamed)
    hashes = _repeated(_hash(table.column(CELL_ID)) for table in tables())

    def named(table: pa.Table) -> tuple[Any, np.ndarray]:
        ids = table.column(CELL_ID).combine_chunks()
        own = _hash(ids)
        clash = _isin(own, hashes) | pc.is_in(ids, value_set=taken).to_numpy(zero_copy_only=False)
        if not clash.any():
            return ids, own
        names = pc.if_else(pa.array(clash), _with_study(table), table.column(CELL_ID)).combine_chunks()
        own[clash] = _hash(names.filter(pa.array(clash)))
        return names, own

    still = _repeated(named(table)[1] for table in tables())
    counts: dict[str, int] = {}
    for table in tables():
        names, own = named(table)
        again = np.flatnonzero(_isin(own, still))
        if len(again):
            plain = names.to_pylist()
            for i in again:
                name = plain[i]
                counts[name] = counts.get(name, 0) + 1
                plain[i] = name if counts[name] == 1 else f"{name}#{counts[name]}"
            names = pa.array(plain, type=pa.string())
        yield names


def _taken(tables: Callable[[], Iterable[pa.Table]], known: Iterable[pa.Table], *, is_unnamed: bool) -> Any:
    """Return the ids that new and known cells share. Raise an error if the cells are the same."""
    import pyarrow as pa
    import pyarrow.compute as pc

    nothing = pa.array([], type=pa.string())
    there = list(known)
    if not there:
        return nothing
    ids = pa.chunked_array([c for t in tables() for c in t.column(CELL_ID).chunks], type=pa.string())
    full = pa.chunked_array([c for t in tables() for c in _with_study(t).chunks], type=pa.string())
    own: list[Any] = [nothing]
    same: list[Any] = [nothing]
    for table in there:
        for batch in table.select([CELL_ID, STUDY]).to_batches(max_chunksize=_BATCH_ROWS):
            part = pa.Table.from_batches([batch])
            column, whole = part.column(CELL_ID), _with_study(part)
            own += column.filter(pc.is_in(column, value_set=ids)).chunks
            same += column.filter(pc.is_in(column, value_set=full)).chunks
            same += whole.filter(pc.is_in(whole, value_set=full)).chunks
    taken = pa.concat_arrays(own)
    shared = pc.is_in(ids, value_set=taken)
    again = pc.is_in(full, value_set=pa.concat_arrays(same))
    if is_unnamed and pc.mean(shared).as_py() >= _SAME_CELLS_SHARE:
        again = pc.or_(again, shared)
    if n := pc.sum(again).as_py():
        first = pc.index(again, True).as_py()
        study = pa.concat_tables([t.select([STUDY]) for t in tables()], promote_options="permissive")
        raise ValueError(
            f"{n} cells are in the reference already, such as {ids[first].as_py()!r} of study "
            f"{study.column(STUDY)[first].as_py()!r}. Leave them out. If these are other cells with the same ids, give "
            "their study another name (study_key, or a mapping of names to data)."
        )
    return taken


def _with_study(table: pa.Table) -> Any:
    """Join study and id of each cell."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(table.column(STUDY).cast(pa.string()), table.column(CELL_ID), ":")


def _hash(ids: Any) -> np.ndarray:
    """Hash each text, uint64 (n,)."""
    return np.asarray(pd.util.hash_array(np.asarray(ids.to_numpy(zero_copy_only=False), object), categorize=False))


def _repeated(hashes: Iterable[np.ndarray]) -> np.ndarray:
    """Return the hashes that occur more than once, ascending."""
    ranked = np.concatenate([np.empty(0, dtype=np.uint64), *hashes])
    ranked.sort()
    return np.unique(ranked[1:][ranked[1:] == ranked[:-1]])


def _isin(hashes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    if not len(wanted):
        return np.zeros(len(hashes), dtype=bool)
    place = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
    return np.asarray(wanted[place] == hashes)
