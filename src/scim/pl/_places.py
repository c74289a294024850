"""Find places for names on a map, where they cover neither each other nor the edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

#: Cells of a group that its densest place is searched among.
_MOST_CELLS = 500
#: Distances from the anchor that are tried, in heights of a name, and directions at each.
_DISTANCES, _DIRECTIONS = np.arange(0, 24, 0.5), 16


def densest(points: np.ndarray) -> np.ndarray:
    """Find the point in the densest part of a group of points (n, 2), so that its name is not between two islands."""
    some = points[:: max(1, len(points) // _MOST_CELLS)]
    squared = np.square(some[:, None] - some[None]).sum(axis=-1)
    scale = np.median(squared) / 16 + 1e-12
    return np.asarray(some[np.exp(-squared / scale).sum(axis=1).argmax()])


def places(
    anchors: np.ndarray, sizes: np.ndarray, box: Sequence[float], groups: Sequence[np.ndarray], cells: np.ndarray
) -> np.ndarray:
    """Place names near their anchors, the first name first.

    Parameters
    ----------
    anchors
        Where each name belongs, (n, 2).
    sizes
        Width and height of each name, (n, 2), in the unit of the anchors.
    box
        Left, bottom, right and top end of the map.
    groups
        Points of each name, (m, 2) each. A name may cover some of them, but not most.
    cells
        All points of the map, (n_cells, 2), which names rather do not cover.

    Returns
    -------
    Centre of each name, (n, 2). NaN if there is no room for a name.
    """
    low, high = np.array(box[:2]), np.array(box[2:])
    grid, step = _density(cells, low, high)
    found = np.full(anchors.shape, np.nan)
    for i, (anchor, size) in enumerate(zip(anchors, sizes, strict=True)):
        tried = np.clip(_around(anchor, size), low + size / 2, high - size / 2)
        free = np.ones(len(tried), dtype=bool)
        for other in np.flatnonzero(~np.isnan(found[:i, 0])):
            apart = np.abs(tried - found[other]) >= (size + sizes[other]) / 2
            free &= apart.any(axis=1)
        if not free.any():
            continue
        away = np.linalg.norm(tried - anchor, axis=1) / size[1]
        # The anchors of other names, and cells, may be covered, but a free place nearby is better.
        covered = np.zeros(len(tried))
        for other in np.delete(anchors, i, axis=0):
            covered += (np.abs(tried - other) < size / 2).all(axis=1)
        some = groups[i][:: max(1, len(groups[i]) // _MOST_CELLS)]
        own = (np.abs(tried[:, None] - some[None]) < size / 2).all(axis=-1).mean(axis=1)
        cost = away + 2 * covered + 3 * _covered(grid, step, low, tried, size) + 6 * own
        found[i] = tried[np.where(free, cost, np.inf).argmin()]
    return found


def _around(anchor: np.ndarray, size: np.ndarray) -> np.ndarray:
    """List places around an anchor, the nearest first."""
    angles = 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    # Names are wide: a step sideways is longer than a step up.
    wide = np.stack([np.cos(angles) * (1 + 0.25 * (size[0] / size[1] - 1)), np.sin(angles)], axis=1) * size[1]
    return np.asarray((anchor + _DISTANCES[:, None, None] * wide).reshape(-1, 2))


def _density(cells: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mark the tiles of the map that hold cells, summed up from the lower left; and the size of a tile."""
    bins = 100
    ends: list[Any] = [(low[0], high[0]), (low[1], high[1])]
    counts, _, _ = np.histogram2d(cells[:, 0], cells[:, 1], bins=bins, range=ends)
    sums = np.zeros((bins + 1, bins + 1))
    sums[1:, 1:] = (counts > 0).cumsum(axis=0).cumsum(axis=1)
    return sums, (high - low) / bins


def _covered(sums: np.ndarray, step: np.ndarray, low: np.ndarray, tried: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Share of each place's tiles that hold cells."""
    last = len(sums) - 1
    start = np.clip(np.floor((tried - size / 2 - low) / step).astype(int), 0, last)
    end = np.clip(np.ceil((tried + size / 2 - low) / step).astype(int), 0, last)
    (x0, y0), (x1, y1) = start.T, end.T
    inside = sums[x1, y1] - sums[x0, y1] - sums[x1, y0] + sums[x0, y0]
    return np.asarray(inside / np.maximum((x1 - x0) * (y1 - y0), 1))
