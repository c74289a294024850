"""Open and build indexes: the only file that knows all kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._warn import warn
from ._composed import GrownIndex
from ._exact import ExactIndex
from ._graph import GraphIndex
from ._ivf_flat import LISTS, IvfFlatIndex, build_lists
from ._ivf_pq import IvfPqIndex
from ._ivf_pq_build import build_pq
from ._plan import IndexPlan
from ._pq_codes import KIND as SHORT_CODES
from ._protocol import Index
from ._vectors import FixedVectors


class Kind(NamedTuple):
    """A kind of index that is written to files.

    ``open`` takes vectors, folder, facts and plan. ``build`` takes vectors, path, plan and study of each cell, and
    returns a description of its files, and the rest.
    """

    open: Callable[[FixedVectors, Path, Mapping[str, Any], IndexPlan], Index]
    build: Callable[[FixedVectors, Path, IndexPlan, np.ndarray | None], tuple[dict[str, Any], dict[str, Any]]]


#: Name in a manifest -> kind.
KINDS = {LISTS: Kind(IvfFlatIndex, build_lists), SHORT_CODES: Kind(IvfPqIndex, build_pq)}


def open_index(
    vectors: FixedVectors, plan: IndexPlan, folder: Path | None = None, facts: Mapping[str, Any] | None = None
) -> Index:
    """Open an index of ``vectors``, those of all cells.

    ``folder`` and ``facts`` are the folder of the index and its entry in the manifest, if it was written to files.
    If it covers the first cells only, the others are searched exactly, and the hits merged.
    """
    if plan.backend == "pynndescent":
        return GraphIndex(vectors, plan)
    if folder is None or facts is None:
        return ExactIndex(vectors)
    if "trials" not in facts or facts.get("kind") not in KINDS:
        warn(
            "The index of this reference is of an older scim, and queries are compared with every cell instead. "
            "Reference.reindex() makes it again."
        )
        return ExactIndex(vectors)
    covered, later = vectors.split_at(int(facts.get("n_cells", len(vectors))))
    index = KINDS[facts["kind"]].open(covered, folder, facts, plan)
    return GrownIndex(index, vectors) if len(later) else index


def build_index(vectors: FixedVectors, path: Path, plan: IndexPlan, groups: np.ndarray | None = None) -> dict[str, Any]:
    """Build an index, measure how far a search has to go, and write it.

    An index of several files begins their names with that of ``path``. ``groups`` are the studies of the cells, codes
    (n_cells,): with several, the index is also tried on neighbours of other studies.

    Return what the manifest says of the index: its files, the cells it covers, lists, and how many of them to visit.
    """
    if groups is not None and (groups == groups[0]).all():
        groups = None
    kind = SHORT_CODES if len(vectors) >= plan.short_codes_from_cells else LISTS
    files, measured = KINDS[kind].build(vectors, path, plan, groups)
    return {"kind": kind, **files, "n_cells": len(vectors), **measured, "target": plan.recall, "seed": plan.seed}
