"""Hits, and how filters and caps shape them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .._validate import check_fraction, check_key, check_positive_int, did_you_mean
from ._backend import Backend


@dataclass(frozen=True, eq=False)
class Hits:
    """Nearest reference cells of m queries.

    Attributes
    ----------
    indices
        Rows of the reference, int64 (m, k), nearest first, equal ones by row; -1 where there is no hit.
    distances
        Cosine distances 1 - cos, float32 (m, k), from 0 to 2; inf where there is no hit.
    """

    indices: np.ndarray
    distances: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)


def check_queries(vectors: np.ndarray, n_latent: int) -> np.ndarray:
    """Queries as float32 vectors of length 1 (m, n_latent); zero ones stay zero."""
    queries = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    if queries.ndim != 2 or queries.shape[1] != n_latent:
        raise ValueError(
            f"vectors must be (n_queries, {n_latent}), as the reference's encoder makes them, got {np.shape(vectors)}."
        )
    if not np.isfinite(queries).all():
        raise ValueError("vectors holds NaN or infinite values. Embed the cells again with scim.tl.embed.")
    length = np.linalg.norm(queries, axis=1, keepdims=True)
    return np.divide(queries, length, out=np.zeros_like(queries), where=length > 0)


def search(
    backend: Backend,
    queries: np.ndarray,
    k: int,
    *,
    n_cells: int,
    allowed: np.ndarray | None,
    max_distance: float | None,
    groups: Mapping[str, tuple[np.ndarray, int]],
) -> Hits:
    """Search with a filter, a largest distance, and caps on hits per group.

    Parameters
    ----------
    backend
        Where to search.
    queries
        Vectors of length 1, or zero for a cell without counts, which gets no hits.
    k
        Hits of each query.
    n_cells
        Cells that have a direction.
    allowed
        Cells that may be returned, bool (n,), or None.
    max_distance
        Largest cosine distance of a hit.
    groups
        Column -> (group code of each cell, most hits of a group).
    """
    k = check_positive_int(k, argument="k")
    if max_distance is not None:
        check_fraction(max_distance, argument="max_distance", high=2.0)
    available = n_cells if allowed is None else int(allowed.sum())
    if k > available:
        warnings.warn(
            f"k={k} is more than the {available:,} cells that may be found: the remaining hits are empty.",
            UserWarning,
            stacklevel=3,
        )
    wanted = min(k, available)
    indices, distances = backend.search(queries, wanted, allowed)
    depth = wanted
    while groups and depth < available:
        keep = _under_caps(indices, groups)
        if (keep.sum(axis=1) >= wanted).all():
            break
        # Cells over a cap leave gaps: look deeper until they are filled or there is nothing left.
        depth = min(4 * depth, available)
        indices, distances = backend.search(queries, depth, allowed)
    drop = (indices < 0) | ~queries.any(axis=1)[:, None]
    if groups:
        drop |= ~_under_caps(indices, groups)
    if max_distance is not None:
        drop |= distances > max_distance
    return _packed(indices, distances, drop, k)


def _under_caps(indices: np.ndarray, groups: Mapping[str, tuple[np.ndarray, int]]) -> np.ndarray:
    """Hits that are among the first ones of their group, for every column."""
    keep = indices >= 0
    for codes, most in groups.values():
        for row, hits in enumerate(indices):
            mine = codes[hits]
            order = np.argsort(mine, kind="stable")
            first = np.r_[0, np.flatnonzero(np.diff(mine[order])) + 1]
            rank = np.empty(len(hits), dtype=np.int64)
            rank[order] = np.arange(len(hits)) - np.repeat(first, np.diff(np.r_[first, len(hits)]))
            keep[row] &= rank < most
    return keep


def _packed(indices: np.ndarray, distances: np.ndarray, drop: np.ndarray, k: int) -> Hits:
    """Hits moved to the front of each row, and rows padded to k."""
    order = np.argsort(drop, axis=1, kind="stable")[:, :k]
    found = np.where(np.take_along_axis(drop, order, 1), -1, np.take_along_axis(indices, order, 1))
    near = np.where(found < 0, np.inf, np.take_along_axis(distances, order, 1)).astype(np.float32)
    pad = ((0, 0), (0, k - found.shape[1]))
    return Hits(
        np.pad(found, pad, constant_values=-1).astype(np.int64), np.pad(near, pad, constant_values=np.float32(np.inf))
    )


def check_caps(caps: Mapping[str, int] | None, columns: list[str]) -> dict[str, int]:
    """Check ``max_per_group``, a mapping of column -> most hits."""
    if caps is None:
        return {}
    if not isinstance(caps, Mapping):
        raise TypeError(f'max_per_group must be a mapping such as {{"donor": 50}}, got {caps!r}.')
    for column, most in caps.items():
        check_key(dict.fromkeys(columns), column, argument="max_per_group", where="the reference's metadata")
        check_positive_int(most, argument=f"max_per_group[{column!r}]")
    return dict(caps)


def unknown_reference(name: str, there: list[str]) -> FileNotFoundError:
    """Error for a reference that is not there."""
    return FileNotFoundError(f"There is no reference {name!r}. {did_you_mean(name, there)} Give the path of its folder.")
