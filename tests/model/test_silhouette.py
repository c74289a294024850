from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from scim.model._silhouette import ontology_silhouette


def points(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], [30, 20, 25])
    return rng.normal(size=(3, 4))[labels] + 0.5 * rng.normal(size=(75, 4)), labels


def test_flat_labels_give_the_usual_silhouette() -> None:
    z, labels = points()
    flat = np.eye(3, dtype=bool)
    assert ontology_silhouette(z, labels, flat, flat) == pytest.approx(silhouette_score(z, labels), abs=1e-6)


def test_descendants_are_inside_and_ancestors_neither() -> None:
    z, labels = points()
    comparable = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)
    descends = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]], dtype=bool)  # 1 is below 0
    d = np.sqrt(((z[:, None] - z[None]) ** 2).sum(axis=2))
    widths = []
    for i, label in enumerate(labels):
        inside = descends[label][labels]
        inside[i] = False
        others = [m for m in range(3) if not comparable[label, m]]
        a, b = d[i, inside].mean(), min(d[i, labels == m].mean() for m in others)
        widths.append((b - a) / max(a, b))
    assert ontology_silhouette(z, labels, comparable, descends) == pytest.approx(np.mean(widths), abs=1e-6)


def test_unlabelled_cells_are_left_out() -> None:
    z, labels = points()
    flat = np.eye(3, dtype=bool)
    more = np.concatenate([z, np.full((5, 4), 9.0)])
    given = ontology_silhouette(more, np.append(labels, [-1] * 5), flat, flat)
    assert given == pytest.approx(ontology_silhouette(z, labels, flat, flat))


@pytest.mark.parametrize("labels", [[0, 0, 0], [-1, -1, -1], [0, 1, 2], [0, -1, -1]])
def test_nothing_to_compare(labels: list[int]) -> None:
    flat = np.eye(3, dtype=bool)
    assert np.isnan(ontology_silhouette(np.eye(3), np.array(labels), flat, flat))


def test_many_cells_are_thinned_out() -> None:
    z, labels = points()
    flat = np.eye(3, dtype=bool)
    few = ontology_silhouette(z, labels, flat, flat, max_cells=40)
    assert few == pytest.approx(ontology_silhouette(z, labels, flat, flat), abs=0.15)
