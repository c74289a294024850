"""Silhouette width of labels on the ontology."""

from __future__ import annotations

import numpy as np


def ontology_silhouette(
    z: np.ndarray, labels: np.ndarray, comparable: np.ndarray, descends: np.ndarray, *, max_cells: int = 2_000
) -> float:
    """Mean silhouette width of cells (n, d) on the ontology, with Euclidean distances, from -1 to 1.

    Cells of the same term and of its descendants are one cluster. Cells of ancestors are left out: a "T cell" may be a
    "CD4 T cell", or not. Of all other terms, the nearest is the neighbouring cluster. The width is NaN if no cell has
    both another cell in its cluster and a cell of another cluster.

    Labels are codes (n,); cells with a negative code are left out. Of more than ``max_cells`` labelled cells, this many
    at even intervals are used. ``comparable`` are pairs of labels that are the same term, or ancestor and descendant,
    bool (L, L). ``descends[a, b]`` says whether label b is the term of label a or a descendant of it, bool (L, L).

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    >>> ontology_silhouette(z, np.array([0, 0, 1, 1]), np.eye(2, dtype=bool), np.eye(2, dtype=bool))
    1.0
    """
    kept = np.flatnonzero(labels >= 0)
    if len(kept) > max_cells:
        kept = kept[np.linspace(0, len(kept) - 1, max_cells).astype(int)]
    if len(kept) < 2:
        return float("nan")
    z, labels = np.asarray(z[kept], dtype=np.float64), labels[kept]
    squares = (z**2).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2 * z @ z.T, 0))
    np.fill_diagonal(distances, 0)
    member = np.zeros((len(z), len(comparable)))
    member[np.arange(len(z)), labels] = 1
    sums, counts = distances @ member, member.sum(axis=0)

    inside = descends[labels]
    n_inside = (inside * counts).sum(axis=1) - 1  # without the cell itself
    outside = ~comparable[labels] & (counts > 0)
    valid = (n_inside > 0) & outside.any(axis=1)
    if not valid.any():
        return float("nan")
    intra = (inside * sums).sum(axis=1)[valid] / n_inside[valid]
    means = np.where(outside, sums / np.maximum(counts, 1), np.inf)
    nearest = means.min(axis=1)[valid]
    largest = np.maximum(intra, nearest)
    return float(np.mean(np.divide(nearest - intra, largest, out=np.zeros_like(intra), where=largest > 0)))
