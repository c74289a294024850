"""Hits, and how filters and caps shape them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._validate import check_fraction, check_key, check_positive_int, did_you_mean
from .._warn import warn
from ._exact import no_hits, within_distance
from ._protocol import Backend

#: Most hits of one search within a distance; ten columns of them take about half a gigabyte.
MAX_HITS = 5_000_000
#: Hits that are looked through at a time where groups are capped.
_HITS = 4_000_000
#: Where caps leave too few of this part of all cells, all are gone through at once.
_DEEP = 64


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
    """Bring queries to float32 vectors of length 1 (m, n_latent); zero ones stay zero."""
    try:
        queries = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    except (ValueError, TypeError) as error:  # text, or rows of several lengths
        raise TypeError(f"vectors must be numbers (n_queries, {n_latent}), got {vectors!r:.60}.") from error
    if queries.ndim != 2 or queries.shape[1] != n_latent:
        raise ValueError(
            f"vectors must be (n_queries, {n_latent}), as the reference's encoder makes them, got {np.shape(vectors)}."
        )
    if not np.isfinite(queries).all():
        raise ValueError("vectors holds NaN or infinite values. Embed the cells again with scim.tl.embed.")
    largest = np.abs(queries).max(axis=1, keepdims=True, initial=0)
    odd = ((largest > 1e15) | (largest < 1e-15)) & (largest > 0)  # squares of these are too large or small
    queries = np.divide(queries, largest, out=queries.copy(), where=odd)
    length = np.linalg.norm(queries, axis=1, keepdims=True)
    return np.divide(queries, length, out=np.zeros_like(queries), where=length > 0)


def search(
    backend: Backend,
    queries: np.ndarray,
    k: int | None,
    *,
    n_cells: int,
    allowed: np.ndarray | None,
    max_distance: float | None,
    groups: Mapping[str, tuple[np.ndarray, int]],
    recall: float | None = None,
    find_within: Callable[[np.ndarray, float, np.ndarray | None, int], tuple[np.ndarray, np.ndarray]] | None = None,
) -> Hits:
    """Search with a filter, a largest distance, and caps on hits per group.

    Parameters
    ----------
    backend
        Where to search.
    queries
        Vectors of length 1, or zero for a cell without counts, which gets no hits.
    k
        Hits of each query; None: all within ``max_distance``.
    n_cells
        Cells that have a direction.
    allowed
        Cells that may be returned, bool (n,), or None.
    max_distance
        Largest cosine distance of a hit.
    groups
        Column -> (group code of each cell, most hits of a group).
    recall
        Share of the true neighbours to find; None: what the index was built for.
    find_within
        Finds all cells within a distance, of queries, distance, ``allowed`` and most hits; by default in this process.
    """
    if max_distance is not None:
        check_fraction(max_distance, argument="max_distance", high=2.0)
    if recall is not None:
        check_fraction(recall, argument="recall")
    directed = np.flatnonzero(queries.any(axis=1))
    if k is None:
        if max_distance is None:
            raise ValueError("k=None gives all cells within max_distance=, which is missing. Give one of them.")
        if find_within is None:
            found = within_distance(backend.segments, queries[directed], max_distance, allowed, limit=MAX_HITS)
        else:
            found = find_within(queries[directed], max_distance, allowed, MAX_HITS)
        if groups:
            keep = _under_caps(found[0], groups)
            found = _packed(*found, keep, int(keep.sum(axis=1).max(initial=0)))
        return Hits(*_spread(found, directed, len(queries), found[0].shape[1]))
    k = check_positive_int(k, argument="k")
    available = n_cells if allowed is None else int(np.count_nonzero(allowed))
    if k > available:
        warn(f"k={k} is more than the {available:,} cells that may be found: the remaining hits are empty.")
    # No more columns than there can be hits, whatever was asked for.
    k = wanted = min(k, max(available, 1))
    if not (available and len(directed)):
        found = np.empty((len(directed), 0), dtype=np.int64), np.empty((len(directed), 0), dtype=np.float32)
    elif groups:
        local = backend.segments if find_within is None else None
        found = _search_capped(backend, queries[directed], wanted, available, allowed, groups, local, recall)
    else:
        found = backend.search(queries[directed], wanted, allowed, recall)
    indices, distances = _spread(found, directed, len(queries), k)
    if max_distance is not None:
        # Hits are sorted, so that those too far are the last ones.
        indices[distances > max_distance] = -1
        distances[indices < 0] = np.inf
    return Hits(indices, distances)


def _spread(found: tuple[np.ndarray, np.ndarray], rows: np.ndarray, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Put what was found for some of n queries in its place among k hits of all; nothing is -1 and inf."""
    indices, distances = no_hits(n, k)
    indices[rows, : found[0].shape[1]], distances[rows, : found[0].shape[1]] = found
    return indices, distances


def _search_capped(
    backend: Backend,
    queries: np.ndarray,
    k: int,
    available: int,
    allowed: np.ndarray | None,
    groups: Mapping[str, tuple[np.ndarray, int]],
    local: list[np.ndarray] | None,
    recall: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Search deeper and deeper, until what the caps leave fills k places or nothing more can be found.

    Where the vectors are ``local``, the last step goes through all of them: a cap on types is filled by cells that lie
    far out, and deeper searches would come to the same, each after the other.
    """
    indices, distances = no_hits(len(queries), k)
    enough = min(k, *(_most_hits(codes if allowed is None else codes[allowed], cap) for codes, cap in groups.values()))
    todo, depth = np.arange(len(queries)), k
    while len(todo):
        if local is not None and depth * _DEEP > available:
            from ._capped import search_all

            indices[todo], distances[todo] = search_all(local, queries[todo], k, allowed, list(groups.values()))
            break
        missing = []
        step = max(1, _HITS // depth)
        for part in (todo[i : i + step] for i in range(0, len(todo), step)):
            found, near = backend.search(queries[part], depth, allowed, recall)
            keep = _under_caps(found, groups)
            full = (keep.sum(axis=1) >= enough) | (depth == available)
            indices[part[full]], distances[part[full]] = _packed(found[full], near[full], keep[full], k)
            missing.append(part[~full])
        todo, depth = np.concatenate(missing), min(4 * depth, available)
    return indices, distances


def _most_hits(codes: np.ndarray, cap: int) -> int:
    """How many cells can be found at most with ``cap`` of each group; a missing value, -1, is a group as well."""
    return int(np.minimum(np.bincount(codes + 1), cap).sum())


def _under_caps(indices: np.ndarray, groups: Mapping[str, tuple[np.ndarray, int]]) -> np.ndarray:
    """Mark the hits that come before their group is full; what one column drops does not fill a group of another."""
    from ._capped import fill_groups

    keep = indices >= 0
    # A missing value, -1, is a group as well.
    mine = [np.where(keep, codes[indices], -1) + 1 for codes, _ in groups.values()]
    stacked = np.stack(mine) if mine else np.empty((0, *indices.shape), dtype=np.int64)
    caps = np.array([cap for _, cap in groups.values()], dtype=np.int64)
    fill_groups(keep, stacked, caps, int(stacked.max(initial=0)) + 1)
    return keep


def _packed(found: np.ndarray, near: np.ndarray, keep: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Kept hits moved to the front of each row, and rows cut to k."""
    order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(keep, order, 1)
    return (
        np.where(kept, np.take_along_axis(found, order, 1), -1),
        np.where(kept, np.take_along_axis(near, order, 1), np.inf),
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
    return {column: min(int(most), 2**31) for column, most in caps.items()}


def unknown_reference(path: Path, there: list[str]) -> FileNotFoundError:
    """Error for a reference that is not there, naming those that are, but no hidden ones: builds under way."""
    seen = [name for name in there if not name.startswith(".")]
    others = f"In that folder: {did_you_mean(path.name, seen)}" if seen else "That folder holds none."
    return FileNotFoundError(f"There is no reference {str(path)!r}. {others}")
