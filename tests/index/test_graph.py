from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from anndata import AnnData

from scim import Encoder, Reference
from scim.index._exact import ExactIndex
from scim.index._graph import GraphIndex
from scim.index._plan import IndexPlan
from scim.index._vectors import SCALE, FixedVectors, to_float

WITHOUT_DIRECTION = [0, 1000, 2399]


class Graph:
    """What pynndescent offers, by comparing all cells: pynndescent compiles itself for a minute."""

    made: list[Graph] = []

    def __init__(self, data: np.ndarray, **options: Any) -> None:
        self.data, self.options, self.is_prepared = data, options, False
        Graph.made.append(self)

    def prepare(self) -> None:
        self.is_prepared = True

    def query(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows from the nearest on, the last one not found; distances that are far off."""
        assert self.is_prepared
        rows = np.argsort(-(queries @ self.data.T), axis=1)[:, :k].astype(np.int32)
        rows[:, -1] = -1
        return rows, np.zeros(rows.shape, dtype=np.float32)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Graphs that were built."""
    monkeypatch.setattr(Graph, "made", [])
    monkeypatch.setitem(sys.modules, "pynndescent", SimpleNamespace(NNDescent=Graph))
    return Graph.made


@pytest.fixture(scope="module")
def cells() -> FixedVectors:
    """Forty clouds of cells in two segments, three cells without direction."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(40, 16)), 60, axis=0) + rng.normal(size=(2400, 16)) * 0.3
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[WITHOUT_DIRECTION] = 0
    fixed = np.round(vectors * SCALE).astype(np.int16)
    return FixedVectors([fixed[:900], fixed[900:]])


@pytest.fixture(scope="module")
def queries(cells: FixedVectors) -> np.ndarray:
    return to_float(np.concatenate(cells.segments)[1:200])


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("CI"), reason="pynndescent compiles itself for a minute or more: set CI=1")
def test_finds_nearly_all_of_the_nearest(cells: FixedVectors, queries: np.ndarray) -> None:
    index = GraphIndex(cells, IndexPlan(seed=1))
    hits, exact = index.nearest(queries, 15), ExactIndex(cells).nearest(queries, 15)
    assert index._index is not None
    found = [len(np.intersect1d(a, b)) for a, b in zip(hits.indices, exact.indices, strict=True)]
    assert np.mean(found) / 15 > 0.95


def test_distances_are_exact_and_missing_hits_are_filled(
    cells: FixedVectors, queries: np.ndarray, graphs: list[Graph]
) -> None:
    hits, exact = GraphIndex(cells, IndexPlan()).nearest(queries, 15), ExactIndex(cells).nearest(queries, 15)
    assert len(graphs) == 1
    np.testing.assert_array_equal(hits.indices, exact.indices)
    np.testing.assert_allclose(hits.distances, exact.distances, atol=1e-6)


def test_graph_is_built_once_from_cells_with_a_direction(
    cells: FixedVectors, queries: np.ndarray, graphs: list[Graph]
) -> None:
    index = GraphIndex(cells, IndexPlan(seed=7))
    assert not graphs
    assert not np.isin(index.nearest(queries, 15).indices, WITHOUT_DIRECTION).any()
    index.nearest(queries[:1], 3)
    assert [len(graph.data) for graph in graphs] == [2400 - len(WITHOUT_DIRECTION)]
    assert graphs[0].options["random_state"] == 7


def test_filter_and_few_cells_are_exact(cells: FixedVectors, queries: np.ndarray, graphs: list[Graph]) -> None:
    index = GraphIndex(cells, IndexPlan())
    allowed = np.arange(2400) % 2 == 0
    for k, mask in ((10, allowed), (2000, None)):
        np.testing.assert_array_equal(
            index.nearest(queries, k, mask).indices, ExactIndex(cells).nearest(queries, k, mask).indices
        )
    few = FixedVectors([cells.segments[0][:30]])
    small = GraphIndex(few, IndexPlan())
    np.testing.assert_array_equal(small.nearest(queries, 5).indices, ExactIndex(few).nearest(queries, 5).indices)
    assert not graphs


def test_cells_that_nearly_all_have_no_direction(cells: FixedVectors, queries: np.ndarray, graphs: list[Graph]) -> None:
    empty = np.zeros((2000, 16), dtype=np.int16)
    empty[:20] = cells.segments[1][:20]
    positions = GraphIndex(FixedVectors([empty]), IndexPlan()).nearest(queries, 5).indices
    assert positions.max() < 20
    assert not graphs


def test_as_a_choice_of_build(pbmc: AnnData, encoder: Encoder, tmp_path: Path) -> None:
    keys = {"labels_key": "cell_type", "study_key": "study"}
    made = Reference.build(tmp_path / "r", pbmc, encoder, **keys, backend="pynndescent")
    assert Reference.open(tmp_path / "r").info()["backend"] == "pynndescent"
    assert made.search(made.vectors([9]), k=1).indices[0, 0] == 9
    assert {p.suffix for p in (tmp_path / "r").rglob("*")} & {".pkl", ".pickle"} == set()
