"""The index that a Dask cluster offers for a reference."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ...index import KIND, GrownIndex, Index, MaskedIndex
from .._cluster import Cluster, connect
from ._exact import ShardedExact
from ._ivf_pq import ShardedIvfPq
from ._shards import Found

if TYPE_CHECKING:
    from ..cells import StoredCells


def serve(reference: StoredCells, client: Any) -> tuple[Index, Callable[..., Found]]:
    """Give what searches a reference on a cluster, for the nearest cells and for all within a distance."""
    cluster = connect(client)
    exact, backend = ShardedExact(cluster, reference), indexed(cluster, reference)
    backend, findable = exact if backend is None else backend, reference._findable
    return backend if findable is None else MaskedIndex(backend, findable), exact.within_distance


def indexed(cluster: Cluster, reference: StoredCells) -> Index | None:
    """Give what searches the index on a cluster, and cells behind it exactly; None where there is none of codes."""
    facts = reference._manifest.get("index") or {}
    n_cells = list(accumulate(map(len, reference._segments)))
    n_covered = facts.get("n_cells", n_cells[-1])
    if facts.get("kind") != KIND or n_covered not in n_cells:
        return None
    covered = n_cells.index(n_covered) + 1
    backend = ShardedIvfPq(cluster, reference, facts, slice(covered))
    if covered == len(n_cells):
        return backend
    return GrownIndex(backend, reference._segments, ShardedExact(cluster, reference, slice(covered, None)))
