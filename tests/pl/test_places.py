"""Names on a map cover neither each other nor the edge, and stay near their cells."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scim.pl._places import densest, places

BOX = (0.0, 0.0, 3.0, 3.0)


@given(st.integers(0, 10_000), st.integers(1, 25))
def test_no_two_names_overlap_and_all_are_inside(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    anchors, sizes = rng.uniform(0, 3, (n, 2)), np.column_stack([rng.uniform(0.2, 0.9, n), np.full(n, 0.12)])
    groups = [anchor + rng.normal(0, 0.1, (20, 2)) for anchor in anchors]
    found = places(anchors, sizes, BOX, groups, np.concatenate(groups))
    there = np.flatnonzero(np.isfinite(found[:, 0]))
    assert len(there) > 0.8 * n
    assert (found[there] - sizes[there] / 2 >= -1e-9).all() and (found[there] + sizes[there] / 2 <= 3 + 1e-9).all()
    for i in there:
        for j in there[there > i]:
            assert (np.abs(found[i] - found[j]) >= (sizes[i] + sizes[j]) / 2 - 1e-9).any()


def test_a_name_stands_near_its_anchor_and_beside_few_cells() -> None:
    rng = np.random.default_rng(0)
    group = np.array([1.5, 1.5]) + rng.normal(0, 0.03, (50, 2))
    found = places(np.array([[1.5, 1.5]]), np.array([[0.8, 0.12]]), BOX, [group], group)
    assert np.linalg.norm(found[0] - 1.5) < 0.7
    covered = (np.abs(group - found[0]) < np.array([0.4, 0.06])).all(axis=1)
    assert covered.mean() < 0.2


def test_a_name_without_room_is_left_out() -> None:
    anchors, sizes = np.full((3, 2), 1.5), np.full((3, 2), 2.9)
    found = places(anchors, sizes, BOX, [anchors] * 3, anchors)
    assert np.isfinite(found[0]).all() and np.isnan(found[1:]).all()


def test_the_densest_place_is_on_the_larger_island() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(0, 0.1, (20, 2)), rng.normal(5, 0.1, (200, 2))
    assert np.linalg.norm(densest(np.concatenate([small, large])) - 5) < 0.5
    assert densest(np.ones((1, 2))).tolist() == [1, 1]
