"""Labels that are not trained on: those that contradict the cells around them in their own study."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ..counts._kinds import InputKind, normalize_rows
from ..labels._doubts import contradicted

#: Cells of a study that are compared at a time, their most variable genes, and components of these.
_BLOCK, _GENES, _COMPONENTS = 10_000, 2_000, 30


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

    logged = normalize_rows(X.astype(np.float32).copy(), kind)
    mean = np.asarray(logged.mean(axis=0)).ravel()
    variance = np.asarray(logged.multiply(logged).mean(axis=0)).ravel() - mean**2
    genes = np.sort(np.argsort(-variance, kind="stable")[:_GENES])
    n_components = min(_COMPONENTS, len(genes) - 1)
    return np.asarray(TruncatedSVD(n_components, random_state=seed).fit_transform(logged[:, genes]), dtype=np.float32)
