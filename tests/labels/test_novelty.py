"""Cells that are unlike all labels, by their expression."""

from __future__ import annotations

import numpy as np
import pytest
from _simulated import N_GENES, N_LABELS, Simulation
from scipy import sparse

from scim.labels import LabelledLandmarks
from scim.labels._calibration import novelty_scores
from scim.labels._novelty import Profiles

EVERY = np.ones(N_GENES, dtype=bool)
CODES = np.repeat(np.arange(N_LABELS), 50)


def learn(marks: LabelledLandmarks, measured: np.ndarray = EVERY) -> Profiles | None:
    return Profiles.of(marks.cells, marks.codes, marks.studies, measured, seed=0)


def pvalues(profiles: Profiles, counts: sparse.csr_matrix) -> np.ndarray:
    return profiles.compare(counts, counts @ profiles.measured.astype(float))[0]


def test_like_cells_are_rarely_novel_and_other_cells_are() -> None:
    like, other = [], []
    for seed in range(5):
        simulation = Simulation(seed)
        profiles = learn(simulation.landmarks())
        assert profiles is not None
        like.append(pvalues(profiles, simulation.study(CODES)))
        simulation.profiles = simulation.profiles[:, simulation.rng.permutation(N_GENES)]
        other.append(pvalues(profiles, simulation.study(CODES)))
    for p in (0.05, 0.2, 0.5):
        assert np.mean(np.concatenate(like) <= p) == pytest.approx(p, abs=0.13)
    assert np.mean(np.concatenate(other) <= 0.05) > 0.9


def test_distances_are_one_minus_the_largest_correlation() -> None:
    simulation = Simulation(0)
    marks = simulation.landmarks()
    profiles = learn(marks)
    assert profiles is not None
    counts, own = simulation.study(CODES[::10]).toarray(), marks.cells.matrix(N_GENES).toarray()
    logged, ours = (np.log1p(1e4 * x / x.sum(axis=1, keepdims=True)) for x in (counts, own))
    means = np.stack([ours[marks.codes == label].mean(axis=0) for label in range(N_LABELS)])
    expected = 1 - np.corrcoef(logged, means)[: len(logged), len(logged) :].max(axis=1)
    cells = sparse.csr_matrix(counts)
    deep = np.full(len(counts), 1e6)  # landmarks are not thinned
    found, scores = profiles.compare(cells, deep)
    background = profiles.background(14)
    larger = (background >= expected[:, None] - 1e-7).sum(axis=1)
    np.testing.assert_allclose(found, (1 + larger) / (1 + len(background)), atol=2 / len(background))
    np.testing.assert_allclose(scores, novelty_scores(background, expected), atol=1e-4)


def test_novelty_is_one_half_where_few_comparable_cells_are() -> None:
    background = np.sort(np.random.default_rng(0).normal(0.3, 0.05, 5_000))
    middle, high = np.quantile(background, [0.5, 0.95])
    values = np.array([0, middle, high, middle + 3 * (high - middle), np.inf])
    np.testing.assert_allclose(novelty_scores(background, values), [0, 0, 0.5, 0.75, 1])
    assert novelty_scores(np.empty(0), values).tolist() == [0] * 5


def test_cells_without_counts_are_not_novel() -> None:
    profiles = learn(Simulation(0).landmarks(), measured=np.arange(N_GENES) < 200)
    assert profiles is not None
    counts = np.zeros((2, N_GENES), dtype=np.float32)
    counts[1, 250] = 5  # a gene that was not measured
    found, scores = profiles.compare(sparse.csr_matrix(counts), np.zeros(2))
    assert found.tolist() == [1, 1] and scores.tolist() == [0, 0]


def test_each_cell_is_compared_with_landmarks_of_its_depth() -> None:
    simulation = Simulation(0, depth=2_000)
    marks = simulation.landmarks()
    deep = simulation.study(CODES)
    simulation.depth = 150
    shallow = simulation.study(CODES)
    profiles = learn(marks)
    assert profiles is not None
    assert np.mean(profiles.compare(shallow, np.full(len(CODES), 2_000.0))[0] <= 0.05) > 0.5
    alone = pvalues(profiles, shallow)
    assert np.mean(alone <= 0.05) < 0.15
    # What a cell gets does not depend on the other cells.
    together = pvalues(profiles, sparse.vstack([deep, shallow], format="csr"))
    np.testing.assert_array_equal(together[len(CODES) :], alone)
    again = learn(marks)
    assert again is not None
    np.testing.assert_array_equal(again.background(7), profiles.background(7))


def test_studies_of_a_panel_are_left_out() -> None:
    marks = Simulation(0).landmarks(n_studies=3)
    values = marks.cells.values.copy()
    panel = np.repeat(marks.studies == 0, np.diff(marks.cells.indptr)) & (marks.cells.genes >= 100)
    values[panel] = 0
    cells = type(marks.cells)(marks.cells.rows, marks.cells.indptr, marks.cells.genes, values)
    profiles = learn(LabelledLandmarks(cells, marks.codes, marks.studies))
    assert profiles is not None and len(profiles.background(9)) == (marks.studies > 0).sum()


def test_studies_that_share_no_label_say_nothing() -> None:
    marks = Simulation(0).landmarks(n_studies=2)
    split = np.where((marks.codes < 2) == (marks.studies == 0), marks.codes, -1)
    assert learn(LabelledLandmarks(marks.cells, split, marks.studies)) is None
    assert learn(marks.take(np.flatnonzero(marks.studies == 0))) is None
