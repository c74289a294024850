"""The index that a Dask cluster offers for a reference."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

from ...index import KIND, GrownIndex, Index, IndexPlan, MaskedIndex
from .._cluster import connect
from ._exact import ShardedExact
from ._ivf_pq import ShardedIvfPq


def serve(client: Any, root: Path, manifest: Mapping[str, Any], index: Index) -> Index:
    """Give an index like the one that is open here, which the workers of a cluster search.

    ``client`` is a ``distributed.Client``. ``root``, ``manifest`` and ``index`` are those of the open reference.
    """
    every = ShardedExact(connect(client), root, manifest, index.vectors)
    served = _indexed(every) or every
    return index.over(served) if isinstance(index, MaskedIndex) else served


def _indexed(every: ShardedExact) -> Index | None:
    """Index of short codes on a cluster, with cells added since searched exactly; None if there is no such index."""
    facts = every.manifest.get("index") or {}
    n_cells = list(accumulate(map(len, every.vectors.segments)))
    n_covered = facts.get("n_cells", n_cells[-1])
    if facts.get("kind") != KIND or n_covered not in n_cells:
        return None
    covered = n_cells.index(n_covered) + 1
    index = ShardedIvfPq(every.part(slice(covered)), facts, IndexPlan.of(every.manifest))
    if covered == len(n_cells):
        return index
    return GrownIndex(index, every.vectors, every.part(slice(covered, None)))
