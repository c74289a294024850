"""Labels that contradict a cell's neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scim.counts._kinds import InputKind
from scim.labels import _doubts
from scim.labels._doubts import doubtful_labels

COUNTS = InputKind("counts", None, "counts")


@pytest.fixture
def cells() -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray]:
    """Four kinds of cells, the last one rare, in two studies; their kinds and studies."""
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2, 3], [200, 150, 100, 8])
    profiles = rng.gamma(0.3, 2.0, (4, 300))
    counts = rng.poisson(profiles[np.concatenate([kinds, kinds])])
    studies = np.repeat([0, 1], len(kinds))
    counts[studies == 1] *= 3
    return sparse.csr_matrix(counts, dtype=np.float32), np.concatenate([kinds, kinds]), studies


def test_wrong_labels_are_found_and_right_ones_are_not(
    cells: tuple[sparse.csr_matrix, np.ndarray, np.ndarray],
) -> None:
    X, kinds, studies = cells
    rng = np.random.default_rng(1)
    wrong = rng.random(len(kinds)) < 0.1
    labels = np.where(wrong, (kinds + rng.integers(1, 3, len(kinds))) % 3, kinds)
    before = X.copy()
    found = doubtful_labels(X, labels, studies, np.eye(4, dtype=bool), COUNTS, seed=0)
    assert found[wrong & (kinds < 3)].mean() > 0.9
    assert found[~wrong].mean() < 0.01
    assert not found[~wrong & (kinds == 3)].any()  # a rare kind is no mistake
    assert (X != before).nnz == 0
    assert not doubtful_labels(X, kinds, studies, np.eye(4, dtype=bool), COUNTS, seed=0).any()


def test_a_broader_label_contradicts_nobody(cells: tuple[sparse.csr_matrix, np.ndarray, np.ndarray]) -> None:
    X, kinds, studies = cells
    labels = kinds.copy()
    labels[::7] = 4
    comparable = np.eye(5, dtype=bool)
    comparable[4, :] = comparable[:, 4] = True
    assert not doubtful_labels(X, labels, studies, comparable, COUNTS, seed=0).any()


def test_cells_without_a_label_and_tiny_studies_are_left_alone(
    cells: tuple[sparse.csr_matrix, np.ndarray, np.ndarray],
) -> None:
    X, kinds, studies = cells
    labels = np.where(np.arange(len(kinds)) % 2 == 0, kinds, -1)
    labels[:10:2] = 2
    found = doubtful_labels(X, labels, studies, np.eye(4, dtype=bool), COUNTS, seed=0)
    assert found[:10:2].mean() > 0.7 and not found[labels < 0].any()
    few = np.r_[0:30, 460:490]
    assert not doubtful_labels(X[few], labels[few], studies[few], np.eye(4, dtype=bool), COUNTS, seed=0).any()


def test_large_studies_are_cut_into_blocks(
    cells: tuple[sparse.csr_matrix, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, kinds, studies = cells
    labels = kinds.copy()
    labels[:10] = 1
    monkeypatch.setattr(_doubts, "_BLOCK_CELLS", 250)
    found = doubtful_labels(X, labels, studies, np.eye(4, dtype=bool), COUNTS, seed=0)
    assert found[:10].mean() > 0.85 and found[10:].mean() < 0.01
