"""Caps on hits per group: a loop over hits, compiled when it is first needed."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def fill_groups(keep, groups, caps, n_groups):  # type: ignore[no-untyped-def]
    """Drop hits, in place, of groups (columns, m, k) that are full."""
    counts = np.zeros((len(caps), n_groups), dtype=np.int64)
    for row in range(keep.shape[0]):
        counts[:] = 0
        for i in range(keep.shape[1]):
            for column in range(len(caps)):
                if counts[column, groups[column, row, i]] >= caps[column]:
                    keep[row, i] = False
            if keep[row, i]:
                for column in range(len(caps)):
                    counts[column, groups[column, row, i]] += 1
