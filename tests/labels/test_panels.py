"""Labels that only studies of a panel have, and genes in which all labels can be compared."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from scim.labels import _panels
from scim.labels._landmarks import Landmarks
from scim.labels._panels import panel_labels, unseen_genes

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
    return panel_labels(landmarks(studies, panel_studies), codes, studies, every)


def test_all_genes_do_where_studies_of_all_genes_have_all_labels() -> None:
    assert chosen({0: [0, 1, 2], 1: [0, 1]}, set()) is None
    assert chosen({0: [0, 1, 2], 1: [0, 1]}, {1}) is None


def test_a_label_of_a_panel_is_compared_in_its_genes() -> None:
    found = chosen({0: [0, 1], 1: [0, 1, 2]}, {1})
    np.testing.assert_array_equal(found.genes, PANEL)
    assert found.codes.tolist() == [2]


def test_only_genes_of_the_query_are_taken() -> None:
    measured = np.arange(N_GENES) >= 50
    np.testing.assert_array_equal(chosen({0: [0, 1], 1: [2]}, {1}, measured=measured).genes, PANEL & measured)
    # The query has no other genes than the panel: there is nothing to choose.
    assert chosen({0: [0, 1], 1: [2]}, {1}, measured=PANEL) is None


def test_few_genes_or_few_labels_are_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen({0: list(range(15)), 1: [15]}, {1}, n=6) is None
    monkeypatch.setattr(_panels, "_MIN_GENES", 700)
    assert chosen({0: [0, 1], 1: [0, 1, 2]}, {1}) is None


def test_a_handful_of_cells_does_not_stand_for_a_label() -> None:
    studies = np.array([0] * 40 + [0] * 7 + [1] * 60)
    codes = np.array([0] * 20 + [1] * 20 + [2] * 7 + [2] * 60)
    found = panel_labels(landmarks(studies, {1}), codes, studies, np.ones(N_GENES, dtype=bool))
    assert found is not None
    np.testing.assert_array_equal(found.genes, PANEL)


@pytest.fixture
def mixture() -> tuple[Landmarks, np.ndarray, np.ndarray, np.ndarray]:
    """Landmarks of two labels and studies, one of a panel, and the profile of each label."""
    rng = np.random.default_rng(0)
    profiles = rng.gamma(0.2, 1.0, (2, N_GENES))
    codes, studies = np.tile([0, 1], 100), np.repeat([0, 1], 100)
    counts = rng.poisson(5 * profiles[codes]).astype(np.float32)
    counts[studies == 1] *= PANEL
    return Landmarks.of(sparse.csr_matrix(counts), np.arange(200)), codes, studies, profiles / profiles.sum(1)[:, None]


@pytest.mark.parametrize("n_counts", [20_000, 500_000])
def test_genes_that_would_have_few_counts_are_unseen(mixture, n_counts: int) -> None:
    marks, codes, studies, profiles = mixture
    total = np.random.default_rng(1).poisson(n_counts * profiles[0]).astype(float)
    measured = total >= 3
    found = unseen_genes(marks, codes, studies, measured, total * measured)
    assert not (found & measured).any()
    assert found[~measured].mean() > 0.95
    # Genes of the other label are no less unseen: the query has none of its cells.
    assert found[~measured & (profiles[1] * n_counts > 50)].mean() > 0.8


def test_a_gene_that_was_left_out_is_not_unseen(mixture) -> None:
    marks, codes, studies, profiles = mixture
    total = np.random.default_rng(1).poisson(20_000 * profiles[0]).astype(float)
    measured = total >= 3
    lost = np.argsort(-profiles[0])[5:9]
    measured[lost] = False
    found = unseen_genes(marks, codes, studies, measured, total * measured)
    assert not found[lost].any() and found[~measured].mean() > 0.9


def test_nothing_is_unseen_by_a_query_of_a_panel(mixture) -> None:
    marks, codes, studies, profiles = mixture
    total = np.random.default_rng(1).poisson(20_000 * profiles[0]).astype(float)
    measured = np.arange(N_GENES) % 2 == 0
    assert not unseen_genes(marks, codes, studies, measured, total * measured).any()
    assert not unseen_genes(marks, codes, studies, measured, np.zeros(N_GENES)).any()
