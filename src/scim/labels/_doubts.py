"""Labels that contradict a cell's own neighbours: what learns from them remembers mistakes."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ..counts import InputKind, lognormal_in_place
from ..index import take_vectors

#: Neighbours that are asked; a label is doubted if at least _RIVAL of them have one that excludes it, the same one, and
#: no more than _OWN have a label that fits it, of as many as could. Cells of a rare kind need not lie together: labels
#: of fewer than _RARE cells are not doubted.
_NEIGHBOURS = 30
_RIVAL = 0.5
_OWN = 0.2
_RARE = 20


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


#: Cells of a study among which neighbours are looked for, when labels are compared with theirs.
_POOL = 10_000


def doubted_cells(
    segments: list[np.ndarray],
    studies: np.ndarray,
    codes: np.ndarray,
    comparable: np.ndarray,
    asked: np.ndarray,
    *,
    seed: int,
) -> np.ndarray:
    """Find cells whose label contradicts that of their nearest neighbours, in the embedding, of their own study.

    Parameters
    ----------
    segments, studies, codes, comparable, seed
        As of :func:`calibrate`.
    asked
        Positions of the cells to look at, which have a label, ascending.

    Returns
    -------
    Positions, int64, ascending.
    """
    shuffled = np.random.default_rng(seed).permutation(np.flatnonzero(codes >= 0))
    by_study = shuffled[np.argsort(studies[shuffled], kind="stable")]
    found = []
    for study in np.unique(studies[asked]):
        first, last = np.searchsorted(studies[by_study], [study, study + 1])
        mine = asked[studies[asked] == study]
        pool = np.union1d(by_study[first:last][:_POOL], mine)
        wrong = contradicted(take_vectors(segments, pool), codes[pool], comparable, asked=np.searchsorted(pool, mine))
        found.append(mine[wrong])
    return np.concatenate(found).astype(np.int64) if found else np.empty(0, dtype=np.int64)


#: Cells of a study that are compared at a time, their most variable genes, and components of these.
_BLOCK = 10_000


_GENES = 2_000


_COMPONENTS = 30


def doubtful_labels(
    X: sp.csr_matrix, labels: np.ndarray, studies: np.ndarray, comparable: np.ndarray, kind: InputKind, *, seed: int
) -> np.ndarray:
    """Find cells whose label is unlike that of their nearest neighbours in 30 principal components of their own study.

    That needs no training, and cannot learn the mistakes by heart; see :func:`scim.labels._doubts.contradicted`.

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
            if len(block) > _COMPONENTS:
                block = np.sort(block)
                doubted[block] = contradicted(_components(X[block], kind, seed), labels[block], comparable)
    return doubted


def _components(X: sp.csr_matrix, kind: InputKind, seed: int) -> np.ndarray:
    """Components of the most variable genes, float32 (n, 30)."""
    from sklearn.decomposition import TruncatedSVD

    logged = lognormal_in_place(X.astype(np.float32).copy(), kind)
    mean = np.asarray(logged.mean(axis=0)).ravel()
    variance = np.asarray(logged.multiply(logged).mean(axis=0)).ravel() - mean**2
    genes = np.sort(np.argsort(-variance, kind="stable")[:_GENES])
    n_components = min(_COMPONENTS, len(genes) - 1)
    return np.asarray(TruncatedSVD(n_components, random_state=seed).fit_transform(logged[:, genes]), dtype=np.float32)
