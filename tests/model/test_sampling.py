from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scim.model._sampling import TermStudySampler


def cells(sizes: dict[tuple[int, int], int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and studies of so many cells of each (label, study)."""
    codes = np.repeat(np.array(list(sizes)), list(sizes.values()), axis=0)
    return codes[:, 0], codes[:, 1]


def passes(sampler: TermStudySampler, n: int = 1) -> list[list[int]]:
    batches = []
    for epoch in range(n):
        sampler.set_epoch(epoch)
        batches += list(sampler)
    return batches


def atlas() -> tuple[np.ndarray, np.ndarray]:
    """Twenty terms from 400 to 10 cells in six studies, some terms in one study only, and cells without label."""
    sizes = {(t, s): max(2, 400 // ((t + 1) * (s + 1))) for t in range(16) for s in range(6)}
    sizes |= {(t, t % 6): 30 for t in range(16, 20)}
    return cells(sizes | {(-1, 0): 200, (-1, 3): 100})


def test_batches_hold_terms_of_two_studies() -> None:
    labels, studies = atlas()
    several = {t for t in range(20) if len(set(studies[labels == t])) > 1}
    sampler = TermStudySampler(labels, studies, batch_size=128)
    batches = passes(sampler, 3)
    for batch in batches:
        assert len(batch) == len(set(batch)) == 128
        assert all(isinstance(cell, int) for cell in batch)
        terms = set(labels[batch]) - {-1}
        assert len(terms) >= 8
        for term in terms & several:
            assert len({studies[cell] for cell in batch if labels[cell] == term}) >= 2
        for term in terms - several:
            assert sum(labels[batch] == term) >= 2


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.dictionaries(st.tuples(st.integers(-1, 5), st.integers(0, 3)), st.integers(1, 40), min_size=1),
    batch_size=st.integers(1, 80),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_batch_is_full_and_holds_its_terms_from_two_studies(
    sizes: dict[tuple[int, int], int], batch_size: int, seed: int
) -> None:
    labels, studies = cells(sizes)
    sampler = TermStudySampler(labels, studies, batch_size=batch_size, seed=seed)
    batches = list(sampler)
    assert len(batches) == -(-len(labels) // sampler.batch_size)
    n_labels = len(set(labels[labels >= 0]))
    for batch in batches:
        assert len(batch) == len(set(batch)) == min(batch_size, len(labels))
        terms, counts = np.unique(labels[batch][labels[batch] >= 0], return_counts=True)
        # A last term may only fill the batch up; all others have their share.
        assert len(terms) >= min(n_labels, 2, counts.sum())
        for term, n in zip(terms, counts, strict=True):
            if n > 1 and len(set(studies[labels == term])) > 1:
                assert len(set(studies[[cell for cell in batch if labels[cell] == term]])) > 1


def test_a_pass_is_as_long_as_the_data() -> None:
    labels, studies = atlas()
    sampler = TermStudySampler(labels, studies, batch_size=100)
    assert len(sampler) == len(list(sampler)) == -(-len(labels) // 100)


def test_rare_terms_and_small_studies_come_more_often_than_their_share() -> None:
    labels, studies = cells({(0, 0): 4000, (0, 1): 400, (1, 0): 400, (1, 1): 40, (2, 0): 40, (2, 1): 40})
    batches = np.concatenate(passes(TermStudySampler(labels, studies, batch_size=60), 2))
    of_term = np.bincount(labels[batches], minlength=3) / np.bincount(labels)
    assert of_term[0] < of_term[1] < of_term[2]
    in_common = batches[labels[batches] == 0]
    of_study = np.bincount(studies[in_common]) / np.bincount(studies[labels == 0])
    assert of_study[1] > 1.5 * of_study[0]


def test_no_study_starves_where_there_are_more_than_places() -> None:
    # Ten places a term, thirty studies: each has its turn, and the small ones more often than their size says.
    labels, studies = cells({(t, s): 200 // (s + 1) + 3 for t in range(5) for s in range(30)})
    batches = np.concatenate(passes(TermStudySampler(labels, studies, batch_size=50, terms_per_batch=5)))
    seen = np.bincount(studies[batches], minlength=30)
    assert seen.min() > 0
    assert seen[-1] / np.sum(studies == 29) > seen[0] / np.sum(studies == 0)


def test_cells_of_a_group_take_turns() -> None:
    labels, studies = cells({(0, 0): 30, (0, 1): 30, (1, 0): 30, (1, 1): 30})
    times = np.bincount(np.concatenate(passes(TermStudySampler(labels, studies, batch_size=20))), minlength=120)
    for term in (0, 1):
        for study in (0, 1):
            group = times[(labels == term) & (studies == study)]
            assert group.max() - group.min() <= 1


def test_seed_and_epoch_settle_every_batch() -> None:
    labels, studies = atlas()
    one, two = (TermStudySampler(labels, studies, batch_size=64, seed=5) for _ in range(2))
    first = list(one)
    assert first == list(two)
    second = list(one)  # the next pass without being told
    assert second != first
    two.set_epoch(1)
    assert list(two) == second
    two.set_epoch(0)
    assert list(two) == first
    assert list(TermStudySampler(labels, studies, batch_size=64, seed=6)) != first


@pytest.mark.parametrize(("share", "expected"), [(None, 25), (0, 0), (0.1, 10), (0.5, 50), (1, 100)])
def test_share_without_label(share: float | None, expected: int) -> None:
    labels, studies = cells({(0, 0): 100, (0, 1): 100, (1, 0): 100, (1, 1): 100, (-1, 0): 400})
    for batch in TermStudySampler(labels, studies, batch_size=100, unlabeled_share=share):
        assert len(batch) == 100
        assert sum(labels[batch] < 0) == expected


def test_few_unlabelled_cells_keep_their_share() -> None:
    labels, studies = cells({(0, 0): 45, (1, 1): 45, (-1, 0): 10})
    assert {int(sum(labels[b] < 0)) for b in TermStudySampler(labels, studies, batch_size=50)} == {5}


def test_cells_without_label_fill_the_batch_unless_they_may_not() -> None:
    labels, studies = cells({(0, 0): 5, (1, 1): 5, (-1, 0): 90})
    for batch in TermStudySampler(labels, studies, batch_size=50):
        assert len(batch) == 50
        assert sum(labels[batch] >= 0) == 10
    sampler = TermStudySampler(labels, studies, batch_size=50, unlabeled_share=0)
    assert [sorted(labels[batch].tolist()) for batch in sampler] == [[0] * 5 + [1] * 5]


def test_no_label_at_all() -> None:
    sampler = TermStudySampler(np.full(30, -1), np.zeros(30, dtype=int), batch_size=10)
    assert sorted(np.concatenate(list(sampler)).tolist()) == list(range(30))


def test_fewer_cells_than_a_batch() -> None:
    labels, studies = cells({(0, 0): 3, (0, 1): 2, (1, 0): 1, (-1, 1): 2})
    assert [sorted(batch) for batch in TermStudySampler(labels, studies, batch_size=1000)] == [list(range(8))]


def test_single_label() -> None:
    labels, studies = cells({(0, 0): 50, (0, 1): 10})
    for batch in TermStudySampler(labels, studies, batch_size=20):
        assert len(set(batch)) == 20
        assert set(studies[batch]) == {0, 1}


def test_label_with_one_cell_is_drawn_once_a_batch_at_most() -> None:
    labels, studies = cells({(0, 0): 50, (0, 1): 50, (1, 0): 1})
    batches = passes(TermStudySampler(labels, studies, batch_size=20), 2)
    assert all(len(set(batch)) == 20 for batch in batches)
    assert any(100 in batch for batch in batches)


def test_terms_per_batch() -> None:
    labels, studies = cells({(t, s): 20 for t in range(10) for s in range(3)})
    for batch in TermStudySampler(labels, studies, batch_size=40, terms_per_batch=4):
        _, count = np.unique(labels[batch], return_counts=True)
        assert len(count) == 4
        assert count.sum() == 40
        assert count.min() >= 8


def test_only_cells_of_indices() -> None:
    labels, studies = atlas()
    indices = np.arange(1, len(labels), 2)[::-1]
    sampler = TermStudySampler(labels, studies, batch_size=64, indices=indices)
    drawn = np.concatenate(list(sampler))
    assert len(sampler) == -(-len(indices) // 64)
    assert (drawn % 2 == 1).all()


BAD = {
    "no cells": ({"labels": [], "studies": []}, ValueError, "no cells"),
    "no index": ({"indices": np.array([], dtype=int)}, ValueError, "no cells"),
    "lengths": ({"studies": [0, 1]}, ValueError, "one length"),
    "names": ({"labels": ["T", "T", "B", "B"]}, TypeError, "labels must hold integer codes"),
    "float": ({"studies": [0.0, 1.0, 0.0, 1.0]}, TypeError, "studies must hold integer codes"),
    "index range": ({"indices": [0, 4]}, ValueError, "indices run from 0 to 4, but there are 4 cells"),
    "index twice": ({"indices": [0, 0]}, ValueError, "more than once"),
    "index mask": ({"indices": np.ones(4, dtype=bool)}, TypeError, "indices must be a vector of integer positions"),
    "batch": ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
    "terms": ({"terms_per_batch": 3}, ValueError, "terms_per_batch=3 leaves a batch of 4 cells"),
    "share": ({"unlabeled_share": 1.5}, ValueError, "unlabeled_share must lie"),
    "only labelled": ({"labels": [-1] * 4, "unlabeled_share": 0}, ValueError, "no cells"),
    "seed": ({"seed": -1}, ValueError, "seed must be at least 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str) -> None:
    change, error, match = BAD[case]
    arguments: dict[str, Any] = {"labels": [0, 0, 1, 1], "studies": [0, 1, 0, 1], "batch_size": 4} | change
    with pytest.raises(error, match=match):
        TermStudySampler(**arguments)
