"""Equal numbers of cells from each label and study."""

from __future__ import annotations

import numpy as np
import pytest

from scim.labels._balanced import balanced_sample, choose_in_turn, rank_within


def test_ranks_begin_again_in_each_group() -> None:
    assert rank_within(np.array([0, 0, 0, 2, 5, 5])).tolist() == [0, 1, 2, 0, 0, 1]
    assert rank_within(np.empty(0, dtype=int)).tolist() == []


def test_the_first_of_each_group_come_before_the_second() -> None:
    cells, groups = np.array([9, 4, 7, 1, 3]), np.array([0, 0, 1, 0, 2])
    assert choose_in_turn(cells, groups, most=3).tolist() == [3, 7, 9]
    assert choose_in_turn(cells, groups, most=4).tolist() == [3, 4, 7, 9]
    assert choose_in_turn(cells, groups, most=9, per_group=1).tolist() == [3, 7, 9]
    assert choose_in_turn(cells, groups, most=9).tolist() == [1, 3, 4, 7, 9]


@pytest.mark.parametrize("most", [1, 7, 60, 500])
def test_numbers_of_groups_differ_by_one_at_most_unless_a_group_ends(most: int) -> None:
    rng = np.random.default_rng(most)
    groups = rng.choice(5, 200, p=[0.5, 0.3, 0.1, 0.06, 0.04])
    chosen = choose_in_turn(rng.permutation(200), groups, most=200)
    assert chosen.tolist() == list(range(200))
    counts = np.bincount(groups[choose_in_turn(np.arange(200), groups, most=most)], minlength=5)
    sizes = np.bincount(groups, minlength=5)
    assert counts.sum() == min(most, 200)
    assert (counts >= np.minimum(sizes, counts.max() - 1)).all()


def test_cells_of_a_group_are_drawn_at_random_by_the_seed() -> None:
    codes, studies = np.zeros(400, dtype=int), np.zeros(400, dtype=int)
    one, same, other = (balanced_sample(codes, studies, seed=seed, per_group=50) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert len(np.intersect1d(one, other)) < 20
    assert abs(one.mean() - 200) < 60


def test_a_label_in_two_studies_is_two_groups() -> None:
    codes, studies = np.repeat([0, 0, 1], [90, 30, 50]), np.repeat([0, 1, 0], [90, 30, 50])
    chosen = balanced_sample(codes, studies, seed=0, per_group=40)
    assert [int(((codes == c) & (studies == s))[chosen].sum()) for c, s in ((0, 0), (0, 1), (1, 0))] == [40, 30, 40]


def test_choice_takes_as_many_of_each_label_and_study() -> None:
    codes, studies = np.repeat([0, 1, -1], [500, 20, 10]), np.zeros(530, dtype=int)
    chosen = balanced_sample(codes, studies, seed=0, per_group=50)
    assert np.bincount(codes[chosen]).tolist() == [50, 20]
    assert (np.diff(chosen) > 0).all()
    assert np.bincount(codes[balanced_sample(codes, studies, seed=0, per_group=50, most=30)]).tolist() == [15, 15]
