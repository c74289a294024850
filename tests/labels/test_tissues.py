"""The tissue that cells are guessed to be from, and labels that are favoured for it; on arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scim.labels import favour_present, guess_tissue, label_shares
from scim.labels._tissues import MIN_CELLS

#: Shares of four labels in three tissues: a label of all tissues, and one of each.
SHARES = np.array([[0.4, 0.4, 0.4], [0.6, 0, 0], [0, 0.6, 0], [0, 0, 0.6]])
UNRELATED = np.eye(4, dtype=bool)


def cells_of(weights: list[float], n: int = 500, sure: float = 0.9) -> np.ndarray:
    """Draw labels of cells of a mixture of tissues, and return their probabilities."""
    codes = np.random.default_rng(0).choice(4, n, p=SHARES @ weights)
    return ((1 - sure) / 4 + sure * np.eye(4)[codes]).astype(np.float32)


def every(by_label: np.ndarray) -> np.ndarray:
    return np.ones(len(by_label), dtype=bool)


def test_shares_are_means_over_studies() -> None:
    codes = np.array([0, 0, 0, 1, 1, 2, 2, -1, 0, 0])
    studies = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 1])
    tissues = np.array([0, 0, 0, 0, 0, 1, 1, 1, -1, 1])
    shares = label_shares(codes, studies, tissues, n_labels=3, n_tissues=3)
    # In tissue 0, study 0 has labels 0, 0, 0, 1, and study 1 has label 1.
    np.testing.assert_allclose(shares, np.array([[0.375, 1 / 3, 0], [0.625, 0, 0], [0, 2 / 3, 0]]))
    none = label_shares(np.full(3, -1), np.zeros(3, int), np.zeros(3, int), n_labels=2, n_tissues=2)
    assert none.shape == (2, 2) and not none.any()


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 3), st.integers(-1, 2)), min_size=1, max_size=40))
def test_shares_are_those_of_a_plain_loop(cells: list[tuple[int, int, int]]) -> None:
    codes, studies, tissues = np.array(cells).T
    found = label_shares(codes, studies, tissues, n_labels=4, n_tissues=3)
    for tissue in range(3):
        rows = []
        for study in range(4):
            mine = [c for c, s, t in cells if (s, t) == (study, tissue) and c >= 0]
            if mine:
                rows.append([mine.count(label) / len(mine) for label in range(4)])
        np.testing.assert_allclose(found[:, tissue], np.mean(rows, axis=0) if rows else np.zeros(4))


@pytest.mark.parametrize("tissue", [0, 1, 2])
def test_the_tissue_of_cells_is_found(tissue: int) -> None:
    weights = list(np.eye(3)[tissue])
    by_label = cells_of(weights)
    guess = guess_tissue(by_label, every(by_label), SHARES)
    assert guess is not None and guess.tissue == tissue and guess.is_sure and guess.share > 0.8


@pytest.mark.parametrize(("weights", "sure"), [([0.7, 0.3, 0], True), ([0.45, 0.35, 0.2], False)])
def test_the_share_is_that_of_the_mixture(weights: list[float], sure: bool) -> None:
    by_label = cells_of(weights, n=5_000, sure=1.0)
    guess = guess_tissue(by_label, every(by_label), SHARES)
    assert guess is not None and guess.tissue == 0
    assert guess.share == pytest.approx(weights[0], abs=0.06) and guess.is_sure is sure


def test_the_order_of_cells_does_not_matter() -> None:
    by_label = cells_of([0.7, 0.3, 0])
    other = by_label[np.random.default_rng(1).permutation(len(by_label))]
    one, two = (guess_tissue(cells, every(cells), SHARES) for cells in (by_label, other))
    assert one is not None and two is not None
    assert one.tissue == two.tissue and one.share == pytest.approx(two.share, abs=1e-6)


def test_no_guess() -> None:
    by_label = cells_of([1, 0, 0])
    few = by_label[: MIN_CELLS - 1]
    assert guess_tissue(few, every(few), SHARES) is None
    enough = by_label[:MIN_CELLS]
    assert guess_tissue(enough, every(enough), SHARES) is not None
    # Half of the cells are unlike the reference.
    assert guess_tissue(by_label, np.arange(len(by_label)) % 2 == 0, SHARES) is None
    assert guess_tissue(by_label, every(by_label), SHARES[:, :1]) is None
    assert guess_tissue(by_label, every(by_label), SHARES * [1, 0, 0]) is None


def test_cells_unlike_the_reference_do_not_count() -> None:
    by_label = np.concatenate([cells_of([1, 0, 0], n=300), cells_of([0, 0, 1], n=299)])
    guess = guess_tissue(by_label, np.arange(599) < 300, SHARES)
    alone = guess_tissue(by_label[:300], every(by_label[:300]), SHARES)
    assert guess == alone and guess is not None and guess.tissue == 0


def test_labels_of_other_tissues_lose() -> None:
    by_label = np.array([[0.1, 0.4, 0.5, 0], [0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=np.float32)
    found = favour_present(by_label, SHARES[:, 0], UNRELATED, factor=0.5)
    expected = np.array([[0.1, 0.4, 0.25, 0], [0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    expected[0] /= 0.75
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32 and found[0].argmax() == 1
    assert favour_present(by_label, SHARES[:, 0], UNRELATED, factor=1) is by_label
    # The default does not change labels.
    assert favour_present(by_label, SHARES[:, 0], UNRELATED) is by_label


def test_relatives_of_present_labels_are_not_absent() -> None:
    by_label = np.full((1, 4), 0.25, dtype=np.float32)
    related = UNRELATED.copy()
    related[1, 2] = related[2, 1] = True
    found = favour_present(by_label, SHARES[:, 0], related, factor=0.5)
    np.testing.assert_allclose(found, [[2 / 7, 2 / 7, 2 / 7, 1 / 7]], atol=1e-6)
