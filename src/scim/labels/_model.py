"""The model that labels cells: calibration and landmarks of a reference, matched to the genes of a query."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..index import ExactIndex, FixedVectors, Index, to_fixed
from ._calibration import Calibration, PanelHead, calibrate
from ._head import CalibrationKind
from ._landmarks import MISSING_SHARE, LabelledLandmarks
from ._novelty import Profiles
from ._panels import PanelLabels, panel_labels, unseen_genes
from ._thinned import thinned_landmarks

if TYPE_CHECKING:
    from ..encoder import Encoder

#: Recall of the search for the nearest cell, whose distance tests novelty. The p-value of another near cell is nearly
#: the same: with a million cells it differed by .0045, and one cell of 8,000 fell on the other side of .05.
_NEAREST_RECALL = 0.8
#: Smallest probability whose logarithm is taken.
_SMALLEST = 1e-6
#: Number of gene sets for which matched models are kept.
_CACHED_MODELS = 4

#: Measures the cosine distance of each vector (m, d) to its nearest cell, (m,), with a given recall.
Nearest = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True, eq=False)
class MatchedModel:
    """Heads and background that are valid for the genes of a query.

    Attributes
    ----------
    calibration
        Head and background.
    nearest
        Measures distances to the nearest cell.
    panel_matched
        Whether the cells are landmarks, embedded with the genes of the query.
    panel
        Head for labels that only studies of a gene panel have. Cells are embedded with its genes as well.
    unjudged
        Codes of such labels that cells cannot get, because they cannot be embedded again: int64 (u,).
    """

    calibration: Calibration
    nearest: Nearest
    panel_matched: bool
    panel: PanelHead | None = None
    unjudged: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def label(
        self,
        vectors: np.ndarray,
        panel_vectors: np.ndarray | None,
        n_labels: int,
        *,
        alpha: float,
        depth: np.ndarray | None = None,
        similarity: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute probabilities of labels, and the labels that cannot be ruled out.

        With a panel head, labels of panels have the probability that this head gives them. The other labels share the
        rest in proportion to the geometric mean of their probabilities by both heads. A label can be ruled out only by
        both heads.

        Parameters
        ----------
        vectors, panel_vectors
            Unit vectors of the cells, (m, d), and vectors in the genes of the panel if there is a panel head.
        n_labels
            Number of labels of the reference.
        alpha
            Tolerated error of the sets, see :meth:`Head.possible`.
        depth
            Counts of each cell, (m,). None: unknown.
        similarity
            Correlation of each cell's expression with the mean of each label, float32 (m, n_labels). None: unknown.

        Returns
        -------
        Probabilities, float32 (m, n_labels), and sets, bool (m, n_labels).
        """
        head = self.calibration.head
        assert head is not None  # the caller checks
        found = head.probabilities(vectors, n_labels, depth, similarity)
        inside = head.scale(similarity).possible(found, alpha=alpha, classes=head.classes)
        if self.panel is None or panel_vectors is None:
            return found, inside
        second = self.panel.head
        again = second.probabilities(panel_vectors, n_labels, depth)
        inside |= second.alone.possible(again, alpha=alpha, classes=second.classes)
        return _joined(found, again, self.panel.codes), inside

    def distances(self, vectors: np.ndarray) -> np.ndarray:
        """Measure the distance of each cell to the nearest cell, (m,); nan for a cell without a direction."""
        directed = vectors.any(axis=1)
        out = np.full(len(vectors), np.nan)
        if directed.any():
            out[directed] = self.nearest(np.ascontiguousarray(vectors[directed]), _NEAREST_RECALL)
        return out


def _joined(wide: np.ndarray, panel: np.ndarray, of_panels: np.ndarray) -> np.ndarray:
    """Join the probabilities (m, n_labels) of two heads, see :meth:`MatchedModel.label`."""
    out = np.sqrt(np.maximum(wide, _SMALLEST) * np.maximum(panel, _SMALLEST))
    out[(wide <= 0) & (panel <= 0)] = 0  # no head knows the label
    out[:, of_panels] = 0
    rest = 1 - panel[:, of_panels].sum(axis=1)
    out *= (rest / np.maximum(out.sum(axis=1), _SMALLEST))[:, None]
    out[:, of_panels] = panel[:, of_panels]
    # A cell without counts in the genes of the panel is judged by the other head.
    blind = ~panel.any(axis=1)
    out[blind] = wide[blind]
    return out


class LabelModel:
    """Head, background and landmarks of a reference, which can be matched to the genes of a query.

    Parameters
    ----------
    calibration
        Head and background of all cells.
    index
        Index of all cells.
    landmarks
        Reads the landmarks when they are first needed. It returns None if the reference keeps no landmarks.
    encoder
        Reads the encoder when it is first needed.
    below
        Labels that are a label or below it, bool (n_labels, n_labels).
    n_genes
        Number of genes of the encoder.
    seed
        Random seed.
    """

    def __init__(
        self,
        calibration: Calibration,
        index: Index,
        landmarks: Callable[[], LabelledLandmarks | None],
        encoder: Callable[[], Encoder],
        *,
        below: np.ndarray,
        n_genes: int,
        seed: int,
    ) -> None:
        self._calibration, self._index = calibration, index
        self._read_landmarks, self._encoder = landmarks, encoder
        self._below, self._n_genes, self._seed = below, n_genes, seed
        self._models: dict[str, MatchedModel] = {}
        #: Key of the genes and landmarks of the last query, and the labels that only panels have.
        self._last_panel: tuple[str, PanelLabels | None] | None = None
        #: Key of the genes of the last query, and their profiles.
        self._last_profiles: tuple[str, Profiles | None] | None = None

    @cached_property
    def _landmarks(self) -> LabelledLandmarks | None:
        return self._read_landmarks()

    @cached_property
    def _expression(self) -> np.ndarray:
        """Share of each gene in the expression of the landmarks, (n_genes,)."""
        landmarks = self._landmarks
        assert landmarks is not None  # the caller checks
        return landmarks.cells.expression(self._n_genes)

    def missing(self, measured: np.ndarray) -> float:
        """Share of the expression of the landmarks in genes that are not ``measured``, bool (n_genes,)."""
        return float(self._expression[~measured].sum())

    def background(self) -> np.ndarray:
        """Sorted cosine distances of reference cells to their nearest cell of another study, float32 (n,)."""
        return self._calibration.background

    @property
    def calibration_kind(self) -> CalibrationKind:
        """``"within-study"`` if the reference has one study, so that :meth:`background` has no other study."""
        return self._calibration.kind

    def distance_pvalue(self, distances: np.ndarray) -> np.ndarray:
        """Compute p-values of distances: the share of the background that is as large."""
        return self._calibration.pvalue(distances)

    def can_refit(self, within: np.ndarray) -> bool:
        """Whether a head can be fitted to the landmarks among some cells, bool (n_rows,)."""
        landmarks = self._landmarks
        if landmarks is None:
            return False
        codes = landmarks.codes[within[landmarks.cells.rows]]
        return len(np.unique(codes[codes >= 0])) > 1

    def matched(
        self,
        measured: np.ndarray | None = None,
        *,
        embeddable: np.ndarray | None = None,
        nearest: Nearest | None = None,
        within: np.ndarray | None = None,
    ) -> MatchedModel:
        """Match heads and background to the genes that a query measured, and to a part of the reference.

        Parameters
        ----------
        measured
            Genes of the encoder that the query has, bool (n_genes,). None: all. If the missing genes matter, the
            landmarks are embedded again without these genes, and replace the cells of the reference.
        embeddable
            Genes that the cells of the query have values of, bool (n_genes,), to embed them again in the genes of a
            panel, see ``scim.labels._panels``. None: the cells have no values.
        nearest
            Measures distances to the nearest cell. None: with the index of the reference.
        within
            Cells of the reference to use, bool (n_rows,): heads are fitted to the landmarks among them. None: all.
        """
        nearest = self._nearest if nearest is None else nearest
        landmarks = self._landmarks
        if landmarks is None:
            return MatchedModel(self._calibration, nearest, panel_matched=False)
        if within is not None:
            landmarks = landmarks.take(np.flatnonzero(within[landmarks.cells.rows]))
        every = np.ones(self._n_genes, dtype=bool) if measured is None else measured
        if within is None and self.missing(every) < MISSING_SHARE:
            model = MatchedModel(self._calibration, nearest, panel_matched=False)
        else:
            model = self._fitted(landmarks, every)
        known = self._calibration.panel
        if within is None and known is not None and self.missing(every | ~known.genes) < MISSING_SHARE:
            panel: PanelHead | None = known
            codes = known.codes
        else:
            found = self._panel_labels(landmarks, every)
            if found is None:
                return model
            head, codes = self._fitted(landmarks, found.genes).calibration.head, found.codes
            panel = None if head is None else PanelHead(codes, found.genes, head)
        if panel is None or embeddable is None or (panel.genes & every & ~embeddable).any():
            return replace(model, unjudged=codes)
        return replace(model, panel=replace(panel, genes=panel.genes & embeddable))

    def profiles(self, measured: np.ndarray | None, *, within: np.ndarray | None = None) -> Profiles | None:
        """Learn the mean expression of the labels, to find cells that are unlike all labels.

        Profiles for the genes of the last query are cached.

        Parameters
        ----------
        measured
            Genes of the encoder that the query has, bool (n_genes,). None: all.
        within
            Cells of the reference to compare with, bool (n_rows,). None: all.

        Returns
        -------
        The profiles. None if the reference does not have landmarks of two studies that share labels.
        """
        landmarks = self._landmarks
        if landmarks is None:
            return None
        genes = np.ones(self._n_genes, dtype=bool) if measured is None else measured
        if within is not None:
            chosen = landmarks.take(np.flatnonzero(within[landmarks.cells.rows]))
            if len(np.unique(chosen.studies)) < 2:
                return None
            return Profiles.of(chosen.cells, chosen.codes, chosen.studies, genes, seed=self._seed)
        key = _key_of(genes)
        if self._last_profiles is None or self._last_profiles[0] != key:
            made = Profiles.of(landmarks.cells, landmarks.codes, landmarks.studies, genes, seed=self._seed)
            self._last_profiles = key, made
        return self._last_profiles[1]

    def unseen_genes(self, measured: np.ndarray, total: np.ndarray) -> np.ndarray:
        """Find genes that a query may lack only because few of its cells have a count, bool (n_genes,).

        ``measured`` are the genes that the query has, bool (n_genes,). ``total`` is the sum of the counts of each gene,
        (n_genes,).
        """
        landmarks = self._landmarks
        if landmarks is None or measured.all():
            return np.zeros(len(measured), dtype=bool)
        return unseen_genes(landmarks.cells, landmarks.codes, landmarks.studies, measured, total)

    def _nearest(self, vectors: np.ndarray, recall: float) -> np.ndarray:
        return self._index.nearest(vectors, 1, recall=recall).distances[:, 0]

    def _panel_labels(self, landmarks: LabelledLandmarks, measured: np.ndarray) -> PanelLabels | None:
        """Find labels that only panels have, see :func:`panel_labels`; the last answer is kept."""
        key = _key_of(measured, landmarks.cells.rows)
        if self._last_panel is None or self._last_panel[0] != key:
            found = panel_labels(landmarks.cells, landmarks.codes, landmarks.studies, measured)
            self._last_panel = key, found
        return self._last_panel[1]

    def _fitted(self, landmarks: LabelledLandmarks, genes: np.ndarray) -> MatchedModel:
        """Embed the landmarks with ``genes``, bool (n_genes,), and calibrate with them."""
        key = _key_of(genes, landmarks.cells.rows)
        if key not in self._models:
            vectors, calibration = _calibrated(landmarks, self._encoder(), genes, self._below, seed=self._seed)
            index = ExactIndex(vectors)
            if len(self._models) >= _CACHED_MODELS:
                self._models.pop(next(iter(self._models)))
            self._models[key] = MatchedModel(
                calibration, lambda queries, _: index.nearest(queries, 1).distances[:, 0], panel_matched=True
            )
        return self._models[key]


def panel_head(landmarks: LabelledLandmarks, encoder: Encoder, below: np.ndarray, *, seed: int) -> PanelHead | None:
    """Fit the head for labels that only studies of a gene panel have. None if there are no such labels.

    Parameters
    ----------
    landmarks
        Landmarks of the reference with their labels.
    encoder
        Encoder of the reference.
    below
        Labels that are a label or below it, bool (n_labels, n_labels).
    seed
        Random seed.
    """
    every = np.ones(len(encoder.genes), dtype=bool)
    found = panel_labels(landmarks.cells, landmarks.codes, landmarks.studies, every)
    if found is None:
        return None
    head = _calibrated(landmarks, encoder, found.genes, below, seed=seed)[1].head
    return None if head is None else PanelHead(found.codes, found.genes, head)


def _calibrated(
    landmarks: LabelledLandmarks, encoder: Encoder, genes: np.ndarray, below: np.ndarray, *, seed: int
) -> tuple[FixedVectors, Calibration]:
    """Embed landmarks with ``genes``, bool (n_genes,), and calibrate with them."""
    cells = landmarks.cells
    # The landmarks are the cells of this calibration.
    placed = replace(landmarks, cells=replace(cells, rows=np.arange(len(cells))))
    vectors = FixedVectors([to_fixed(cells.embed(encoder, genes))])
    calibration = calibrate(
        vectors,
        landmarks.studies,
        landmarks.codes,
        n_labels=len(below),
        seed=seed,
        thinned=lambda: thinned_landmarks(placed, encoder, genes, n_labels=len(below), seed=seed),
        below=below,
    )
    return vectors, calibration


def _key_of(genes: np.ndarray, rows: np.ndarray | None = None) -> str:
    """Hash of a gene mask, bool (n_genes,), and of positions of cells."""
    digest = hashlib.sha256(np.packbits(genes).tobytes())
    digest.update(b"" if rows is None else rows.tobytes())
    return digest.hexdigest()
