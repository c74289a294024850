"""The term of each cell, and sets of labels."""

from __future__ import annotations

import numpy as np
import pytest

from scim.labels import assign, prediction_sets
from scim.ontology import CellOntology, TermSpace


@pytest.fixture
def terms() -> TermSpace:
    return CellOntology.bundled().term_space(
        ["CD4-positive, alpha-beta T cell", "CD8-positive, alpha-beta T cell", "B cell", "my own cells"]
    )


def names_of(positions: np.ndarray, terms: TermSpace) -> list[str]:
    return [str(name) for name in np.append(terms.term_names, "none")[positions]]


def test_the_most_specific_term_with_enough_votes(terms: TermSpace) -> None:
    def label(*votes: float, enough: float) -> str:
        by_term = np.array([votes], dtype=np.float32) @ terms.closure.astype(np.float32)
        term = assign(by_term, terms, enough=enough)[0]
        return "none" if term < 0 else str(terms.term_names[term])

    assert label(0.9, 0.1, 0, 0, enough=0.8) == "CD4-positive, alpha-beta T cell"
    assert label(0.6, 0.4, 0, 0, enough=0.8) in ("mature alpha-beta T cell", "alpha-beta T cell")
    assert label(0.3, 0.3, 0.4, 0, enough=0.9) == "lymphocyte"
    assert label(0.5, 0, 0, 0.5, enough=0.7) == "none"
    assert label(0, 0, 0, 1, enough=1.0) == "my own cells"
    assert label(0, 0, 0, 0, enough=0.7) == "none"


def test_names_that_studies_use_come_before_names_of_the_ontology() -> None:
    terms = CellOntology.bundled().term_space(
        ["CD4-positive, alpha-beta T cell", "CD8-positive, alpha-beta T cell", "T cell", "B cell"]
    )
    by_term = np.array([[0.4, 0.35, 0.25, 0.0], [0.3, 0.2, 0.1, 0.4]], dtype=np.float32) @ terms.closure.astype("f4")
    # Of both kinds of T cells together, "T cell" is written, and not "alpha-beta T cell".
    assert names_of(assign(by_term, terms, enough=0.5), terms) == ["T cell", "T cell"]
    # No label has as much: a term that no study uses.
    assert names_of(assign(by_term, terms, enough=0.9), terms) == ["T cell", "lymphocyte"]


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
    assert names_of(assign(by_label @ terms.closure.astype(np.float32), terms, enough=1.0), terms) == ["lymphocyte"]
    assert prediction_sets(by_label, alpha=0.0).tolist() == [[True, True, True, False]]
