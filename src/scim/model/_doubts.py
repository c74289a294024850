"""Labels that contradict a cell's own neighbours: training on them teaches the network to remember mistakes."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from .._counts import InputKind, normalize_rows

#: Neighbours that are asked; a label is doubted if at least _RIVAL of them have one that excludes it, the same one, and
#: no more than _OWN have a label that fits it, of as many as could.
_NEIGHBOURS, _RIVAL, _OWN = 30, 0.5, 0.2
#: Cells of a study that are compared at a time, their most variable genes, and components of these.
_BLOCK, _GENES, _COMPONENTS = 10_000, 2_000, 30


def doubtful_labels(
    X: sp.csr_matrix, labels: np.ndarray, studies: np.ndarray, comparable: np.ndarray, kind: InputKind, *, seed: int
) -> np.ndarray:
    """Find cells whose label is unlike that of the cells around them, in their own study.

    A cell is asked about by its 30 nearest neighbours in 30 principal components of its study's expression. That needs
    no training, and cannot learn the mistakes by heart (after Wilson, *Asymptotic properties of nearest neighbor rules
    using edited data*, 1972).

    Parameters
    ----------
    X
        Counts, or log1p values, of all cells.
    labels, studies
        Codes (n,); a label of -1 means none.
    comparable
        Pairs of labels that cells may both have, bool (L, L).
    kind
        What ``X`` holds.
    seed
        Seed of the components and of the blocks that large studies are cut into.

    Returns
    -------
    bool (n,).
    """
    doubted = np.zeros(len(labels), dtype=bool)
    rng = np.random.default_rng(seed)
    for study in np.unique(studies):
        rows = rng.permutation(np.flatnonzero((studies == study) & (labels >= 0)))
        for block in np.array_split(rows, max(1, -(-len(rows) // _BLOCK))):
            block = np.sort(block)
            if len(block) > 2 * _NEIGHBOURS:
                doubted[block] = _doubted(X[block], labels[block], comparable, kind, seed)
    return doubted


def _doubted(X: sp.csr_matrix, labels: np.ndarray, comparable: np.ndarray, kind: InputKind, seed: int) -> np.ndarray:
    near = _neighbours(X, kind, seed)
    n_labels = len(comparable)
    votes = np.zeros((len(labels), n_labels), dtype=np.float32)
    np.add.at(votes, (np.arange(len(labels))[:, None], labels[near]), 1)
    fits = comparable[labels]
    # A label of five cells cannot have thirty of them around it.
    possible = np.minimum((comparable @ np.bincount(labels, minlength=n_labels))[labels] - 1, _NEIGHBOURS)
    own = (votes * fits).sum(axis=1)
    rival = (votes * ~fits).max(axis=1)
    return np.asarray((rival >= _RIVAL * _NEIGHBOURS) & (own <= _OWN * possible))


def _neighbours(X: sp.csr_matrix, kind: InputKind, seed: int) -> np.ndarray:
    """Nearest other cells of each, int64 (n, 30)."""
    import faiss
    from sklearn.decomposition import TruncatedSVD

    logged = normalize_rows(X.astype(np.float32).copy(), kind)
    mean = np.asarray(logged.mean(axis=0)).ravel()
    variance = np.asarray(logged.multiply(logged).mean(axis=0)).ravel() - mean**2
    genes = np.sort(np.argsort(-variance, kind="stable")[:_GENES])
    n_components = min(_COMPONENTS, len(genes) - 1, X.shape[0] - 1)
    values = TruncatedSVD(n_components, random_state=seed).fit_transform(logged[:, genes]).astype(np.float32)
    _, found = faiss.knn(values, values, _NEIGHBOURS + 1)
    # A cell is nearest to itself, or equal to those that are.
    itself = found == np.arange(len(found))[:, None]
    itself[~itself.any(axis=1), -1] = True
    return np.asarray(found[~itself].reshape(len(found), _NEIGHBOURS).astype(np.int64))
