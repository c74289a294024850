"""Landmarks with fewer counts, to know how sure a head is of cells like these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ._landmarks import LabelledLandmarks, Landmarks
from ._novelty import Profiles

if TYPE_CHECKING:
    from ..encoder import Encoder

#: Counts of a cell to which landmarks are thinned, besides a seventh of their own.
SHALLOW_DEPTHS = (3.0, 10.0, 30.0, 100.0)
#: Number of landmarks that are thinned to these depths.
_SHALLOW_CELLS = 1_000


@dataclass(frozen=True, eq=False)
class Thinned:
    """Landmarks after thinning.

    Attributes
    ----------
    depth
        Counts of a cell.
    rows
        Positions of the landmarks in the reference, int64 (n,).
    vectors
        Unit vectors, float32 (n, d).
    similarity
        Correlation of expression with the means of labels in other studies, float32 (n, n_labels), nan for no mean.
        None if no two studies share labels.
    """

    depth: float
    rows: np.ndarray
    vectors: np.ndarray
    similarity: np.ndarray | None


def thinned_landmarks(
    landmarks: LabelledLandmarks, encoder: Encoder, measured: np.ndarray, *, n_labels: int, seed: int
) -> list[Thinned]:
    """Thin landmarks to several depths, embed them, and correlate them with the means of labels in other studies.

    The deepest are all landmarks with a seventh of their counts, see :meth:`Landmarks.thinned`.

    Parameters
    ----------
    landmarks
        Landmarks with labels and studies.
    encoder
        Encoder of the reference.
    measured
        Genes that the cells are embedded and compared with, bool (n_genes,).
    n_labels, seed
        Number of labels of the reference, and seed of the draws.
    """
    profiles = Profiles.of(landmarks.cells, landmarks.codes, landmarks.studies, measured, seed=seed)

    def made(depth: float, cells: Landmarks, studies: np.ndarray) -> Thinned:
        similarity = None if profiles is None else profiles.by_label(profiles.left_out(cells, studies), n_labels)
        return Thinned(depth, cells.rows, cells.embed(encoder, measured), similarity)

    deep = landmarks.cells.thinned(seed=seed)
    depth = float(np.median(deep.depths(measured))) if len(deep) else 0.0
    found = [made(depth, deep, landmarks.studies)]
    some = np.sort(np.random.default_rng(seed).permutation(len(deep))[:_SHALLOW_CELLS])
    counted, studies = landmarks.cells.take(some).counted(), landmarks.studies[some]
    for shallow in SHALLOW_DEPTHS:
        if shallow < depth / 2:
            found.append(made(shallow, counted.thinned(seed=seed, depth=shallow, measured=measured), studies))
    return found
