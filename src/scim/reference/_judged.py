"""What the cells of a reference say of new ones: which label, how surely, and whether there is any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..index import ExactIndex, Index, to_fixed
from ..labels import (
    _KEPT,
    ENOUGH,
    Calibration,
    CalibrationKind,
    Landmarks,
    MatchedModel,
    ProfileFolds,
    Profiles,
    _key_of,
    calibrate,
    comparable_genes,
    unseen_genes,
)
from . import store
from .cells import StoredCells
from .store import STUDY, landmarks_file, load_landmarks

if TYPE_CHECKING:
    from ..encoder import Encoder


class JudgedCells(StoredCells):
    """Cells with a calibration, and landmarks where their values were there."""

    path: Path
    _manifest: dict[str, Any]
    _calibration: Calibration
    _backend: Index
    _judged: dict[str, MatchedModel]
    #: Landmarks, the genes of the last query, what was learned for these, and of that for each depth.
    _panel: tuple[Landmarks, str, ProfileFolds, dict[float | None, Profiles | None]] | None = None

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

    def judge(
        self, measured: np.ndarray | None = None, *, embeddable: np.ndarray | None = None, client: Any = None
    ) -> MatchedModel:
        """Find what labels cells, and what that is worth, for a query that measured some of the genes.

        Parameters
        ----------
        measured
            Genes of the encoder that the query has, bool (n_genes,); None: all. Where those that it lacks matter, the
            reference's landmarks, whose counts it keeps, are embedded anew without these genes, and take the place of
            its cells.
        embeddable
            Genes, bool (n_genes,), with which, or with some of which (the judge's ``genes``), the query can be embedded
            anew where that is needed to compare it with cells of all labels, see ``scim.labels._panels``. None: it
            cannot.
        client
            A ``distributed.Client``, whose workers search the cells.
        """
        landmarks = self.landmarks
        backend, _ = self._searcher(client)
        if landmarks is None:
            return MatchedModel(self._calibration, backend, panel_matched=False)
        every = np.ones(int(self._manifest["n_genes"]), dtype=bool) if measured is None else measured
        genes = comparable_genes(landmarks, *self._landmark_codes, every)
        if genes is not None and embeddable is not None and not (genes & ~embeddable).any():
            return replace(self._judge_with(genes), genes=genes)
        if landmarks.missing(every) < ENOUGH:
            return MatchedModel(self._calibration, backend, panel_matched=False, is_narrow=genes is not None)
        judge = self._judge_with(every)
        return judge if genes is None else replace(judge, is_narrow=True)

    def _searcher(self, client: Any) -> tuple[Index, Callable[..., tuple[np.ndarray, np.ndarray]] | None]:
        """Give what searches the cells: for the nearest, and, on a cluster, for all within a distance."""
        if client is None:
            return self._backend, None
        from .serving import serve

        return serve(self, client)

    def _judge_with(self, genes: np.ndarray) -> MatchedModel:
        """Judge by the landmarks, embedded anew with some genes."""
        landmarks = self.landmarks
        assert landmarks is not None  # judge() made sure
        key = _key_of(genes)
        if key not in self._judged:
            segments = [to_fixed(landmarks.embed(self.encoder, genes))]
            codes, studies = self._landmark_codes
            seed = int(self._manifest["seed"])
            calibration = calibrate(
                segments,
                studies,
                codes,
                n_labels=len(self.terms.labels),
                seed=seed,
                thinned=lambda: (
                    np.arange(len(landmarks)),
                    landmarks.thinned(seed=seed).embed(self.encoder, genes),
                ),
            )
            if len(self._judged) >= _KEPT:
                self._judged.pop(next(iter(self._judged)))
            self._judged[key] = MatchedModel(calibration, ExactIndex(segments), panel_matched=True)
        return self._judged[key]

    def profiles(
        self, measured: np.ndarray | None, *, depth: float | None = None, within: np.ndarray | None = None
    ) -> Profiles | None:
        """Learn what expression the labels have, to tell cells unlike any of them.

        What was learned for the genes of the last query is kept, for the depths that were asked for.

        Parameters
        ----------
        measured
            Genes of the encoder that the query has, bool (n_genes,); None: all.
        depth
            Median counts of the query's cells, if known; two digits count, so that like samples share what is learned.
        within
            Cells that are looked at, bool (n_rows,); None: all.

        Returns
        -------
        None where no landmarks are kept, or of fewer than two studies that share labels.
        """
        landmarks = self.landmarks
        if landmarks is None:
            return None
        genes = np.ones(int(self._manifest["n_genes"]), dtype=bool) if measured is None else measured
        depth, seed = None if depth is None else float(f"{depth:.2g}"), int(self._manifest["seed"])
        codes, studies = self._landmark_codes
        if within is not None:
            some = np.flatnonzero(within[landmarks.rows])
            if len(np.unique(studies[some])) < 2:
                return None
            return ProfileFolds.of(landmarks.take(some), codes[some], studies[some], genes).at(depth, seed=seed)
        key = _key_of(genes)
        # Cells that were added come with other landmarks.
        if self._panel is None or self._panel[0] is not landmarks or self._panel[1] != key:
            self._panel = landmarks, key, ProfileFolds.of(landmarks, codes, studies, genes), {}
        _, _, panel, known = self._panel
        if depth not in known:
            known[depth] = panel.at(depth, seed=seed)
        return known[depth]

    def unseen_genes(self, measured: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Find genes that a query may lack because hardly any of its cells had a count, bool (n_genes,).

        Parameters
        ----------
        measured
            Genes of the encoder that the query has, bool (n_genes,).
        total
            Their counts in all cells, (n_genes,).
        """
        if self.landmarks is None or measured.all():
            return np.zeros(len(measured), dtype=bool)
        return unseen_genes(self.landmarks, *self._landmark_codes, measured, total)

    @property
    def _landmark_codes(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels of the landmarks, -1 for none and for doubtful ones, and their studies."""
        assert self.landmarks is not None  # the caller made sure
        rows = self.landmarks.rows
        codes = np.where(np.isin(rows, self._calibration.doubted), -1, self.label_codes[rows])
        return codes, self._codes(STUDY)[rows]

    @cached_property
    def landmarks(self) -> Landmarks | None:
        """Landmarks of all segments that have some."""
        segments, listed = self._manifest["segments"], self._manifest["files"]
        for name in map(landmarks_file, segments):
            if name in listed:
                store.check_file(self.path, self._manifest, name)
        joined = load_landmarks(self.path, segments, listed, int(self._manifest["n_genes"]))
        if joined is None or self._living is None:
            return joined
        return joined.take(np.flatnonzero(self._living[joined.rows]))
