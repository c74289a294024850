from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData

from scim import Encoder, Reference
from scim.index._exact import ExactIndex
from scim.index._graph import GraphIndex
from scim.index._vectors import SCALE, to_float

pytest.importorskip("pynndescent")


@pytest.fixture(scope="module")
def segments() -> list[np.ndarray]:
    """Forty clouds of cells in two segments, three cells without direction."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(40, 16)), 60, axis=0) + rng.normal(size=(2400, 16)) * 0.3
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[0, 1000, 2399]] = 0
    fixed = np.round(vectors * SCALE).astype(np.int16)
    return [fixed[:900], fixed[900:]]


@pytest.fixture(scope="module")
def backend(segments: list[np.ndarray]) -> GraphIndex:
    return GraphIndex(segments, seed=1)


@pytest.fixture(scope="module")
def queries(segments: list[np.ndarray]) -> np.ndarray:
    return to_float(np.concatenate(segments)[1:200])


def test_finds_nearly_all_of_the_nearest(backend: GraphIndex, segments: list[np.ndarray], queries: np.ndarray) -> None:
    positions, distances = backend.search(queries, 15, None)
    expected, exact = ExactIndex(segments).search(queries, 15, None)
    recall = np.mean([len(np.intersect1d(a, b)) for a, b in zip(positions, expected, strict=True)]) / 15
    assert recall > 0.95
    assert backend._index is not None
    # Distances are those of the stored vectors, as in exact search.
    same = positions == expected
    np.testing.assert_allclose(distances[same], exact[same], atol=1e-6)
    assert (np.diff(distances, axis=1) >= 0).all()
    assert not np.isin(positions, [0, 1000, 2399]).any()


def test_seed(segments: list[np.ndarray], backend: GraphIndex, queries: np.ndarray) -> None:
    again = GraphIndex(segments, seed=1).search(queries, 15, None)
    np.testing.assert_array_equal(again[0], GraphIndex(segments, seed=1).search(queries, 15, None)[0])


def test_filter_and_few_cells_are_exact(segments: list[np.ndarray], backend: GraphIndex, queries: np.ndarray) -> None:
    allowed = np.arange(2400) % 2 == 0
    for k, mask in ((10, allowed), (2000, None)):
        np.testing.assert_array_equal(
            backend.search(queries, k, mask)[0], ExactIndex(segments).search(queries, k, mask)[0]
        )
    small = GraphIndex([segments[0][:30]])
    np.testing.assert_array_equal(
        small.search(queries, 5, None)[0], ExactIndex([segments[0][:30]]).search(queries, 5, None)[0]
    )
    assert small._index is None


def test_cells_that_nearly_all_have_no_direction(segments: list[np.ndarray], queries: np.ndarray) -> None:
    empty = np.zeros((2000, 16), dtype=np.int16)
    empty[:20] = segments[1][:20]
    positions, _ = GraphIndex([empty]).search(queries, 5, None)
    assert positions.max() < 20


def test_as_a_choice_of_build(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    keys = {"labels_key": "cell_type", "study_key": "study"}
    made = Reference.build(tmp_path / "r", pbmc, encoder, **keys, backend="pynndescent")
    assert Reference.open(tmp_path / "r").info()["backend"] == "pynndescent"
    assert made.search(made.vectors([9]), k=1).indices[0, 0] == 9
    assert {p.suffix for p in (tmp_path / "r").rglob("*")} & {".pkl", ".pickle"} == set()


def test_not_installed(pbmc: AnnData, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynndescent", None)
    with pytest.raises(ImportError, match=r"pip install 'scim-tools\[pynndescent\]'"):
        Reference.build(tmp_path / "r", pbmc, encoder, labels_key="cell_type", study_key="study", backend="pynndescent")
    assert not any(tmp_path.iterdir())
