"""Labels that contradict a cell's own neighbours: what learns from them remembers mistakes."""

from __future__ import annotations

import numpy as np

#: Neighbours that are asked; a label is doubted if at least _RIVAL of them have one that excludes it, the same one, and
#: no more than _OWN have a label that fits it, of as many as could. Cells of a rare kind need not lie together: labels
#: of fewer than _RARE cells are not doubted.
_NEIGHBOURS, _RIVAL, _OWN, _RARE = 30, 0.5, 0.2, 20


def contradicted(
    values: np.ndarray,
    labels: np.ndarray,
    comparable: np.ndarray,
    *,
    asked: np.ndarray | None = None,
) -> np.ndarray:
    """Find cells whose label is unlike that of their 30 nearest neighbours.

    Parameters
    ----------
    values
        Cells of one study, float32 (n, d), between which Euclidean distances mean something.
    labels
        Label codes (n,).
    comparable
        Pairs of labels that cells may both have, bool (L, L).
    asked
        Positions of the cells to look at, (m,); None: all.

    Returns
    -------
    bool (m,); nothing is doubted among fewer than 61 cells.

    References
    ----------
    Wilson, *Asymptotic properties of nearest neighbor rules using edited data*, 1972.
    """
    import faiss

    asked = np.arange(len(values)) if asked is None else np.asarray(asked)
    if len(values) <= 2 * _NEIGHBOURS or not len(asked):
        return np.zeros(len(asked), dtype=bool)
    values = np.ascontiguousarray(values, dtype=np.float32)
    _, found = faiss.knn(values[asked], values, _NEIGHBOURS + 1)
    # A cell is nearest to itself, or equal to those that are.
    itself = found == asked[:, None]
    itself[~itself.any(axis=1), -1] = True
    near = labels[found[~itself].reshape(len(asked), _NEIGHBOURS)]
    votes = np.zeros((len(asked), len(comparable)), dtype=np.float32)
    np.add.at(votes, (np.arange(len(asked))[:, None], near), 1)
    own = labels[asked]
    # A label of five cells cannot have thirty of them around it.
    n_fitting = comparable.astype(np.int64) @ np.bincount(labels, minlength=len(comparable))
    possible = np.minimum(n_fitting[own] - 1, _NEIGHBOURS)
    fits = comparable[own]
    rival = (votes * ~fits).max(axis=1)
    alone = (rival >= _RIVAL * _NEIGHBOURS) & ((votes * fits).sum(axis=1) <= _OWN * possible)
    return np.asarray(alone & (n_fitting[own] >= _RARE))
