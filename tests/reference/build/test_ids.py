from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scim.reference.build._ids import distinct_ids

#: Study and id of each cell. Names are few, so that many are repeated, and an id may look like study and id.
CELLS = st.lists(st.tuples(st.sampled_from("st"), st.sampled_from(["a", "b", "c", "s:a", "t:b"])), max_size=25)
CUTS = st.lists(st.integers(0, 25), max_size=4)


def table(cells: list[tuple[str, str]]) -> pa.Table:
    return pa.table(
        {
            "cell_id": pa.array([name for _, name in cells], pa.string()),
            "study": pa.array([study for study, _ in cells], pa.string()).dictionary_encode(),
        }
    )


def ids(cells: list[tuple[str, str]], cuts: list[int], known: list[tuple[str, str]]) -> list[str]:
    bounds = [0, *sorted(min(cut, len(cells)) for cut in cuts), len(cells)]
    tables = [table(cells[a:b]) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
    given_ids = distinct_ids(lambda: tables, [table(known)] if known else [])
    return [name for part in given_ids for name in part.to_pylist()]


def ids_by_counting(cells: list[tuple[str, str]], known: list[tuple[str, str]]) -> list[str]:
    taken = {name for _, name in known}
    often = Counter(name for _, name in cells)
    names = [f"{study}:{name}" if often[name] > 1 or name in taken else name for study, name in cells]
    seen: Counter[str] = Counter()
    out = []
    for name in names:
        seen[name] += 1
        out.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return out


@given(cells=CELLS, cuts=CUTS)
def test_ids_are_those_of_counting_however_cells_are_cut(cells: list[tuple[str, str]], cuts: list[int]) -> None:
    found = ids(cells, cuts, [])
    assert found == ids_by_counting(cells, [])
    assert len(set(found)) == len(cells)


@given(cells=CELLS, cuts=CUTS)
def test_ids_of_cells_that_are_there_are_not_given_again(cells: list[tuple[str, str]], cuts: list[int]) -> None:
    known = [("other", "a"), ("other", "b")]
    found = ids(cells, cuts, known)
    assert found == ids_by_counting(cells, known)
    assert not set(found) & {"a", "b"}


def test_the_same_cell_is_not_added_twice() -> None:
    with pytest.raises(ValueError, match="1 cells are in the reference already, such as 'a' of study 's'"):
        ids([("s", "a"), ("s", "b")], [1], [("s", "a")])
