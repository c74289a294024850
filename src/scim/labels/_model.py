"""The model that labels cells: calibration and landmarks, matched to the genes of a query."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from ..index import Index
from ._calibration import Calibration

#: Share of the nearest cells that distances are to be of. The next ones have nearly the same p-value: among a million
#: cells it differed by .0045, and one cell of 8,000 fell on the other side of .05.
_NEAREST = 0.8


@dataclass(frozen=True, eq=False)
class MatchedModel:
    """A calibration, with the cells that it holds for.

    Attributes
    ----------
    calibration
        Head and background.
    backend
        Where distances to the nearest cells are found.
    panel_matched
        The cells are landmarks, embedded with the genes of the query.
    genes
        Genes that cells are to be embedded with anew before they are judged, bool (n_genes,); None: as they are.
    is_narrow
        Cells ought to be embedded anew, and cannot be: labels that only studies of a panel have are out of reach.
    """

    calibration: Calibration
    backend: Index
    panel_matched: bool
    genes: np.ndarray | None = None
    is_narrow: bool = False

    def novelty(self, vectors: np.ndarray) -> np.ndarray:
        """P-value of each cell's distance to the nearest cell, (m,); 1 for a cell without a direction."""
        some = vectors.any(axis=1)
        out = np.ones(len(vectors))
        if some.any():
            _, distances = self.backend.search(np.ascontiguousarray(vectors[some]), 1, None, _NEAREST)
            out[some] = self.calibration.pvalue(distances[:, 0])
        return out


#: Judges of other genes that are kept.
_KEPT = 4


def _key_of(measured: np.ndarray) -> str:
    """Name for a choice of genes, bool (n_genes,)."""
    return hashlib.sha256(np.packbits(measured).tobytes()).hexdigest()
