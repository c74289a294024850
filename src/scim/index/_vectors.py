"""Unit vectors as int16 fixed-point numbers, and back to float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from ._kernels import to_unit

#: A coordinate is stored as round(x / max(|x|) * 32767), with the maximum over the vector. The length is known to be 1,
#: which brings the scale back. The error is at most 1.5e-5 of the largest coordinate.
SCALE = 32767
#: Cells of a block: its products with 1,024 queries take 64 MB.
CELLS_PER_BLOCK = 16_384
#: Float32 vectors of up to this many bytes are kept after their first use: 100,000 cells of 128 dimensions.
KEPT_BYTES = 51_200_000
#: Cells that are checked for a direction at a time.
_CHECKED_CELLS = 65_536


class FixedVectors:
    """Unit vectors as int16 fixed-point numbers (n_i, d), in segments, which may be mapped files.

    A position counts the cells of all segments, one segment after the other.
    """

    def __init__(self, segments: Sequence[np.ndarray]) -> None:
        self.segments = [np.asarray(segment) for segment in segments]
        self._starts = np.cumsum([0, *map(len, self.segments)])
        self._keep = 4 * len(self) * self.n_latent <= KEPT_BYTES
        self._kept: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def n_latent(self) -> int:
        """Dimensions of the vectors; 0 if there is no segment."""
        return int(self.segments[0].shape[1]) if self.segments else 0

    def count(self, allowed: np.ndarray | None) -> int:
        """Count the cells that are ``allowed``, bool (n,); None: all."""
        return len(self) if allowed is None else int(np.count_nonzero(allowed))

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of the cells ``rows``, in their order, float32 (m, d) of length 1; zero vectors stay zero."""
        return to_float(self.gather(rows))

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of the cells ``rows``, in their order, int16 (m, d) as they are stored."""
        taken = np.empty((len(rows), self.n_latent), dtype=np.int16)
        which = np.searchsorted(self._starts, rows, side="right") - 1
        for i in np.unique(which):
            mine = which == i
            taken[mine] = self.segments[i][rows[mine] - self._starts[i]]
        return taken

    def split_at(self, n: int) -> tuple[FixedVectors, FixedVectors]:
        """Vectors of the first ``n`` cells, and of the others."""
        if n >= len(self):
            return self, FixedVectors([])
        first, others = [], []
        for segment, start in zip(self.segments, self._starts[:-1].tolist(), strict=True):
            cut = min(max(n - start, 0), len(segment))
            first += [segment[:cut]] if cut else []
            others += [segment[cut:]] if cut < len(segment) else []
        return FixedVectors(first), FixedVectors(others)

    def runs(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, int, np.ndarray]]:
        """Yield each segment, the position of its first cell, and those of ``rows``, which ascend, that lie in it."""
        bounds = np.searchsorted(rows, self._starts)
        for segment, start, (a, b) in zip(self.segments, self._starts.tolist(), pairwise(bounds), strict=False):
            if a < b:
                yield segment, start, rows[a:b]

    def blocks(self, allowed: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield positions and unit vectors, float32, of cells that have a direction and are ``allowed``, in order.

        Blocks begin at the same cells whatever else is searched, here and on a cluster, so that products round alike.
        """
        for segment, start in zip(self.segments, self._starts.tolist(), strict=False):
            for first in range(0, len(segment), CELLS_PER_BLOCK):
                last = min(first + CELLS_PER_BLOCK, len(segment))
                mask = None if allowed is None else allowed[start + first : start + last]
                rows, vectors = self._block(segment, start, first, last, mask)
                if len(rows):
                    yield rows, vectors

    def _block(
        self, segment: np.ndarray, start: int, first: int, last: int, mask: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if not self._keep:
            return _directed(segment, start, np.arange(first, last) if mask is None else first + np.flatnonzero(mask))
        key = start + first, start + last
        if key not in self._kept:
            self._kept[key] = _directed(segment, start, np.arange(first, last))
        rows, vectors = self._kept[key]
        if mask is None:
            return rows, vectors
        chosen = mask[rows - key[0]]
        return rows[chosen], vectors[chosen]


def _directed(segment: np.ndarray, start: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read the unit vectors of the ``rows`` of a segment that have a direction, and their positions."""
    vectors = np.empty((len(rows), segment.shape[1]), dtype=np.float32)
    if to_unit(segment, rows, vectors):
        directed = vectors.any(axis=1)
        rows, vectors = rows[directed], vectors[directed]
    return start + rows, vectors


def has_direction(fixed: np.ndarray) -> np.ndarray:
    """Whether cells have a direction, bool (n,), by their vectors, int16 (n, d). Cells without counts have none."""
    steps = range(0, len(fixed), _CHECKED_CELLS)
    return np.concatenate([np.asarray(fixed[i : i + _CHECKED_CELLS]).any(axis=1) for i in steps])


def to_fixed(vectors: np.ndarray) -> np.ndarray:
    """Vectors as fixed-point numbers, int16."""
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    fixed = np.divide(vectors * np.float32(SCALE), largest, out=np.zeros_like(vectors), where=largest > 0)
    return np.round(fixed).astype("<i2")


def to_float(fixed: np.ndarray) -> np.ndarray:
    """Fixed-point vectors as float32 of length 1; zero vectors stay zero."""
    vectors = np.empty(fixed.shape, dtype=np.float32)
    to_unit(fixed, np.arange(len(fixed)), vectors)
    return vectors


def both(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    """Cells that two masks allow, bool (n,), either of which may be None for all cells."""
    if a is None or b is None:
        return b if a is None else a
    return a & b
