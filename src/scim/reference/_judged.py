"""What the cells of a reference say of new ones: which label, how surely, and whether there is any."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _manifest as files
from ._backend import Backend
from ._calibration import Calibration, CalibrationKind, Judge, calibrate
from ._cells import StoredCells
from ._exact import ExactBackend
from ._landmarks import ENOUGH, Landmarks
from ._novelty import Profiles, fit_profiles
from ._segments import to_fixed
from ._tables import STUDY

if TYPE_CHECKING:
    from ..encoder import Encoder


class JudgedCells(StoredCells):
    """Cells with a calibration, and landmarks where their values were there."""

    path: Path
    _manifest: dict[str, Any]
    _calibration: Calibration
    _backend: Backend
    _judged: tuple[str, Judge] | None

    if TYPE_CHECKING:

        @cached_property
        def encoder(self) -> Encoder:
            """The encoder that the cells were embedded with."""

    def background(self) -> np.ndarray:
        """Sorted cosine distances of reference cells to their nearest cell of another study, float32 (n,)."""
        return self._calibration.background

    @property
    def calibration_kind(self) -> CalibrationKind:
        """``"within-study"`` where the reference has one study and :meth:`background` had to do without others."""
        return self._calibration.kind

    def distance_pvalue(self, distances: np.ndarray) -> np.ndarray:
        """P-value of nearest-neighbour distances: the share of the reference's own that are as large."""
        return self._calibration.pvalue(distances)

    def judge(self, measured: np.ndarray | None = None) -> Judge:
        """Find what labels cells, and what that is worth, for a query that measured some of the genes.

        Parameters
        ----------
        measured
            Genes of the encoder that the query has, bool (n_genes,); None: all. Where those that it lacks matter, the
            reference's landmarks, whose counts it keeps, are embedded anew without these genes, and take the place of
            its cells.
        """
        landmarks = None if measured is None else self.landmarks
        if measured is None or landmarks is None or landmarks.missing(measured) < ENOUGH:
            return Judge(self._calibration, self._backend, panel_matched=False)
        key = hashlib.sha256(np.packbits(measured).tobytes()).hexdigest()
        if self._judged is None or self._judged[0] != key:
            segments = [to_fixed(landmarks.embed(self.encoder, measured))]
            codes, studies = self.label_codes[landmarks.rows], self._codes(STUDY)[landmarks.rows]
            calibration = calibrate(
                segments, studies, codes, n_labels=len(self.terms.labels), seed=self._manifest["seed"]
            )
            self._judged = key, Judge(calibration, ExactBackend(segments), panel_matched=True)
        return self._judged[1]

    def profiles(self, measured: np.ndarray | None, *, depth: float | None = None) -> Profiles | None:
        """Learn what expression the labels have, to tell cells unlike any of them.

        Parameters
        ----------
        measured
            Genes of the encoder that the query has, bool (n_genes,); None: all.
        depth
            Median counts of the query's cells, if known.

        Returns
        -------
        None where the reference keeps no landmarks, or of fewer than two studies.
        """
        landmarks = self.landmarks
        if landmarks is None:
            return None
        codes, studies = self.label_codes[landmarks.rows], self._codes(STUDY)[landmarks.rows]
        genes = np.ones(int(self._manifest["n_genes"]), dtype=bool) if measured is None else measured
        return fit_profiles(landmarks, codes, studies, genes, depth=depth, seed=int(self._manifest["seed"]))

    @cached_property
    def landmarks(self) -> Landmarks | None:
        """Landmarks of all segments that have some."""
        parts, start = [], 0
        for segment in self._manifest["segments"]:
            name, n_cells = f"{files.SEGMENTS}/{segment['name']}/{files.LANDMARKS}", int(segment["n_cells"])
            if name in self._manifest["files"]:
                files.check_file(self.path, self._manifest, name)
                part = Landmarks.load(self.path / name, n_cells=n_cells, n_genes=int(self._manifest["n_genes"]))
                parts.append(replace(part, rows=part.rows + start))
            start += n_cells
        joined = Landmarks.join(parts) if parts else None
        if joined is None or self._living is None:
            return joined
        return joined.take(np.flatnonzero(self._living[joined.rows]))
