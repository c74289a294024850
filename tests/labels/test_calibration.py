from __future__ import annotations

import numpy as np
import pytest

from scim import Reference
from scim.index._vectors import SCALE, FixedVectors, to_fixed
from scim.labels import _calibration
from scim.labels._calibration import Calibration, calibrate


def test_background_is_to_other_studies(reference: Reference) -> None:
    vectors = reference.vectors().astype(np.float64)
    studies = reference.obs["study"].to_numpy()
    distances = 1 - vectors @ vectors.T
    distances[studies[:, None] == studies] = np.inf
    assert reference.label_model.calibration_kind == "cross-study"
    np.testing.assert_allclose(reference.label_model.background(), np.sort(distances.min(axis=1)), atol=1e-6)


def test_background_within_one_study() -> None:
    vectors = np.round(np.array([[1, 0], [0, 1], [0.6, 0.8]]) * SCALE).astype(np.int16)
    made = calibrate(FixedVectors([vectors]), np.zeros(3), np.full(3, -1), n_labels=0, seed=0)
    assert made.kind == "within-study"
    np.testing.assert_allclose(made.background, [0.2, 0.2, 0.4], atol=1e-4)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_cells_for_a_background(n: int) -> None:
    made = calibrate(
        FixedVectors([np.full((n, 2), 100, dtype=np.int16)]), np.zeros(n), np.full(n, -1), n_labels=0, seed=0
    )
    assert len(made.background) == 0
    assert made.pvalue(np.array([0.0, np.inf])).tolist() == [1, 1]


def test_small_studies_have_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_calibration, "N_CELLS", 30)
    rng = np.random.default_rng(0)
    studies = np.repeat([0, 1, 2], [1000, 10, 5])
    seen: list[np.ndarray] = []

    def spy(vectors: object, queries: object, query_groups: np.ndarray, *_: object) -> np.ndarray:
        seen.append(query_groups)
        return np.ones(len(query_groups), dtype=np.float32)

    monkeypatch.setattr(_calibration, "nearest_elsewhere", spy)
    vectors = rng.integers(-SCALE, SCALE, size=(1015, 4)).astype(np.int16)
    for seed in (0, 0, 1):
        calibrate(FixedVectors([vectors]), studies, np.full(1015, -1), n_labels=0, seed=seed)
    assert np.bincount(seen[0]).tolist() == [15, 10, 5]


def test_pvalue_counts_the_distances_that_are_as_large() -> None:
    made = Calibration(np.array([0.1, 0.2, 0.2, 0.4], dtype=np.float32), "cross-study")
    values = made.pvalue(np.array([0.0, 0.2, 0.3, 0.4, 0.5, np.inf], dtype=np.float32))
    np.testing.assert_allclose(values, [1, 4 / 5, 2 / 5, 2 / 5, 1 / 5, 1 / 5])


def test_pvalues_of_like_cells_are_uniform() -> None:
    rng = np.random.default_rng(0)
    made = Calibration(np.sort(rng.gamma(2, size=4000)).astype(np.float32), "cross-study")
    values = made.pvalue(rng.gamma(2, size=4000))
    for p in (0.05, 0.25, 0.5, 0.9):
        assert abs((values <= p).mean() - p) < 0.03


def test_wrong_labels_are_not_learned_from() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 8))
    kinds, studies = np.repeat([0, 1, 2] * 2, 80), np.repeat([0, 1], 240)
    vectors = centres[kinds] + 0.3 * rng.normal(size=(480, 8))
    cells = FixedVectors([to_fixed((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))])
    wrong = rng.random(480) < 0.1
    codes = np.where(wrong, (kinds + rng.integers(1, 3, 480)) % 3, kinds)
    options = {"n_labels": 3, "seed": 0}
    naive = calibrate(cells, studies, codes, **options)
    careful = calibrate(cells, studies, codes, comparable=np.eye(3, dtype=bool), landmarks=np.arange(9), **options)
    assert not len(naive.doubted)
    assert wrong[careful.doubted].mean() > 0.95
    assert np.isin(np.flatnonzero(wrong), careful.doubted).mean() > 0.9
    assert careful.head is not None and naive.head is not None
    assert not np.isin(careful.head.alone.labels, [-1]).any() and len(careful.head.alone.scores) < len(
        naive.head.alone.scores
    )
    truth = [
        calibration.head.probabilities(vectors, 3)[np.arange(480), kinds].mean() for calibration in (careful, naive)
    ]
    assert truth[0] > truth[1]
