"""Cells that are unlike all labels, by their expression."""

from __future__ import annotations

import numpy as np
import pytest
from _simulated import N_GENES, N_LABELS, Simulation
from scipy import sparse

from scim.labels import LabelledLandmarks
from scim.labels._background import novelty_scores
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
    found, scores, similarity = profiles.compare(cells, deep)
    np.testing.assert_allclose(1 - similarity.max(axis=1), expected, atol=1e-5)
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
    found, scores, similarity = profiles.compare(sparse.csr_matrix(counts), np.zeros(2))
    assert found.tolist() == [1, 1] and scores.tolist() == [0, 0] and not similarity.any()


def test_each_study_counts_the_same_in_the_mean_of_a_label() -> None:
    marks = Simulation(0).landmarks()
    # Half of the cells of the first study do not change its weight.
    kept = np.flatnonzero((marks.studies > 0) | (np.arange(len(marks.codes)) % 2 == 0))
    whole, fewer = learn(marks), learn(marks.take(kept))
    assert whole is not None and fewer is not None
    logged = np.log1p(1e4 * (x := marks.cells.matrix(N_GENES).toarray()) / x.sum(axis=1, keepdims=True))
    for made, which in ((whole, np.arange(len(marks.codes))), (fewer, kept)):
        rows, codes, studies = logged[which][:, made.genes], marks.codes[which], marks.studies[which]
        by_study = [rows[(codes == 0) & (studies == study)].mean(axis=0) for study in np.unique(studies[codes == 0])]
        expected = np.mean(by_study, axis=0) - np.mean(by_study)
        np.testing.assert_allclose(made.centroids[0], expected / np.linalg.norm(expected), atol=1e-5)


def test_landmarks_are_correlated_with_labels_of_other_studies() -> None:
    marks = Simulation(0).landmarks()
    codes = np.where((marks.codes == 1) & (marks.studies > 0), -1, marks.codes)  # label 1 is in one study only
    profiles = learn(LabelledLandmarks(marks.cells, codes, marks.studies))
    assert profiles is not None
    found = profiles.left_out(marks.cells, marks.studies)
    place = profiles.codes.tolist().index(1)
    np.testing.assert_array_equal(np.isnan(found[:, place]), marks.studies == 0)
    others = np.delete(found, place, axis=1)
    assert np.isfinite(others).all() and (np.abs(others) <= 1 + 1e-5).all()
    by_label = profiles.by_label(found, N_LABELS + 1)
    np.testing.assert_array_equal(by_label[:, profiles.codes], found)
    assert np.isnan(by_label[:, N_LABELS]).all()


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
