from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from scim.reference.store._tables import take_rows

CELL = st.tuples(
    st.sampled_from(["lung", "blood", "gut", None]),
    st.text(max_size=3) | st.none(),
    st.integers(-(2**40), 2**40) | st.none(),
    st.booleans(),
)


def chunked(cells: list[tuple], cuts: list[int]) -> pa.Table:
    """Cells in chunks, each with a dictionary of its own."""
    bounds = [0, *sorted(min(cut, len(cells)) for cut in cuts), len(cells)]
    parts = []
    for a, b in zip(bounds[:-1], bounds[1:], strict=True):
        columns = list(zip(*cells[a:b], strict=True)) or [(), (), (), ()]
        parts.append(
            pa.table(
                {
                    "tissue": pa.array(columns[0], pa.string()).dictionary_encode(),
                    "name": pa.array(columns[1], pa.string()),
                    "age": pa.array(columns[2], pa.int64()),
                    "primary": pa.array(columns[3], pa.bool_()),
                }
            )
        )
    return pa.concat_tables(parts)


@given(
    cells=st.lists(CELL, min_size=1, max_size=20),
    cuts=st.lists(st.integers(0, 20), max_size=4),
    rows=st.lists(st.integers(0, 19), max_size=12),
)
def test_rows_are_taken_in_their_order_however_cells_are_cut(
    cells: list[tuple], cuts: list[int], rows: list[int]
) -> None:
    wanted = [row % len(cells) for row in rows]
    taken = take_rows(chunked(cells, cuts), np.array(wanted, dtype=np.int64))
    found = [tuple(row.values()) for row in taken.to_pylist()]
    assert found == [cells[row] for row in wanted]
    assert taken.schema == chunked(cells, cuts).schema


def test_only_the_columns_that_are_asked_for() -> None:
    cells = chunked([("lung", "a", 1, True), ("gut", "b", 2, False)], [1])
    assert take_rows(cells, np.array([1]), ["age", "tissue"]).to_pylist() == [{"age": 2, "tissue": "gut"}]
