"""Nearest neighbours among fixed-point unit vectors."""

from ._capped import Cap
from ._composed import GrownIndex, MaskedIndex
from ._effort import FilteredEffort
from ._exact import QUERIES, ExactIndex, nearest_elsewhere
from ._files import CODES, ORDERED, REST, ROWS, Opened, effort_of, index_files, selector_of
from ._ivf_pq import cut_lists
from ._open import build_index, open_index
from ._plan import IndexPlan
from ._pq_codes import KIND, ShortCodes
from ._protocol import MAX_HITS, ApproximateIndex, Hits, Index, check_limit
from ._rerank import ListOrderedVectors
from ._search import Query, check_queries, search
from ._vectors import CELLS_PER_BLOCK, FixedVectors, both, has_direction, to_fixed

__all__ = [
    "CELLS_PER_BLOCK", "CODES", "KIND", "MAX_HITS", "ORDERED", "QUERIES", "REST", "ROWS",
    "ApproximateIndex", "Cap", "ExactIndex", "FilteredEffort", "FixedVectors", "GrownIndex", "Hits", "Index",
    "IndexPlan", "ListOrderedVectors", "MaskedIndex", "Opened", "Query", "ShortCodes",
    "both", "build_index", "check_limit", "check_queries", "cut_lists", "effort_of", "has_direction", "index_files",
    "nearest_elsewhere", "open_index", "search", "selector_of", "to_fixed",
]  # fmt: skip
