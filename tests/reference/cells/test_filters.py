from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from scim import Encoder, Reference
from scim.reference.cells._filters import select
from scim.reference.store._tables import to_table


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
        ({"tissue": ["lung", float("nan")]}, None, "acd"),
        ({"age": pd.NA}, None, "d"),
        ({"tissue": ["lung", "gut"], "primary": True}, None, "ad"),
        ({"age": 2}, None, "b"),
        ({"age": np.int64(2)}, None, "b"),
        ({"score": [0.5, 4.5]}, None, "ae"),
        pytest.param({"cell_id": {"a", "e"}}, None, "ae", id="a set of values"),
        ({"tissue": ["lungs", "intestine"]}, None, "ade"),
        ({"tissue": "UBERON:0002048"}, None, "ad"),
        (None, {"tissue": "respiratory system"}, "bce"),
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


def test_parts_and_kinds_are_found_in_every_segment() -> None:
    def part(tissues: list[str | None], diseases: list[str]) -> pa.Table:
        return pa.table(
            {"tissue": pa.array(tissues).dictionary_encode(), "disease": pa.array(diseases).dictionary_encode()}
        )

    both = pa.concat_tables(
        [
            part(["lower lobe of left lung", "blood", None, "ileum"], ["COVID-19", "normal", "melanoma", "healthy"]),
            part(["blood (PBMC)", "Lung", "colon"], ["PATO:0000461", "influenza || asthma", "MONDO:0100096"]),
        ]
    )

    def found(where: dict[str, object] | None = None, exclude: dict[str, object] | None = None) -> list[int]:
        return np.flatnonzero(select(both, where=where, exclude=exclude)).tolist()

    assert found({"tissue": "lung"}) == [0, 5]
    assert found({"tissue": ["lung", "blood"]}) == [0, 1, 4, 5]
    assert found({"tissue": ["blood (PBMC)"]}) == [4]  # and not all blood
    assert found({"tissue": ["intestine", None]}) == [2, 3, 6]
    assert found(exclude={"tissue": "intestine"}) == [0, 1, 2, 4, 5]
    assert found({"disease": "covid"}) == [0, 6]
    assert found({"disease": "normal"}) == [1, 3, 4]
    assert found({"disease": "cancer"}) == [2]
    assert found({"tissue": "lung", "disease": ["viral infectious disease"]}) == [0, 5]
    assert found({"disease": "asthma"}) == [5]
    # Expressions compare text.
    assert select(both, where=pc.field("tissue") == "blood").sum() == 1
    with pytest.raises(ValueError, match="no cell has disease='psoriasis', or a kind of it. The reference has: 'COVID"):
        found({"disease": "psoriasis"})


def test_segments_with_dictionaries_of_their_own(cells: pa.Table) -> None:
    other = cells.set_column(1, "tissue", pa.array(["gut", "lung", "skin", "skin", None]).dictionary_encode())
    both = pa.concat_tables([cells, other])
    chosen = select(both, where={"tissue": ["skin", "gut"]})
    assert np.flatnonzero(chosen).tolist() == [4, 5, 7, 8]
    np.testing.assert_array_equal(chosen, select(both, where=pc.field("tissue").isin(["skin", "gut"])))


CELLS = st.lists(
    st.tuples(st.sampled_from(["lung", "gut", "skin", None]), st.sampled_from([1, 2, 3, None]), st.booleans()),
    min_size=1,
    max_size=20,
)


@given(cells=CELLS, cut=st.integers(0, 20), data=st.data())
def test_filters_are_masks_of_pandas(cells: list[tuple], cut: int, data: st.DataObject) -> None:
    table = pd.DataFrame(cells, columns=["tissue", "age", "primary"]).astype({"tissue": object, "age": "Int64"})

    def arrow(part: pd.DataFrame) -> pa.Table:
        return pa.table(
            {
                "tissue": pa.array(part["tissue"], pa.string()).dictionary_encode(),
                "age": pa.array(part["age"], pa.int64()),
                "primary": pa.array(part["primary"], pa.bool_()),
            }
        )

    def draw_filter() -> dict[str, list]:
        columns = data.draw(st.lists(st.sampled_from(list(table)), unique=True, max_size=2))
        values = {name: [None if pd.isna(value) else value for value in table[name].unique()] for name in columns}
        return {name: data.draw(st.lists(st.sampled_from(values[name]), min_size=1)) for name in columns}

    def mask(condition: dict[str, list], of_none: bool) -> np.ndarray:
        passed = np.full(len(table), bool(condition) or of_none)
        for name, values in condition.items():
            there = [value for value in values if value is not None]
            passed &= (table[name].isin(there) | (table[name].isna() & (None in values))).to_numpy()
        return passed

    where, exclude = draw_filter(), draw_filter()
    expected = mask(where, True) & ~mask(exclude, False)
    both = pa.concat_tables([arrow(table[:cut]), arrow(table[cut:])])
    if expected.any():
        np.testing.assert_array_equal(select(both, where=where, exclude=exclude), expected)
    else:
        with pytest.raises(ValueError, match="leave none"):
            select(both, where=where, exclude=exclude)


def test_no_filter(cells: pa.Table) -> None:
    assert select(cells) is None


@pytest.mark.parametrize(
    ("where", "error", "text"),
    [
        ({"tisue": "lung"}, KeyError, "where names the column 'tisue'. Did you mean 'tissue'"),
        ({"tissue": "lugn"}, ValueError, "no cell has tissue='lugn'. Did you mean 'lung'. Available: 'blood', 'gut'"),
        (
            {"tissue": ["lung", "skin"]},
            ValueError,
            "no cell has tissue='skin', or a part of it.* has: 'blood', 'gut', 'l",
        ),
        ({"tissue": "left lung"}, ValueError, "reference has 'lung', and 'left lung' is a part of it. Use that."),
        ({"tissue": "pulmoo"}, ValueError, "no cell has tissue='pulmoo'. Did you mean 'pulmo'. Available: 'blood'"),
        ({"age": "2"}, ValueError, r"where: age holds numbers, and '2' is text\. Write 2 without quotes\.$"),
        ({"age": [1, "old"]}, ValueError, r"age holds numbers, and 'old' is text\. Available: 1, 2, 3, 5\."),
        ({"age": "nan"}, ValueError, r"age holds numbers, and 'nan' is text\. Available: 1, 2"),
        ({"score": " 1.5"}, ValueError, r"score holds numbers, and ' 1\.5' is text\. Write 1\.5 without quotes\."),
        (
            {"primary": "false"},
            ValueError,
            r"primary holds True and False, and 'false' .* Write False without quotes",
        ),
        ({"primary": "yes"}, ValueError, r"primary holds True and False, and 'yes' is text\. Available: False, True\."),
        ({"cell_id": "f"}, ValueError, r"no cell has cell_id='f'\. Available: 'a', 'b'"),
        ({"age": 2**70}, ValueError, f"no cell has age={2**70}. .*Available: 1, 2"),
        ({"age": [2, 1.5]}, ValueError, "no cell has age=1.5"),
        ({"score": 2**70}, ValueError, "no cell has score=1180591"),
        ({"score": 10**400}, ValueError, "no cell has score=1000"),
        ({"age": [[1, 2]]}, TypeError, r"age must be one value, or a list of values, got \[1, 2\]"),
        ({"tissue": []}, ValueError, "leave none of the reference's 5 cells"),
        ({"tissue": "gut", "age": 1}, ValueError, "leave none"),
        (pc.field("age") > 9, ValueError, "leave none"),
        (pc.field("tisue") == "lung", KeyError, "tisue"),
        (pc.field("tissue") > 3, TypeError, "does not fit"),
        pytest.param(lambda obs: obs, TypeError, "mapping such as .* got function", id="a function"),
    ],
    ids=str,
)
def test_refuses(cells: pa.Table, where: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        select(cells, where=where)


def test_numbers_of_single_precision_are_found_as_they_are_written() -> None:
    values = np.array([0.1, 1 / 3, np.inf, np.nan, 16_777_216, 1e-20], dtype=np.float32)
    cells = to_table(pd.DataFrame({"score": values}))
    for wanted, expected in ((0.1, [0]), (values[0], [0]), ([values[1]], [1]), (np.inf, [2]), (16_777_216, [4])):
        chosen = select(cells, where={"score": wanted})
        assert chosen is not None and np.flatnonzero(chosen).tolist() == expected
    chosen = select(cells, where=pc.field("score") == 0.1)
    assert chosen is not None and np.flatnonzero(chosen).tolist() == [0]
    np.testing.assert_array_equal(cells["score"].to_numpy().astype(np.float32), values)


def test_values_that_only_removed_cells_have_are_not_suggested(cells: pa.Table) -> None:
    living = np.array([True, False, True, True, True])
    with pytest.raises(ValueError, match="no cell has tissue='bloods'. Available: 'gut', 'lung'."):
        select(cells, where={"tissue": "bloods"}, living=living)
    with pytest.raises(ValueError, match="Available: 0.5, 2.5, 3.5, 4.5."):
        select(cells, where={"score": 1.4}, living=living)


def test_columns_of_expressions_have_names(reference: Reference) -> None:
    with pytest.raises(ValueError, match=r"names a column by its position, FieldPath\(0\)"):
        reference.allowed(where=(pc.field("study") == "first") & (pc.field(0) != "x"))
    with pytest.raises(KeyError, match="names the column 'stdy'.*study"):
        reference.allowed(where=pc.field("stdy") == "first")


@pytest.mark.parametrize("value", [b"first", np.array("nowhere")])
def test_bytes_and_single_values_are_one_value(reference: Reference, value: object) -> None:
    with pytest.raises(ValueError, match="no cell has study="):
        reference.allowed(where={"study": value})


@pytest.mark.parametrize("scale", [1e-30, 1e-24, 1e38])
def test_vectors_of_any_length_are_searched(reference: Reference, scale: float) -> None:
    vectors = reference.vectors(range(5))
    found = reference.search(vectors / np.abs(vectors).max() * np.float32(scale), k=3)
    np.testing.assert_array_equal(found.indices, reference.search(vectors, k=3).indices)


@pytest.fixture
def dated(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> Reference:
    """Cells of the first 70 days of 2020, ten of each, the days written in five ways; three have no date."""
    day = pd.Series(pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(700) % 70, unit="D"), pbmc.obs_names)
    pbmc.obs["date"] = day.where(np.arange(700) >= 3)
    pbmc.obs["plain"] = [x.date() for x in day]
    pbmc.obs["dealt"] = day.astype("category")
    pbmc.obs["time"] = day + pd.to_timedelta(np.arange(700) % 2 * 13, unit="h")
    pbmc.obs["zoned"] = pbmc.obs["time"].dt.tz_localize("Europe/Berlin")
    columns = {"obs_columns": ["date", "plain", "dealt", "time", "zoned"], "landmarks": "none"}
    return Reference.build(tmp_path / "r", pbmc, encoder, labels_key="cell_type", study_key="study", **columns)


def test_dates_are_text_that_sorts_as_they_do(dated: Reference) -> None:
    days = [f"{day:%Y-%m-%d}" for day in pd.date_range("2020-01-01", periods=70)]
    assert dated.obs["date"].isna().sum() == 3
    for column in ("plain", "dealt"):
        assert list(dated.obs[column]) == days * 10
    assert list(dated.obs["time"][:3]) == ["2020-01-01", "2020-01-02 13:00:00", "2020-01-03"]
    assert list(dated.obs["zoned"][:2]) == ["2019-12-31 23:00:00", "2020-01-02 12:00:00"]
    assert dated.allowed(where=pc.field("date") >= "2020-02-01").sum() == 390
    assert dated.allowed(where=pc.field("date") <= "2020-01-02").sum() == 20 - 2
    assert dated.allowed(where=(pc.field("time") > "2020-01-02") & (pc.field("time") < "2020-01-03")).sum() == 10
    with pytest.raises(TypeError, match='does not fit.* Dates are stored as text: write "2020-01-31"'):
        dated.allowed(where=pc.field("date") >= pd.Timestamp("2020-02-01"))


DAY = datetime.date(2020, 1, 2)


@pytest.mark.parametrize("column", ["date", "plain", "dealt"])
@pytest.mark.parametrize(
    "day",
    ["2020-01-02", DAY, pd.Timestamp(DAY), np.datetime64(DAY), datetime.datetime(2020, 1, 2), np.datetime64(DAY, "ns")],
    ids=repr,
)
def test_days_are_found(dated: Reference, column: str, day: object) -> None:
    expected = np.flatnonzero((np.arange(700) % 70 == 1) & ((np.arange(700) >= 3) | (column != "date")))
    np.testing.assert_array_equal(np.flatnonzero(dated.allowed(where={column: day})), expected)
    np.testing.assert_array_equal(np.flatnonzero(~dated.allowed(exclude={column: [day]})), expected)


def test_moments_and_many_days_are_found(dated: Reference) -> None:
    moment = pd.Timestamp("2020-01-02 13:00")
    for where in ({"time": moment}, {"zoned": moment.tz_localize("Europe/Berlin")}, {"time": "2020-01-02 13:00:00"}):
        assert dated.allowed(where=where).sum() == 10
    assert dated.allowed(where={"plain": pd.date_range("2020-01-01", "2020-01-03")}).sum() == 30
    assert dated.allowed(where={"date": pd.NaT}).sum() == 3
    with pytest.raises(ValueError, match="no cell has plain='2021-01-01'. Did you mean '2020-01-01'"):
        dated.allowed(where={"plain": datetime.date(2021, 1, 1)})
