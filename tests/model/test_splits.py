from __future__ import annotations

import numpy as np
import pytest

from scim.model._splits import choose_validation

NAMES = ["large", "medium", "small"]


def data() -> tuple[np.ndarray, np.ndarray]:
    studies = np.repeat([0, 1, 2], [500, 400, 100])
    return np.arange(1000) % 4, studies


def choose(labels: np.ndarray, studies: np.ndarray, **kwargs: object) -> tuple[np.ndarray, np.ndarray, list[str]]:
    options = {"validation_studies": None, "train_size": 0.9, "seed": 0} | kwargs
    split = choose_validation(labels, studies, NAMES, **options)
    assert not np.intersect1d(split.train, split.validation).size
    assert len(split.train) + len(split.validation) == len(labels)
    return split.train, split.validation, split.held_out


def test_every_study_trains_unless_asked() -> None:
    labels, studies = data()
    train, validation, held_out = choose(labels, studies)
    assert held_out == []
    assert set(studies[train]) == set(studies[validation]) == set(studies)


def test_a_small_study_is_held_out() -> None:
    labels, studies = data()
    _, validation, held_out = choose(labels, studies, validation_studies=0.2)
    assert held_out == ["small"]
    assert (studies[validation] == 2).all()


def test_no_study_is_held_out_that_alone_has_a_label() -> None:
    labels, studies = data()
    labels[studies == 2] = 4
    assert choose(labels, studies, validation_studies=0.2)[2] == []


def test_two_studies_validate_on_a_share_of_each_label_and_study() -> None:
    labels, studies = data()
    studies = np.minimum(studies, 1)
    _, validation, held_out = choose(labels, studies, validation_studies=0.2)
    assert held_out == []
    assert 80 <= len(validation) <= 120
    assert len(np.unique(labels[validation] * 2 + studies[validation])) == 8


def test_a_lone_cell_stays_in_training() -> None:
    labels, studies = data()
    labels[7] = 9
    train, _, _ = choose(labels, studies, validation_studies=0.0, train_size=0.5)
    assert 7 in train


def test_train_size_and_names() -> None:
    labels, studies = data()
    assert abs(len(choose(labels, studies, train_size=0.7)[1]) - 300) < 20
    assert len(choose(labels, studies, train_size=1.0)[1]) == 0
    assert choose(labels, studies, validation_studies=["medium", "small"])[2] == ["medium", "small"]
    assert choose(labels, studies, validation_studies=0)[2] == []


def test_same_seed_same_split() -> None:
    labels, studies = data()
    first, again, other = (choose(labels, studies, train_size=0.8, seed=s)[1] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"validation_studies": "smal"}, KeyError, "Did you mean 'small'"),
        ({"validation_studies": NAMES}, ValueError, "nothing is left"),
        ({"validation_studies": 1.5}, ValueError, "validation_studies"),
        ({"train_size": 0.0}, ValueError, "train_size"),
    ],
)
def test_refusals(options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        choose(*data(), **options)


def test_two_cells_have_to_be_left() -> None:
    with pytest.raises(ValueError, match="There are 1 cells to train on"):
        choose(np.zeros(1, dtype=int), np.zeros(1, dtype=int))
