"""How far a value lies beyond a background: conformal p-values, and novelty."""

from __future__ import annotations

import numpy as np


def conformal_pvalues(background: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Compute conformal p-values: (1 + number of background values as large) / (1 + size of the background).

    If a cell and the background are exchangeable, the p-value is at most p with a probability of at most p (Vovk et
    al., Algorithmic Learning in a Random World, 2005). The background is sorted.
    """
    n = len(background)
    n_larger = n - np.searchsorted(background, values, side="left")
    return (1.0 + n_larger) / (1.0 + n)


def novelty_scores(background: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Compute how far values lie beyond a sorted background, from 0 to 1; 0 without a background.

    With m the median of the background and q its 95 % point, z = (value - m) / (q - m), and the score is z / (1 + z): 0
    up to the median, 0.5 at the 95 % point, and 0.75 three times as far from the median as this point.
    """
    if not len(background):
        return np.zeros(len(values))
    middle, high = np.quantile(background, [0.5, 0.95])
    z = np.maximum((values - middle) / max(float(high - middle), 1e-6), 0)
    # A cell with another label than all others may have an infinite distance.
    return np.where(np.isfinite(z), z / (1 + np.where(np.isfinite(z), z, 0)), 1.0)
