"""Find labels that contradict the labels of a cell's neighbours, so that models do not learn mistakes."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ..counts import InputKind, gene_moments, lognormal_in_place
from ..index import FixedVectors

#: Number of neighbours whose labels are compared with a cell's own.
_NEIGHBOURS = 30
#: A label is doubted if at least this share of the neighbours has one and the same label that contradicts it ...
_RIVAL_SHARE = 0.5
#: ... and at most this share has a label that fits it, of the number of neighbours that could.
_FITTING_SHARE = 0.2
#: Labels of fewer cells in a study are not doubted: cells of a rare kind need not lie together.
_MIN_CELLS_PER_LABEL = 20
#: Number of cells of a study among which neighbours in the embedding are searched.
_POOL_CELLS = 10_000
#: Number of cells of a study whose components are computed together.
_BLOCK_CELLS = 10_000
#: Number of most variable genes that components are computed from.
_VARIABLE_GENES = 2_000
#: Number of principal components.
_COMPONENTS = 30


def contradicted(
    values: np.ndarray, labels: np.ndarray, comparable: np.ndarray, *, checked: np.ndarray | None = None
) -> np.ndarray:
    """Find cells whose label contradicts the labels of their 30 nearest neighbours.

    Parameters
    ----------
    values
        Cells of one study, float32 (n, d). Neighbours are nearest by Euclidean distance.
    labels
        Label codes, (n,).
    comparable
        Pairs of labels that do not contradict each other, bool (n_labels, n_labels).
    checked
        Positions of the cells to check, (m,). None: all.

    Returns
    -------
    bool (m,). No label is doubted if there are fewer than 61 cells.

    References
    ----------
    Wilson, *Asymptotic properties of nearest neighbor rules using edited data*, 1972.
    """
    import faiss

    checked = np.arange(len(values)) if checked is None else np.asarray(checked)
    if len(values) <= 2 * _NEIGHBOURS or not len(checked):
        return np.zeros(len(checked), dtype=bool)
    values = np.ascontiguousarray(values, dtype=np.float32)
    _, found = faiss.knn(values[checked], values, _NEIGHBOURS + 1)
    # A cell is its own nearest neighbour, unless many cells are equal: then the last neighbour is dropped.
    itself = found == checked[:, None]
    itself[~itself.any(axis=1), -1] = True
    near = labels[found[~itself].reshape(len(checked), _NEIGHBOURS)]
    votes = np.zeros((len(checked), len(comparable)), dtype=np.float32)
    np.add.at(votes, (np.arange(len(checked))[:, None], near), 1)
    own = labels[checked]
    # A label of five cells cannot have thirty neighbours.
    n_fitting = comparable.astype(np.int64) @ np.bincount(labels, minlength=len(comparable))
    possible = np.minimum(n_fitting[own] - 1, _NEIGHBOURS)
    fits = comparable[own]
    rival = (votes * ~fits).max(axis=1)
    alone = (rival >= _RIVAL_SHARE * _NEIGHBOURS) & ((votes * fits).sum(axis=1) <= _FITTING_SHARE * possible)
    return np.asarray(alone & (n_fitting[own] >= _MIN_CELLS_PER_LABEL))


def doubted_cells(
    vectors: FixedVectors,
    studies: np.ndarray,
    codes: np.ndarray,
    comparable: np.ndarray,
    checked: np.ndarray,
    *,
    seed: int,
) -> np.ndarray:
    """Find cells whose label contradicts the labels of their nearest neighbours, in the embedding of their study.

    Parameters
    ----------
    vectors, studies, codes, comparable, seed
        See :func:`calibrate`.
    checked
        Positions of the cells to check, ascending. They have labels.

    Returns
    -------
    Positions, int64, ascending.
    """
    shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(codes >= 0))
    by_study = shuffled[np.argsort(studies[shuffled], kind="stable")]
    found = []
    for study in np.unique(studies[checked]):
        first, last = np.searchsorted(studies[by_study], [study, study + 1])
        mine = checked[studies[checked] == study]
        pool = np.union1d(by_study[first:last][:_POOL_CELLS], mine)
        wrong = contradicted(vectors.take(pool), codes[pool], comparable, checked=np.searchsorted(pool, mine))
        found.append(mine[wrong])
    return np.concatenate(found).astype(np.int64) if found else np.empty(0, dtype=np.int64)


def doubtful_labels(
    X: sp.csr_matrix, labels: np.ndarray, studies: np.ndarray, comparable: np.ndarray, kind: InputKind, *, seed: int
) -> np.ndarray:
    """Find cells whose label contradicts the labels of their nearest neighbours, in components of their study.

    Principal components need no training, so that they cannot learn wrong labels; see :func:`contradicted`.

    Parameters
    ----------
    X
        Counts or log1p values of all cells.
    labels, studies
        Codes, (n,); a label of -1 means no label.
    comparable
        Pairs of labels that do not contradict each other, bool (n_labels, n_labels).
    kind
        Kind of the values in ``X``.
    seed
        Seed of the components, and of the blocks that large studies are split into.

    Returns
    -------
    bool (n,).
    """
    doubted = np.zeros(len(labels), dtype=bool)
    rng = np.random.default_rng(seed)
    for study in np.unique(studies):
        rows = rng.permutation(np.flatnonzero((studies == study) & (labels >= 0)))
        for block in np.array_split(rows, max(1, -(-len(rows) // _BLOCK_CELLS))):
            if len(block) > _COMPONENTS:
                block = np.sort(block)
                doubted[block] = contradicted(_components(X[block], kind, seed), labels[block], comparable)
    return doubted


def _components(X: sp.csr_matrix, kind: InputKind, seed: int) -> np.ndarray:
    """Compute principal components of the most variable genes, float32 (n, 30)."""
    from sklearn.decomposition import TruncatedSVD

    logged = lognormal_in_place(X.astype(np.float32).copy(), kind)
    genes = np.sort(np.argsort(-gene_moments(logged)[1], kind="stable")[:_VARIABLE_GENES])
    n_components = min(_COMPONENTS, len(genes) - 1)
    return np.asarray(TruncatedSVD(n_components, random_state=seed).fit_transform(logged[:, genes]), dtype=np.float32)
