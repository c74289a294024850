"""Measure how unlike the cells of a reference new cells are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._warn import warn
from ..labels import assign
from ._cells import NewCells

if TYPE_CHECKING:
    from ..labels import Calibration
    from ..ontology import TermSpace
    from ..reference import Reference

#: A cell with a larger novelty is farther from the labels than 95 % of comparable cells of other studies.
_WELL_REPRESENTED = 0.5
#: Warn if this share of the cells or more have something that users should know ...
WARN_SHARE = 0.5
#: ... among this many cells or more.
WARN_FROM_CELLS = 20
#: Cells with fewer counts are unassigned.
_MIN_COUNTS = 10
#: Warn of cells with fewer counts.
_FEW_COUNTS = 50


@dataclass(frozen=True, eq=False)
class Novelty:
    """Novelty of n cells and its p-values, novel cells, cells with hardly a count, counts (None: unknown), and facts.

    Attributes are (n,) but for ``similarity``, (n, n_labels), see :class:`scim.tl._cells.Comparison`, which is None if
    it is unknown or not of the part of the reference that was asked for, and ``facts``, which are for the record.
    """

    scores: np.ndarray
    pvalues: np.ndarray
    novel: np.ndarray
    empty: np.ndarray
    depths: np.ndarray | None
    similarity: np.ndarray | None
    facts: dict[str, Any]

    @property
    def represented(self) -> np.ndarray:
        """Cells with counts that are well represented in the reference, bool (n,)."""
        return (self.scores <= _WELL_REPRESENTED) & ~self.empty


def measure_novelty(
    cells: NewCells,
    distances: Callable[[], np.ndarray],
    max_novelty: float,
    *,
    calibration: Calibration,
    within: np.ndarray | None = None,
) -> Novelty:
    """Measure how unlike the cells of the reference, or its cells ``within``, bool (n_rows,), each cell is.

    Cells are compared by expression, or, if they have no values, by ``distances`` to the nearest cell with the
    background of ``calibration``.
    """
    found = None if cells.expression is None else cells.expression.compare(cells.reference, within)
    depths = None if found is None else found.depths
    if found is not None and found.pvalues is not None and found.novelty is not None:
        pvalues, scores = found.pvalues, found.novelty
        facts: dict[str, Any] = {"novelty": "expression"}
        if within is not None:
            facts["novelty_filtered"] = found.filtered
    else:
        pvalues, scores = by_distance(calibration, distances())
        facts = {"novelty": "distance"}
    empty = np.zeros(len(scores), dtype=bool) if depths is None else depths < _MIN_COUNTS
    novel = (scores > max_novelty) & ~empty
    if facts["novelty"] == "distance" and calibration.kind == "within-study":
        # Distances within one study do not tell how far the cells of another study are.
        novel[:] = False
    facts |= {"n_novel": int(novel.sum()), "n_few_counts": 0 if depths is None else int((depths < _FEW_COUNTS).sum())}
    if facts["n_few_counts"] and (depths is None or depths.any()):
        warn(
            f"{facts['n_few_counts']:,} of {len(scores):,} cells have fewer than {_FEW_COUNTS} counts in the genes of "
            f"the encoder. Their labels are unsure, and {int(empty.sum()):,} of them with fewer than {_MIN_COUNTS} are "
            "unassigned. Remove empty droplets first."
        )
    similarity = found.similarity if found is not None and (within is None or found.filtered) else None
    return Novelty(scores, pvalues, novel, empty, depths, similarity, facts)


def by_distance(calibration: Calibration, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute p-values and novelty of distances to the nearest cell, (n,); 1 and 0 for nan, a cell without any."""
    known = ~np.isnan(distances)
    filled = np.where(known, distances, 0.0)
    return np.where(known, calibration.pvalue(filled), 1.0), np.where(known, calibration.novelty(filled), 0.0)


def find_represented(found: Novelty, by_term: np.ndarray, terms: TermSpace) -> np.ndarray:
    """Find well represented cells, bool (n,).

    A well represented cell has a term that is more probable than not (``by_term``, (n, n_terms)), and is not farther
    from the labels than 95 % of comparable cells.
    """
    return found.represented & (assign(by_term, terms, enough=0.5) >= 0)


def represented_share(found: Novelty, represented: np.ndarray, reference: Reference) -> float:
    """Compute which share of the cells with counts is ``represented``, bool (n,), and warn if most are not."""
    n_cells = int((~found.empty).sum())
    share = float(represented.sum() / n_cells) if n_cells else 0.0
    if n_cells >= WARN_FROM_CELLS and share < 1 - WARN_SHARE:
        warn(
            f"Only {share:.0%} of {n_cells:,} cells are well represented in {reference.path.name}; the others have no "
            "label that is more probable than not, or differ from all labels more than 95 % of comparable cells do. "
            f"{int(found.novel.sum()):,} are unassigned as novel. The reason is another cell type, tissue or platform. "
            "Labels may be wrong: check them with marker genes, or use a reference that has these cells."
        )
    return share
