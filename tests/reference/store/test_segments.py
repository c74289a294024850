from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from scim.index._vectors import FixedVectors, to_float
from scim.reference import ReferenceFolderError
from scim.reference.store._columns import dictionary, join_cells
from scim.reference.store._segments import SegmentWriter, open_cells, open_vectors
from scim.reference.store._tables import to_table


def cells(n: int, **columns: object) -> pd.DataFrame:
    ids = [f"c{i}" for i in range(n)]
    return pd.DataFrame({"cell_id": ids, "label": "x", "term_id": "x", "study": "s", **columns})


def test_fixed_point_is_fine_enough(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(500, 128))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[7] = 0
    writer = SegmentWriter(tmp_path / "0001")
    for part in (vectors[:200], vectors[200:]):
        writer.append(part)
    writer.describe(cells(500))
    writer.close(np.array([f"c{i}" for i in range(500)]))
    stored = open_vectors(tmp_path / "0001", 500, 128)
    assert stored.dtype == np.int16
    restored = to_float(np.asarray(stored))
    assert np.abs(restored - vectors).max() < 4e-5
    # Far below the distances between cells.
    assert np.abs(restored @ restored.T - vectors @ vectors.T).max() < 2e-4
    assert not restored[7].any()
    rows = np.array([499, 0, 250])
    np.testing.assert_array_equal(FixedVectors([stored[:251], stored[251:]]).take(rows), restored[rows])


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path / "0001")
    writer.append(np.eye(3))
    writer.describe(cells(3))
    writer.close(np.array(["a", "b", "c"]))
    assert open_cells(tmp_path / "0001", 3)["cell_id"].to_pylist() == ["a", "b", "c"]
    with pytest.raises(ReferenceFolderError, match="vectors.i16 does not hold 4 vectors of 3"):
        open_vectors(tmp_path / "0001", 4, 3)
    with pytest.raises(ReferenceFolderError, match="cells.arrow is not the metadata of 4 cells"):
        open_cells(tmp_path / "0001", 4)
    (tmp_path / "0001" / "cells.arrow").write_bytes(b"no arrow")
    with pytest.raises(ReferenceFolderError, match="cells.arrow is damaged"):
        open_cells(tmp_path / "0001", 3)


def test_joined_columns() -> None:
    joined = join_cells(
        [
            to_table(cells(2, a=[1, 2], b=["p", None], c=[1, 2], d=[1.5, np.nan])),
            to_table(cells(2, a=[0.5, 1], b=["q", "p"], c=["u", "v"])),
            to_table(cells(1, e=[True])),
        ]
    )
    assert joined["a"].to_pylist() == [1, 2, 0.5, 1, None]
    assert joined["b"].to_pylist() == ["p", None, "q", "p", None]
    assert joined["c"].to_pylist() == ["1", "2", "u", "v", None]
    assert joined["d"].to_pylist() == [1.5, None, None, None, None]
    assert joined["e"].to_pylist() == [None, None, None, None, True]
    codes, values = dictionary(joined, "b")
    assert [values[i] if i >= 0 else None for i in codes] == ["p", None, "q", "p", None]
    assert pa.types.is_dictionary(joined["c"].type)


def test_codes_of_any_column() -> None:
    table = to_table(cells(3, number=[5, 4, 5], f=[True, False, True], nothing=[None] * 3))
    assert dictionary(table, "number")[0].tolist() == [0, 1, 0]
    assert dictionary(table, "f")[1] == [True, False]
    assert dictionary(table, "nothing")[0].tolist() == [-1, -1, -1]
