"""Fixed-point vectors to float32: compiled, because NumPy goes through them five times for it."""

from __future__ import annotations

import numpy as np

from .._compiled import njit


@njit(nogil=True, fastmath={"reassoc", "contract"})
def to_unit(segment, rows, out):  # type: ignore[no-untyped-def]
    """Bring rows of fixed-point numbers to length 1; zero vectors stay zero. Returns how many there are of these."""
    empty = 0
    for i in range(len(rows)):
        vector = segment[rows[i]]
        # Whole numbers up to 2**30: their sum is exact, in whatever order.
        total = np.int64(0)
        for j in range(len(vector)):
            total += np.int32(vector[j]) * np.int32(vector[j])
        empty += total == 0
        scale = np.float32(1 / np.sqrt(np.float64(total))) if total else np.float32(0)
        for j in range(len(vector)):
            out[i, j] = np.float32(vector[j]) * scale
    return empty
