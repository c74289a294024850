"""The model that labels cells: calibration and landmarks of a reference, matched to the genes of a query."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..index import ExactIndex, FixedVectors, Index, to_fixed
from ._calibration import Calibration, calibrate
from ._head import CalibrationKind
from ._landmarks import MISSING_SHARE, LabelledLandmarks
from ._novelty import ProfileFolds, Profiles
from ._panels import comparable_genes, unseen_genes

if TYPE_CHECKING:
    from ..encoder import Encoder

#: Recall of the search for the nearest cell, whose distance tests novelty. The p-value of another near cell is nearly
#: the same: with a million cells it differed by .0045, and one cell of 8,000 fell on the other side of .05.
_NEAREST_RECALL = 0.8
#: Number of gene sets for which matched models are kept.
_CACHED_MODELS = 4

#: Measures the cosine distance of each vector (m, d) to its nearest cell, (m,), with a given recall.
Nearest = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True, eq=False)
class MatchedModel:
    """Head and background that are valid for the genes of a query.

    Attributes
    ----------
    calibration
        Head and background.
    nearest
        Measures distances to the nearest cell.
    panel_matched
        Whether the cells are landmarks, embedded with the genes of the query.
    genes
        Genes that the cells of the query must be embedded with, bool (n_genes,). None: their embedding can be used.
    is_narrow
        Whether the cells should be embedded again with fewer genes, but cannot be. They do not get labels that only
        studies of a gene panel have.
    """

    calibration: Calibration
    nearest: Nearest
    panel_matched: bool
    genes: np.ndarray | None = None
    is_narrow: bool = False

    def novelty(self, vectors: np.ndarray) -> np.ndarray:
        """Compute p-values of the distances to the nearest cell, (m,); 1 for a cell without a direction."""
        directed = vectors.any(axis=1)
        out = np.ones(len(vectors))
        if directed.any():
            distances = self.nearest(np.ascontiguousarray(vectors[directed]), _NEAREST_RECALL)
            out[directed] = self.calibration.pvalue(distances)
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
    n_labels, n_genes
        Number of labels of the reference, and number of genes of the encoder.
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
        n_labels: int,
        n_genes: int,
        seed: int,
    ) -> None:
        self._calibration, self._index = calibration, index
        self._read_landmarks, self._encoder = landmarks, encoder
        self._n_labels, self._n_genes, self._seed = n_labels, n_genes, seed
        self._models: dict[str, MatchedModel] = {}
        #: Key of the last genes, their profile folds, and the profiles for each depth.
        self._last_folds: tuple[str, ProfileFolds, dict[float | None, Profiles | None]] | None = None

    @cached_property
    def _landmarks(self) -> LabelledLandmarks | None:
        return self._read_landmarks()

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

    def matched(
        self,
        measured: np.ndarray | None = None,
        *,
        embeddable: np.ndarray | None = None,
        nearest: Nearest | None = None,
    ) -> MatchedModel:
        """Match head and background to the genes that a query measured.

        Parameters
        ----------
        measured
            Genes of the encoder that the query has, bool (n_genes,). None: all. If the missing genes matter, the
            landmarks are embedded again without these genes, and replace the cells of the reference.
        embeddable
            Genes that the cells of the query have values of, bool (n_genes,), to embed them again with fewer genes
            (``genes`` of the model), see ``scim.labels._panels``. None: the cells have no values.
        nearest
            Measures distances to the nearest cell. None: with the index of the reference.
        """
        if nearest is None:
            nearest = self._nearest
        landmarks = self._landmarks
        if landmarks is None:
            return MatchedModel(self._calibration, nearest, panel_matched=False)
        every = np.ones(self._n_genes, dtype=bool) if measured is None else measured
        genes = comparable_genes(landmarks.cells, landmarks.codes, landmarks.studies, every)
        if genes is not None and embeddable is not None and not (genes & ~embeddable).any():
            return replace(self._fitted(landmarks, genes), genes=genes)
        if landmarks.cells.missing(every) < MISSING_SHARE:
            return MatchedModel(self._calibration, nearest, panel_matched=False, is_narrow=genes is not None)
        model = self._fitted(landmarks, every)
        return model if genes is None else replace(model, is_narrow=True)

    def profiles(
        self, measured: np.ndarray | None, *, depth: float | None = None, within: np.ndarray | None = None
    ) -> Profiles | None:
        """Learn the mean expression of the labels, to find cells that are unlike all labels.

        Profiles for the genes of the last query are cached for each depth.

        Parameters
        ----------
        measured
            Genes of the encoder that the query has, bool (n_genes,). None: all.
        depth
            Median counts of a cell of the query. None: unknown. It is rounded to two digits, so that samples of similar
            depth share the profiles.
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
        depth = None if depth is None else float(f"{depth:.2g}")
        if within is not None:
            chosen = landmarks.take(np.flatnonzero(within[landmarks.cells.rows]))
            if len(np.unique(chosen.studies)) < 2:
                return None
            return ProfileFolds.of(chosen.cells, chosen.codes, chosen.studies, genes).at(depth, seed=self._seed)
        key = _key_of(genes)
        if self._last_folds is None or self._last_folds[0] != key:
            folds = ProfileFolds.of(landmarks.cells, landmarks.codes, landmarks.studies, genes)
            self._last_folds = key, folds, {}
        _, folds, known = self._last_folds
        if depth not in known:
            known[depth] = folds.at(depth, seed=self._seed)
        return known[depth]

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

    def _fitted(self, landmarks: LabelledLandmarks, genes: np.ndarray) -> MatchedModel:
        """Embed the landmarks with ``genes``, bool (n_genes,), and calibrate with them."""
        key = _key_of(genes)
        if key not in self._models:
            encoder = self._encoder()
            vectors = FixedVectors([to_fixed(landmarks.cells.embed(encoder, genes))])

            def thinned() -> tuple[np.ndarray, np.ndarray]:
                cells = landmarks.cells.thinned(seed=self._seed)
                return np.arange(len(cells)), cells.embed(encoder, genes)

            calibration = calibrate(
                vectors, landmarks.studies, landmarks.codes, n_labels=self._n_labels, seed=self._seed, thinned=thinned
            )
            index = ExactIndex(vectors)
            if len(self._models) >= _CACHED_MODELS:
                self._models.pop(next(iter(self._models)))
            self._models[key] = MatchedModel(
                calibration, lambda queries, _: index.nearest(queries, 1).distances[:, 0], panel_matched=True
            )
        return self._models[key]


def _key_of(genes: np.ndarray) -> str:
    """Hash of a gene mask, bool (n_genes,)."""
    return hashlib.sha256(np.packbits(genes).tobytes()).hexdigest()
