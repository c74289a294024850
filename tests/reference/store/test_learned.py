"""Calibration and landmarks as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scim.labels import Calibration, Landmarks
from scim.reference import ReferenceFolderError
from scim.reference.store._learned import (
    load_calibration,
    load_segment_landmarks,
    save_calibration,
    save_landmarks,
)


def test_round_trip_and_damage(tmp_path: Path) -> None:
    made = Calibration(np.array([0.1, 0.5], dtype=np.float32), "within-study", doubted=np.array([3, 7]))
    save_calibration(tmp_path / "c.npz", made)
    loaded = load_calibration(tmp_path / "c.npz")
    np.testing.assert_array_equal(loaded.background, made.background)
    np.testing.assert_array_equal(loaded.doubted, [3, 7])
    assert loaded.kind == "within-study"
    for content in (b"", b"PK\x03\x04 no zip", b"text"):
        (tmp_path / "c.npz").write_bytes(content)
        with pytest.raises(ReferenceFolderError, match="c.npz is damaged"):
            load_calibration(tmp_path / "c.npz")


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "landmarks.npz"
    if damage is None:
        rows, nothing = np.array([0, 9]), np.zeros(0)
        save_landmarks(path, Landmarks(rows, np.array([0, 0, 0]), nothing.astype(np.int32), nothing.astype(np.float32)))
    else:
        path.write_bytes(damage)
    with pytest.raises(ReferenceFolderError, match=r"landmarks\.npz"):
        load_segment_landmarks(path, n_cells=5, n_genes=10)
