"""How well labels separate in an embedding, read off the ontology."""

from __future__ import annotations

import numpy as np


def ontology_silhouette(
    z: np.ndarray, labels: np.ndarray, comparable: np.ndarray, descends: np.ndarray, *, max_cells: int = 2_000
) -> float:
    """Mean silhouette width of cells under Euclidean distance, aware of the ontology.

    Cells of the same term or of a descendant are intra-cluster. Cells of an ancestor are neither: "T cell" may be
    the same kind as "CD4 T cell", or not. Everything else is compared term by term, and the nearest counts.

    Parameters
    ----------
    z
        Embedding (n, d).
    labels
        Codes (n,); negative means none, such cells are left out.
    comparable
        bool (L, L): same term, ancestor or descendant.
    descends
        bool (L, L): ``descends[a, b]`` says that b is a's term or a descendant of it.
    max_cells
        Cells above this number are thinned out evenly.

    Returns
    -------
    A number in [-1, 1]; NaN where no cell has both a companion and an incomparable term.

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
