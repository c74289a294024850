"""Simulated cells of several labels and studies, as arrays."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from scim.labels import LabelledLandmarks, Landmarks

N_GENES = 300
N_LABELS = 4


class Simulation:
    """Counts of cells: a profile for each label, and a factor for each gene and study.

    Parameters
    ----------
    seed
        Seed of profiles and counts.
    study_effect
        Standard deviation of the logarithm of the factors.
    depth
        Mean counts of a cell.
    """

    def __init__(self, seed: int, *, study_effect: float = 0.3, depth: float = 600.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.profiles = self.rng.gamma(0.5, 1.0, (N_LABELS, N_GENES)) + 0.3
        self.study_effect, self.depth = study_effect, depth

    def study(self, codes: np.ndarray) -> sparse.csr_matrix:
        """Draw counts of the cells of a new study, (n, N_GENES)."""
        factors = np.exp(self.study_effect * self.rng.normal(size=N_GENES))
        # Cells of a label differ from one another by more than chance.
        mean = self.profiles[codes] * factors * self.rng.gamma(2.0, 0.5, (len(codes), N_GENES))
        mean *= self.depth / mean.sum(axis=1, keepdims=True)
        return sparse.csr_matrix(self.rng.poisson(mean).astype(np.float32))

    def landmarks(self, n_studies: int = 5, n_cells: int = 40) -> LabelledLandmarks:
        """Draw landmarks of several studies, with ``n_cells`` of each label."""
        codes = np.repeat(np.arange(N_LABELS), n_cells)
        counts = sparse.vstack([self.study(codes) for _ in range(n_studies)], format="csr")
        studies = np.repeat(np.arange(n_studies), len(codes))
        return LabelledLandmarks(Landmarks.of(counts, np.arange(len(studies))), np.tile(codes, n_studies), studies)
