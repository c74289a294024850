"""Votes of neighbours: weights, sums and labels."""

from __future__ import annotations

import numpy as np
import pytest

from scim.labels import _votes as v
from scim.ontology import CellOntology, TermSpace


@pytest.fixture
def terms() -> TermSpace:
    return CellOntology.bundled().term_space(
        ["CD4-positive, alpha-beta T cell", "CD8-positive, alpha-beta T cell", "B cell", "my own cells"]
    )


def test_weights_sum_to_one_and_fall_with_distance() -> None:
    distances = np.sort(np.random.default_rng(0).random((40, 20)), axis=1)
    weights = v.vote_weights(distances, np.ones((40, 20), dtype=bool))
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (np.diff(weights, axis=1) <= 0).all() and (weights > 0).all()


def test_weights_do_not_depend_on_the_scale_of_distances() -> None:
    distances = np.sort(np.random.default_rng(0).random((5, 20)), axis=1)
    everyone = np.ones((5, 20), dtype=bool)
    np.testing.assert_allclose(v.vote_weights(distances, everyone), v.vote_weights(0.05 * distances, everyone))


@pytest.mark.parametrize("k", [3, 15, 50])
def test_a_duplicate_does_not_decide_alone(k: int) -> None:
    distances = np.full((1, k), 0.3)
    distances[0, 0] = 0
    share = v.vote_weights(distances, np.ones((1, k), dtype=bool))[0, 0]
    assert share == pytest.approx(1 / (1 + (k - 1) / np.e))


def test_duplicates_only() -> None:
    np.testing.assert_allclose(v.vote_weights(np.zeros((1, 4)), np.ones((1, 4), dtype=bool)), 0.25)


def test_only_labelled_neighbours_have_weight() -> None:
    distances = np.array([[0.1, 0.2, 0.3, np.inf], [0.1, 0.1, 0.1, 0.1]])
    labelled = np.array([[False, True, True, True], [False] * 4])
    weights = v.vote_weights(distances, labelled)
    assert weights[0, 0] == 0 and weights[0, 3] == 0
    assert weights[0].sum() == pytest.approx(1)
    assert not weights[1].any()


def test_far_neighbours_of_a_tight_group_do_not_underflow() -> None:
    weights = v.vote_weights(np.array([[1.9, 1.9, 1.9]]), np.ones((1, 3), dtype=bool))
    np.testing.assert_allclose(weights, 1 / 3)


def test_votes_are_summed_up_the_ontology(terms: TermSpace) -> None:
    codes = np.array([[0, 1, 2, -1], [-1, -1, -1, -1]])
    by_label, by_term = v.ontology_vote(np.full((2, 4), 0.2), codes, terms)
    np.testing.assert_allclose(by_label, [[1 / 3, 1 / 3, 1 / 3, 0], [0, 0, 0, 0]], atol=1e-6)
    score = dict(zip(terms.term_names, by_term[0], strict=True))
    assert score["T cell"] == pytest.approx(2 / 3, abs=1e-6)
    assert score["lymphocyte"] == pytest.approx(1, abs=1e-6)
    assert score["my own cells"] == 0


def test_votes_equal_a_plain_loop_across_blocks(terms: TermSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    distances = np.sort(rng.random((50, 9)), axis=1).astype(np.float32)
    codes = rng.integers(-1, 4, (50, 9))
    monkeypatch.setattr("scim._threads._BLOCK", 7)
    by_label, by_term = v.ontology_vote(distances, codes, terms)
    for i in range(50):
        mine = codes[i] >= 0
        weights = np.exp(-distances[i][mine].astype(float) / np.median(distances[i][mine]))
        expected = np.zeros(4)
        np.add.at(expected, codes[i][mine], weights / weights.sum())
        np.testing.assert_allclose(by_label[i], expected, atol=1e-5)
        np.testing.assert_allclose(by_term[i], expected @ terms.closure, atol=1e-5)


def test_plain_votes_count_and_ties_go_to_the_nearest() -> None:
    codes = np.array([[2, 0, 0, 2], [1, 1, -1, 0], [-1, -1, -1, -1], [0, 0, 0, 0]])
    distances = np.array([[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.6, np.inf], [np.inf] * 4, [0.1] * 4], dtype=np.float32)
    shares, best, stats = v.plain_vote(distances, codes, 3, weighted=False)
    np.testing.assert_allclose(shares, [[0.5, 0, 0.5], [0, 1, 0], [0, 0, 0], [1, 0, 0]])
    assert best.tolist() == [2, 1, -1, 0]
    np.testing.assert_allclose(stats["vs2nd"], [0.5, 1, 0, 1])
    np.testing.assert_allclose(stats["vsAll"], [0.5, 1, 0, 1])
    np.testing.assert_allclose(stats["max_dist"][[0, 1, 3]], [0.4, 0.5, 0.1])
    shares, best, _ = v.plain_vote(distances, codes, 3, weighted=True)
    weights = [10, 5, 10 / 3, 2.5]
    np.testing.assert_allclose(shares[0], [(5 + 10 / 3) / sum(weights), 0, 12.5 / sum(weights)], rtol=1e-6)
    np.testing.assert_allclose(shares[1], [0, 1, 0])  # a distance of 0 counts as 1e-6
    assert best.tolist() == [2, 1, -1, 0]


def test_plain_votes_with_one_label() -> None:
    shares, best, stats = v.plain_vote(np.full((2, 3), 0.1, np.float32), np.zeros((2, 3), int), 1, weighted=False)
    assert shares.tolist() == [[1.0], [1.0]] and best.tolist() == [0, 0]
    assert stats["vs2nd"].tolist() == [1, 1]


def test_unknown_vote() -> None:
    with pytest.raises(ValueError, match="vote='mean'"):
        v.check_vote("mean")
