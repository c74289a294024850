from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from scim.reference._filters import select


@pytest.fixture
def cells() -> pa.Table:
    text = pa.array(["lung", "blood", None, "lung", "gut"]).dictionary_encode()
    return pa.table(
        {
            "cell_id": ["a", "b", "c", "d", "e"],
            "tissue": text,
            "age": pa.array([1, 2, 3, None, 5], type=pa.int64()),
            "score": [0.5, 1.5, 2.5, 3.5, 4.5],
            "primary": [True, False, True, True, False],
        }
    )


@pytest.mark.parametrize(
    ("where", "exclude", "expected"),
    [
        ({"tissue": "lung"}, None, "ad"),
        ({"tissue": ["lung", "gut"]}, None, "ade"),
        ({"tissue": np.array(["lung", "gut"])}, None, "ade"),
        ({"tissue": ["lung", None]}, None, "acd"),
        ({"tissue": ["lung", "gut"], "primary": True}, None, "ad"),
        ({"age": 2}, None, "b"),
        ({"age": np.int64(2)}, None, "b"),
        ({"score": [0.5, 4.5]}, None, "ae"),
        ({"cell_id": {"a", "e"}}, None, "ae"),
        (None, {"tissue": "lung"}, "bce"),
        (None, {"tissue": "lung", "primary": True}, "bce"),
        ({"primary": True}, {"tissue": "lung"}, "c"),
        ({}, {}, "abcde"),
        (pc.field("age") > 1, None, "bce"),
        (pc.field("tissue") == "lung", None, "ad"),
        (pc.field("tissue").isin(["lung", "gut"]) & (pc.field("score") > 1), None, "de"),
        (None, pc.field("age") > 1, "ad"),
        (pc.field("tissue").is_null(), None, "c"),
    ],
    ids=str,
)
def test_selects(cells: pa.Table, where: object, exclude: object, expected: str) -> None:
    chosen = select(cells, where=where, exclude=exclude)
    assert chosen is not None
    assert "".join(cells["cell_id"].to_numpy()[chosen]) == expected


def test_segments_with_dictionaries_of_their_own(cells: pa.Table) -> None:
    other = cells.set_column(1, "tissue", pa.array(["gut", "lung", "skin", "skin", None]).dictionary_encode())
    both = pa.concat_tables([cells, other])
    chosen = select(both, where={"tissue": ["skin", "gut"]})
    assert np.flatnonzero(chosen).tolist() == [4, 5, 7, 8]
    np.testing.assert_array_equal(chosen, select(both, where=pc.field("tissue").isin(["skin", "gut"])))


def test_no_filter(cells: pa.Table) -> None:
    assert select(cells) is None


@pytest.mark.parametrize(
    ("where", "error", "text"),
    [
        ({"tisue": "lung"}, KeyError, "where names the column 'tisue'. Did you mean 'tissue'"),
        ({"tissue": "lungs"}, ValueError, "no cell has tissue='lungs'. Did you mean 'lung'"),
        ({"tissue": ["lung", "skin"]}, ValueError, "no cell has tissue='skin'"),
        ({"age": "2"}, ValueError, "no cell has age='2'"),
        ({"tissue": []}, ValueError, "leave none of the reference's 5 cells"),
        ({"tissue": "gut", "age": 1}, ValueError, "leave none"),
        (pc.field("age") > 9, ValueError, "leave none"),
        (pc.field("tisue") == "lung", KeyError, "tisue"),
        (pc.field("tissue") > 3, TypeError, "does not fit"),
        (lambda obs: obs, TypeError, "mapping such as .* got function"),
    ],
    ids=str,
)
def test_refuses(cells: pa.Table, where: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        select(cells, where=where)
