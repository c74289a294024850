"""Broad labels share their probability with the labels that studies hide in them."""

from __future__ import annotations

import numpy as np

from scim.labels._sharing import hidden_labels, share_down

#: Monocyte, CD14-positive monocyte, CD16-positive monocyte (below both, as in the Cell Ontology), B cell.
BELOW = np.array([[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=bool)


def test_a_study_hides_labels_that_it_does_not_have() -> None:
    # Studies 0, 3 and 4 have monocytes, study 1 tells monocytes apart, study 2 has all.
    codes, studies = np.array([0, 3, 1, 2, 3, 0, 1, 2, 0, 0]), np.array([0, 0, 1, 1, 1, 2, 2, 2, 3, 4])
    found = hidden_labels(codes, studies, BELOW)
    expected = np.zeros((4, 4))
    expected[0, 1] = expected[0, 2] = 0.5  # of four studies with monocytes, one has the kinds, too
    np.testing.assert_allclose(found, expected)
    assert found[1, 2] == 0  # studies with CD14-positive monocytes have the CD16-positive ones


def test_a_broad_label_gives_at_most_what_its_kinds_have() -> None:
    hidden = np.zeros((4, 4), dtype=np.float32)
    hidden[0, 1] = hidden[0, 2] = 1
    by_label = np.array([[0.5, 0.4, 0.05, 0.05], [0.9, 0.04, 0.01, 0.05], [0.0, 0.2, 0.2, 0.6]], dtype=np.float32)
    found = share_down(by_label, hidden)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found[0], [0.05, 0.8, 0.1, 0.05], atol=1e-6)
    np.testing.assert_allclose(found[1], [0.85, 0.08, 0.02, 0.05], atol=1e-6)
    np.testing.assert_allclose(found[2], by_label[2])
    assert by_label[0, 0] == np.float32(0.5)  # the argument stays
    assert share_down(by_label, None) is by_label


def test_probability_goes_down_several_levels() -> None:
    # Leukocyte > monocyte > CD14-positive monocyte.
    hidden = np.array([[0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=np.float32)
    found = share_down(np.array([[0.3, 0.3, 0.4]], dtype=np.float32), hidden)
    np.testing.assert_allclose(found.sum(), 1, atol=1e-6)
    assert found[0, 2] > 0.9
