"""How far apart cells of one kind are across studies: the background that distances are judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ._backend import Backend
from ._manifest import ReferenceFolderError
from ._segments import to_float

CalibrationKind = Literal["cross-study", "within-study"]

#: Cells, and studies, that the background is drawn from.
_CELLS, _STUDIES = 5_000, 50


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

        Under exchangeability of the cell with the reference's cells, the value is below p with a chance of p at most
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
            with np.load(path, allow_pickle=False) as saved:
                return cls(np.asarray(saved["background"]), str(saved["kind"]))  # type: ignore[arg-type]
        except (ValueError, KeyError, OSError) as error:
            raise ReferenceFolderError(f"{path} is damaged: {error}. Build the reference again.") from error


def calibrate(backend: Backend, segments: list[np.ndarray], studies: np.ndarray, *, seed: int) -> Calibration:
    """Measure the background on a random sample of the reference's own cells.

    Parameters
    ----------
    backend
        Searches the vectors.
    segments
        Vectors of each segment, int16 (n_i, d).
    studies
        Study code of each cell, (n,).
    seed
        Seed of the sample.
    """
    rng = np.random.default_rng(seed)
    names = np.unique(studies)
    if len(names) == 1:
        rows = np.sort(rng.permutation(len(studies))[:_CELLS])
        queries, rows = _directed(segments, rows)
        positions, distances = backend.search(queries, min(2, len(studies)), None)
        other = np.where(positions != rows[:, None], distances, np.inf).min(axis=1)
        return Calibration(np.sort(other[np.isfinite(other)]), "within-study")
    chosen = np.sort(rng.permutation(names)[:_STUDIES])
    found = []
    for study in chosen:
        mine = np.flatnonzero(studies == study)
        rows = np.sort(rng.permutation(mine)[: max(1, _CELLS // len(chosen))])
        queries, _ = _directed(segments, rows)
        found.append(backend.search(queries, 1, studies != study)[1][:, 0])
    background = np.concatenate(found)
    return Calibration(np.sort(background[np.isfinite(background)]), "cross-study")


def _directed(segments: list[np.ndarray], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of some cells, without those that have no direction, and which cells they are."""
    vectors = take_vectors(segments, rows)
    known = vectors.any(axis=1)
    return vectors[known], rows[known]


def take_vectors(segments: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Vectors of some cells in the order given, float32 of length 1."""
    starts = np.cumsum([0, *map(len, segments)])
    taken = np.empty((len(rows), segments[0].shape[1]), dtype=np.int16)
    segment_of = np.searchsorted(starts, rows, side="right") - 1
    for i in np.unique(segment_of):
        mine = segment_of == i
        taken[mine] = segments[i][rows[mine] - starts[i]]
    return to_float(taken)
