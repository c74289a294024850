"""Unit vectors as int16 fixed-point numbers, and back to float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np

#: Reference cells, and queries, that are multiplied at a time: 64 MB of products.
CELLS_PER_BLOCK = 16_384


#: Cells for which compiled code, which takes half a second to import, is not worth it.
_FEW = 50_000


def blocks(segments: list[np.ndarray], allowed: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield positions and unit vectors of cells that have a direction and are ``allowed``, in order."""
    convert = _convert if sum(map(len, segments)) <= _FEW else _compiled()
    start = 0
    for segment in segments:
        for begin in range(0, len(segment), CELLS_PER_BLOCK):
            # The same cells stand in a product whatever else is searched, here and elsewhere: so do its roundings.
            rows = np.arange(begin, min(begin + CELLS_PER_BLOCK, len(segment)))
            if allowed is not None:
                rows = rows[allowed[start + begin : start + begin + len(rows)]]
            vectors = np.empty((len(rows), segment.shape[1]), dtype=np.float32)
            if convert(np.asarray(segment), rows, vectors):
                directed = vectors.any(axis=1)
                rows, vectors = rows[directed], vectors[directed]
            if len(rows):
                yield start + rows, vectors
        start += len(segment)


def _compiled() -> Callable[[np.ndarray, np.ndarray, np.ndarray], int]:
    from ._kernels import to_unit

    return cast("Callable[[np.ndarray, np.ndarray, np.ndarray], int]", to_unit)


def _convert(segment: np.ndarray, rows: np.ndarray, out: np.ndarray) -> int:
    """Do what :func:`scim.index._kernels.to_unit` does, to the last bit."""
    out[:] = to_float(segment[rows])
    return int((~out.any(axis=1)).sum())


#: A coordinate is stored as round(x / max(|x|) * 32767), the maximum over the vector: its length is known to be 1, so
#: that reading brings the scale back, and the error is 1.5e-5 of the largest coordinate at most.
SCALE = 32767


#: Cells that are looked through at a time.
_BLOCK = 65_536


def has_direction(segments: Sequence[np.ndarray]) -> np.ndarray:
    """Cells that have a direction, bool (n,); those without counts have none."""
    steps = [part[i : i + _BLOCK] for part in segments for i in range(0, len(part), _BLOCK)]
    return np.concatenate([np.asarray(step).any(axis=1) for step in steps])


def to_fixed(vectors: np.ndarray) -> np.ndarray:
    """Vectors as fixed-point numbers, int16."""
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    fixed = np.divide(vectors * np.float32(SCALE), largest, out=np.zeros_like(vectors), where=largest > 0)
    return np.round(fixed).astype("<i2")


def to_float(fixed: np.ndarray) -> np.ndarray:
    """Fixed-point vectors as float32, brought back to length 1, as `_fixed.to_unit` does; zero vectors stay zero."""
    # Whole numbers up to 2**30, whose sum is exact.
    exact = fixed.astype(np.float64)
    length = np.sqrt(np.einsum("nd,nd->n", exact, exact))
    scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0).astype(np.float32)
    return fixed.astype(np.float32) * scale[:, None]


def take_vectors(segments: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Vectors of some cells in the order given, float32 of length 1."""
    return to_float(gather_fixed(segments, rows))


def gather_fixed(segments: list[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Vectors of some cells in the order given, int16 (m, d), as they are stored."""
    starts = np.cumsum([0, *map(len, segments)])
    taken = np.empty((len(rows), segments[0].shape[1]), dtype=np.int16)
    which = np.searchsorted(starts, rows, side="right") - 1
    for i in np.unique(which):
        mine = which == i
        taken[mine] = segments[i][rows[mine] - starts[i]]
    return taken


def split_at(segments: list[np.ndarray], n: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Vectors of the first ``n`` cells, and of the others."""
    first, others, start = [], [], 0
    for segment in segments:
        cut = min(max(n - start, 0), len(segment))
        if cut:
            first.append(segment[:cut])
        if cut < len(segment):
            others.append(segment[cut:])
        start += len(segment)
    return first, others
