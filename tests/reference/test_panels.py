"""Genes in which all labels of a reference can be compared."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scim.reference import _panels
from scim.reference._landmarks import Landmarks
from scim.reference._panels import comparable_genes

N_GENES, PANEL = 1_000, np.arange(1_000) < 600


def landmarks(studies: np.ndarray, panel_studies: set[int]) -> Landmarks:
    """Cells of as many counts in every gene that their study measured."""
    counts = np.random.default_rng(0).poisson(3.0, (len(studies), N_GENES)) + 1.0
    counts[np.isin(studies, list(panel_studies))] *= PANEL
    return Landmarks.of(sparse.csr_matrix(counts, dtype=np.float32), np.arange(len(studies)))


def chosen(labels: dict[int, list[int]], panel_studies: set[int], *, measured: np.ndarray | None = None, n: int = 20):
    """What is chosen where each study has ``n`` cells of its labels."""
    pairs = [(study, label) for study, its in labels.items() for label in its for _ in range(n)]
    studies, codes = np.array(pairs).T
    every = np.ones(N_GENES, dtype=bool) if measured is None else measured
    return comparable_genes(landmarks(studies, panel_studies), codes, studies, every)


def test_all_genes_do_where_studies_of_all_genes_have_all_labels() -> None:
    assert chosen({0: [0, 1, 2], 1: [0, 1]}, set()) is None
    assert chosen({0: [0, 1, 2], 1: [0, 1]}, {1}) is None


def test_a_label_of_a_panel_is_compared_in_its_genes() -> None:
    found = chosen({0: [0, 1], 1: [0, 1, 2]}, {1})
    np.testing.assert_array_equal(found, PANEL)


def test_only_genes_of_the_query_are_taken() -> None:
    measured = np.arange(N_GENES) >= 50
    np.testing.assert_array_equal(chosen({0: [0, 1], 1: [2]}, {1}, measured=measured), PANEL & measured)
    # The query has no other genes than the panel: there is nothing to choose.
    assert chosen({0: [0, 1], 1: [2]}, {1}, measured=PANEL) is None


def test_few_genes_or_few_labels_are_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen({0: list(range(15)), 1: [15]}, {1}, n=6) is None
    monkeypatch.setattr(_panels, "_GENES", 700)
    assert chosen({0: [0, 1], 1: [0, 1, 2]}, {1}) is None


def test_a_handful_of_cells_does_not_stand_for_a_label() -> None:
    studies = np.array([0] * 40 + [0] * 7 + [1] * 60)
    codes = np.array([0] * 20 + [1] * 20 + [2] * 7 + [2] * 60)
    found = comparable_genes(landmarks(studies, {1}), codes, studies, np.ones(N_GENES, dtype=bool))
    np.testing.assert_array_equal(found, PANEL)
