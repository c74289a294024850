"""How far apart cells of one kind are across studies: the background that distances are judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..index import nearest_elsewhere, take_vectors
from ._balanced import balanced_sample
from ._doubts import doubted_cells
from ._head import Head, Labelled, fit_head

CalibrationKind = Literal["cross-study", "within-study"]

#: Cells that the background is drawn from.
N_CELLS = 5_000


#: Positions of cells int64 (n,), and unit vectors float32 (n, d) of them.
Scored = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Distances of reference cells to their nearest cell of another study.

    Attributes
    ----------
    background
        Sorted cosine distances, float32 (n,).
    kind
        ``"within-study"`` where there is one study: distances to the nearest other cell, which are smaller.
    head
        Probabilities of labels; None where there are not two.
    doubted
        Cells, of those that were looked at, whose label contradicts that of the cells around them in their own study:
        nothing is learned from it. int64 (n_doubted,), ascending.
    """

    background: np.ndarray
    kind: CalibrationKind
    head: Head | None = None
    doubted: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def pvalue(self, distances: np.ndarray) -> np.ndarray:
        """Conformal p-value of distances: (1 + number of background distances as large) / (1 + n).

        Under exchangeability of the cell with the reference's cells, the value is at most p with a chance of p at most
        (Vovk et al., Algorithmic Learning in a Random World, 2005).
        """
        n = len(self.background)
        larger = n - np.searchsorted(self.background, np.asarray(distances, dtype=np.float32), side="left")
        return (1.0 + larger) / (1.0 + n)


def calibrate(
    segments: list[np.ndarray],
    studies: np.ndarray,
    codes: np.ndarray,
    *,
    n_labels: int,
    seed: int,
    comparable: np.ndarray | None = None,
    landmarks: np.ndarray | None = None,
    thinned: Callable[[], Scored] | None = None,
    living: np.ndarray | None = None,
) -> Calibration:
    """Measure the background on a random sample of the reference's own cells, and fit a head to others.

    Parameters
    ----------
    segments
        Vectors of each segment, int16 (n_i, d).
    studies
        Study code of each cell, (n,).
    codes
        Label code of each cell, (n,), -1 for none.
    n_labels
        Labels of the reference.
    seed
        Seed of the sample.
    comparable
        Pairs of labels that cells may both have, bool (n_labels, n_labels): labels are compared with those of the cells
        around them. None: they are trusted.
    landmarks
        Positions of the landmarks, whose labels are looked at, too.
    thinned
        Gives positions of cells, and unit vectors of these when they are thinned, see ``Landmarks.thinned``: the head
        is tried on them, where there are several studies.
    living
        Cells that were not removed, bool (n,), if some were: the others are as good as not there.
    """
    rng = np.random.default_rng(seed)
    there = np.arange(len(studies), dtype=np.int32 if len(studies) < 2**31 else np.int64)
    if living is not None:
        there, codes = there[living], np.where(living, codes, -1)
    # A random order within each study, then the first of each study, the second of each, and so on.
    shuffled = rng.permutation(there)
    by_study = shuffled[np.argsort(studies[shuffled], kind="stable")]
    sorted_studies = studies[by_study]
    turn = np.arange(len(there)) - np.searchsorted(sorted_studies, sorted_studies)
    rows = np.sort(by_study[np.argsort(turn, kind="stable")[:N_CELLS]])
    chosen, doubted = balanced_sample(codes, studies, seed=seed), np.empty(0, dtype=np.int64)
    if comparable is not None:
        asked = np.union1d(chosen, np.empty(0, np.int64) if landmarks is None else landmarks)
        doubted = doubted_cells(segments, studies, codes, comparable, asked[codes[asked] >= 0], seed=seed)
        chosen = np.setdiff1d(chosen, doubted)
    own, scored = Labelled(take_vectors(segments, chosen), codes[chosen], studies[chosen]), None
    if thinned is not None and own.several_studies:
        asked, vectors = thinned()
        scored = Labelled(vectors, np.where(np.isin(asked, doubted), -1, codes[asked]), studies[asked])
    head = fit_head(own, n_labels=n_labels, seed=seed, scored=scored)
    queries = take_vectors(segments, rows)
    directed = queries.any(axis=1)
    queries, rows = queries[directed], rows[directed]
    several = len(np.unique(sorted_studies)) > 1
    # Within one study, every cell is a group of its own: the nearest other cell.
    groups = studies if several else np.arange(len(studies))
    distances = nearest_elsewhere(segments, queries, groups[rows], groups, living)
    return Calibration(
        np.sort(distances[np.isfinite(distances)]), "cross-study" if several else "within-study", head, doubted
    )
