"""Cell ids of which no two are alike, found without having all of them in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..store import CELL_ID, STUDY

if TYPE_CHECKING:
    import pyarrow as pa


def distinct_ids(
    tables: Callable[[], Iterable[pa.Table]], known: Iterable[pa.Table] = (), *, is_unnamed: bool = False
) -> Iterator[Any]:
    """Yield the ids of each table's cells: a repeated one gets its study in front, and then a number.

    Ids are compared by a hash of 64 bits, so that eight bytes a cell are kept. Two that are not alike but have one hash
    (a chance of 3e-6 among 10 million) get their study in front as well, which does no harm.

    Parameters
    ----------
    tables
        Gives the metadata of the cells that are new, table by table, each time that it is called.
    known
        Metadata of cells that are there already, and keep their ids.
    is_unnamed
        The studies got their names by counting: cells that are there under their ids may be the same.

    Raises
    ------
    ValueError
        A cell of the same study and id is there already.
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
    """Ids that new cells and known ones have in common; raise if the cells themselves are the same."""
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
        for batch in table.select([CELL_ID, STUDY]).to_batches(max_chunksize=262_144):
            part = pa.Table.from_batches([batch])
            column, whole = part.column(CELL_ID), _with_study(part)
            own += column.filter(pc.is_in(column, value_set=ids)).chunks
            same += column.filter(pc.is_in(column, value_set=full)).chunks
            same += whole.filter(pc.is_in(whole, value_set=full)).chunks
    taken = pa.concat_arrays(own)
    shared = pc.is_in(ids, value_set=taken)
    again = pc.is_in(full, value_set=pa.concat_arrays(same))
    # Some barcodes of 10x occur in every study; half of them or more are the same cells.
    if is_unnamed and pc.mean(shared).as_py() >= 0.5:
        again = pc.or_(again, shared)
    if n := pc.sum(again).as_py():
        first = pc.index(again, True).as_py()
        study = pa.concat_tables([t.select([STUDY]) for t in tables()], promote_options="permissive")
        raise ValueError(
            f"{n} cells are in the reference already, such as {ids[first].as_py()!r} of study "
            f"{study.column(STUDY)[first].as_py()!r}. Leave them out; if they are others of the same names, name their "
            "study (study_key, or a mapping of names to data) another way."
        )
    return taken


def _with_study(table: pa.Table) -> Any:
    """Study and id of each cell, as text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(table.column(STUDY).cast(pa.string()), table.column(CELL_ID), ":")


def _hash(ids: Any) -> np.ndarray:
    """Hash of each text, uint64 (n,)."""
    return np.asarray(pd.util.hash_array(np.asarray(ids.to_numpy(zero_copy_only=False), object), categorize=False))


def _repeated(hashes: Iterable[np.ndarray]) -> np.ndarray:
    """Hashes that occur more than once, ascending."""
    ranked = np.concatenate([np.empty(0, dtype=np.uint64), *hashes])
    ranked.sort()
    return np.unique(ranked[1:][ranked[1:] == ranked[:-1]])


def _isin(hashes: np.ndarray, some: np.ndarray) -> np.ndarray:
    if not len(some):
        return np.zeros(len(hashes), dtype=bool)
    place = np.minimum(np.searchsorted(some, hashes), len(some) - 1)
    return np.asarray(some[place] == hashes)
