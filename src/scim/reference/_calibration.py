"""How far apart cells of one kind are across studies: the background that distances are judged by."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ._exact import nearest_elsewhere
from ._manifest import ReferenceFolderError
from ._segments import take_vectors

CalibrationKind = Literal["cross-study", "within-study"]

#: Cells that the background is drawn from.
N_CELLS = 5_000


@dataclass(frozen=True, eq=False)
class Calibration:
    """Distances of reference cells to their nearest cell of another study.

    Attributes
    ----------
    background
        Sorted cosine distances, float32 (n,).
    kind
        ``"within-study"`` where there is one study: distances to the nearest other cell, which are smaller.
    """

    background: np.ndarray
    kind: CalibrationKind

    def pvalue(self, distances: np.ndarray) -> np.ndarray:
        """Conformal p-value of distances: (1 + number of background distances as large) / (1 + n).

        Under exchangeability of the cell with the reference's cells, the value is at most p with a chance of p at most
        (Vovk et al., Algorithmic Learning in a Random World, 2005).
        """
        n = len(self.background)
        larger = n - np.searchsorted(self.background, np.asarray(distances, dtype=np.float32), side="left")
        return (1.0 + larger) / (1.0 + n)

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        np.savez(path, background=self.background, kind=np.array(self.kind))

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read what :meth:`save` wrote."""
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as saved:
                return cls(np.asarray(saved["background"]), str(saved["kind"]))  # type: ignore[arg-type]
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ReferenceFolderError(f"{path} is damaged: {error}. Build the reference again.") from error


def calibrate(segments: list[np.ndarray], studies: np.ndarray, *, seed: int) -> Calibration:
    """Measure the background on a random sample of the reference's own cells, as many of each study as can be.

    Parameters
    ----------
    segments
        Vectors of each segment, int16 (n_i, d).
    studies
        Study code of each cell, (n,).
    seed
        Seed of the sample.
    """
    rng = np.random.default_rng(seed)
    # A random order within each study, then the first of each study, the second of each, and so on.
    shuffled = rng.permutation(len(studies))
    by_study = shuffled[np.argsort(studies[shuffled], kind="stable")]
    sorted_studies = studies[by_study]
    turn = np.arange(len(studies)) - np.searchsorted(sorted_studies, sorted_studies)
    rows = np.sort(by_study[np.argsort(turn, kind="stable")[:N_CELLS]])
    queries = take_vectors(segments, rows)
    directed = queries.any(axis=1)
    queries, rows = queries[directed], rows[directed]
    several = len(np.unique(studies)) > 1
    # Within one study, every cell is a group of its own: the nearest other cell.
    groups = studies if several else np.arange(len(studies))
    distances = nearest_elsewhere(segments, queries, groups[rows], groups)
    return Calibration(np.sort(distances[np.isfinite(distances)]), "cross-study" if several else "within-study")
