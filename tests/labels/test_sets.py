"""Sets of labels, and the terms that cover them."""

from __future__ import annotations

import numpy as np
import pytest

from scim.labels import assign, cover, prediction_sets
from scim.ontology import CellOntology, TermSpace


@pytest.fixture
def terms() -> TermSpace:
    return CellOntology.bundled().term_space(
        ["CD4-positive, alpha-beta T cell", "CD8-positive, alpha-beta T cell", "B cell", "my own cells"]
    )


def names_of(positions: np.ndarray, terms: TermSpace) -> list[str]:
    return [str(name) for name in np.append(terms.term_names, "none")[positions]]


def test_the_most_specific_term_with_enough_votes(terms: TermSpace) -> None:
    def label(*votes: float, alpha: float) -> str:
        by_term = np.array([votes], dtype=np.float32) @ terms.closure.astype(np.float32)
        term = assign(by_term, terms, alpha=alpha)[0]
        return "none" if term < 0 else str(terms.term_names[term])

    assert label(0.9, 0.1, 0, 0, alpha=0.2) == "CD4-positive, alpha-beta T cell"
    assert label(0.6, 0.4, 0, 0, alpha=0.2) in ("mature alpha-beta T cell", "alpha-beta T cell")
    assert label(0.3, 0.3, 0.4, 0, alpha=0.1) == "lymphocyte"
    assert label(0.5, 0, 0, 0.5, alpha=0.3) == "none"
    assert label(0, 0, 0, 1, alpha=0.0) == "my own cells"
    assert label(0, 0, 0, 0, alpha=0.3) == "none"


def test_the_smallest_set() -> None:
    shares = np.array([[0.2, 0.5, 0.3, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0] * 4, [0.1, 0.2, 0.3, 0.4]], dtype=np.float32)
    sets = prediction_sets(shares, alpha=0.25)
    assert sets.tolist() == [
        [False, True, True, False],
        [False, True, False, False],
        [False] * 4,
        [False, True, True, True],
    ]


def test_a_share_that_rounds_to_one_is_enough(terms: TermSpace) -> None:
    by_label = np.full((1, 4), 0, dtype=np.float32)
    by_label[0, :3] = np.float32(1 / 3) - np.float32(1e-7)
    assert names_of(assign(by_label @ terms.closure.astype(np.float32), terms, alpha=0.0), terms) == ["lymphocyte"]
    assert prediction_sets(by_label, alpha=0.0).tolist() == [[True, True, True, False]]


def test_a_set_is_covered_by_the_most_specific_term_above_all_its_labels(terms: TermSpace) -> None:
    sets = np.array(
        [[1, 0, 0, 0], [0, 0, 1, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]]
    ).astype(bool)
    found = names_of(cover(sets, terms), terms)
    labels = list(terms.term_names[terms.label_term])
    assert found[0] == labels[0] and found[1] == labels[2] and found[7] == "my own cells"
    assert found[2] in ("mature alpha-beta T cell", "alpha-beta T cell")
    assert found[3] == found[4] == "lymphocyte"
    assert found[5] == found[6] == "none"  # only generic terms are above both


def test_sets_are_covered_like_one_at_a_time(terms: TermSpace) -> None:
    sets = np.random.default_rng(0).random((200, 4)) < 0.5
    whole = cover(sets, terms)
    np.testing.assert_array_equal(whole, [cover(row[None], terms)[0] for row in sets])
