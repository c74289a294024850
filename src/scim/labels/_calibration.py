"""Calibrate a reference: the background of distances between studies, and the head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..index import FixedVectors, nearest_elsewhere
from ._background import conformal_pvalues, novelty_scores
from ._balanced import balanced_sample, choose_in_turn
from ._doubts import doubted_cells
from ._head import CalibrationKind, Head, Labelled, Trial, fit_head
from ._thinned import Thinned

#: Number of cells whose distances are the background.
N_CELLS = 5_000


@dataclass(frozen=True, eq=False)
class PanelHead:
    """A head in genes in which all labels can be compared, for labels that only studies of a gene panel have.

    Attributes
    ----------
    codes
        Codes of these labels, int64 (p,).
    genes
        Genes of the encoder that cells are embedded with, bool (n_genes,).
    head
        Head that was fitted to landmarks embedded with these genes.
    """

    codes: np.ndarray
    genes: np.ndarray
    head: Head


@dataclass(frozen=True, eq=False)
class Calibration:
    """Distances of reference cells to their nearest cell of another study, and the head.

    Attributes
    ----------
    background
        Sorted cosine distances, float32 (n,).
    kind
        ``"within-study"`` if there is one study. The distances are then to the nearest other cell, and smaller.
    head
        Probabilities of labels. None if there are fewer than two labels.
    doubted
        Positions of cells whose label contradicts the labels of their neighbours in the same study, int64
        (n_doubted,), ascending. Their labels are not used. Only cells of the head and landmarks are checked.
    panel
        Second head, for labels that only studies of a gene panel have. None if there are no such labels.
    """

    background: np.ndarray
    kind: CalibrationKind
    head: Head | None = None
    doubted: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    panel: PanelHead | None = None

    def pvalue(self, distances: np.ndarray) -> np.ndarray:
        """Conformal p-value of distances: small if few reference cells are as far from another study."""
        return conformal_pvalues(self.background, np.asarray(distances, dtype=np.float32))

    def novelty(self, distances: np.ndarray) -> np.ndarray:
        """Novelty of distances, see :func:`novelty_scores`."""
        return novelty_scores(self.background, np.asarray(distances, dtype=np.float32))


def calibrate(
    vectors: FixedVectors,
    studies: np.ndarray,
    codes: np.ndarray,
    *,
    n_labels: int,
    seed: int,
    comparable: np.ndarray | None = None,
    landmarks: np.ndarray | None = None,
    thinned: Callable[[], Sequence[Thinned]] | None = None,
    living: np.ndarray | None = None,
    below: np.ndarray | None = None,
) -> Calibration:
    """Measure the background of distances on a random sample of cells, and fit a head to a balanced sample.

    Parameters
    ----------
    vectors, studies, codes
        Vectors of all cells, study codes (n,), and label codes (n,), -1 for no label.
    n_labels
        Number of labels of the reference.
    seed
        Random seed.
    comparable
        Pairs of labels that do not contradict each other, bool (n_labels, n_labels). Labels are compared with the
        labels of neighbours. None: all labels are used.
    landmarks
        Positions of the landmarks, whose labels are checked, too.
    thinned
        Returns landmarks after thinning, see :func:`thinned_landmarks`. The head is scored on them if there are several
        studies.
    living
        Cells that were not removed, bool (n,). None: all.
    below
        Labels that are a label or below it, bool (n_labels, n_labels). None: labels are not nested.
    """
    if living is not None:
        codes = np.where(living, codes, -1)
    chosen, doubted = balanced_sample(codes, studies, seed=seed), np.empty(0, dtype=np.int64)
    if comparable is not None:
        checked = np.union1d(chosen, np.empty(0, np.int64) if landmarks is None else landmarks)
        doubted = doubted_cells(vectors, studies, codes, comparable, checked[codes[checked] >= 0], seed=seed)
        chosen = np.setdiff1d(chosen, doubted)
    fitted, tested = Labelled(vectors.take(chosen), codes[chosen], studies[chosen]), []
    if thinned is not None and fitted.several_studies:
        for part in thinned():
            own = np.where(np.isin(part.rows, doubted), -1, codes[part.rows])
            tested.append(Trial(part.depth, Labelled(part.vectors, own, studies[part.rows]), part.similarity))
    head = fit_head(fitted, n_labels=n_labels, seed=seed, tested=tested, below=below)
    return Calibration(*_background(vectors, studies, living, seed=seed), head, doubted)


def _background(
    vectors: FixedVectors, studies: np.ndarray, living: np.ndarray | None, *, seed: int
) -> tuple[np.ndarray, CalibrationKind]:
    """Measure distances of a sample, in equal numbers from each study, to the nearest cell of another study."""
    cells = np.arange(len(studies), dtype=np.int32 if len(studies) < 2**31 else np.int64)
    if living is not None:
        cells = cells[living]
    shuffled = np.random.default_rng(seed).permutation(cells)
    rows = choose_in_turn(shuffled, studies[shuffled], most=N_CELLS)
    queries = vectors.take(rows)
    directed = queries.any(axis=1)
    queries, rows = queries[directed], rows[directed]
    several = len(np.unique(studies[cells])) > 1
    # Within one study, each cell is a group: the distance is to the nearest other cell.
    groups = studies if several else np.arange(len(studies))
    distances = nearest_elsewhere(vectors, queries, groups[rows], groups, living)
    return np.sort(distances[np.isfinite(distances)]), "cross-study" if several else "within-study"
