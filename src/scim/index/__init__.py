"""Nearest neighbours among fixed-point unit vectors."""

from ._composed import GrownIndex, MaskedIndex
from ._effort import FilteredEffort
from ._exact import QUERIES, ExactIndex, nearest_elsewhere, within_distance
from ._files import CODES, ORDERED, REST, ROWS, Opened, effort_of, index_files
from ._ivf_pq import FEW, cut_lists
from ._open import BACKENDS, build_index, open_index
from ._plan import RECALL, WORTH
from ._pq_codes import KIND, ShortCodes
from ._protocol import Hits, Index, check_limit, distances_of, no_hits
from ._rerank import ListOrderedVectors
from ._search import MAX_HITS, check_queries, search
from ._vectors import CELLS_PER_BLOCK, gather_fixed, has_direction, take_vectors, to_fixed

__all__ = [
    "BACKENDS",
    "Index",
    "CELLS_PER_BLOCK",
    "CODES",
    "GrownIndex",
    "ExactIndex",
    "FEW",
    "FilteredEffort",
    "Hits",
    "KIND",
    "MaskedIndex",
    "MAX_HITS",
    "ORDERED",
    "Opened",
    "ListOrderedVectors",
    "QUERIES",
    "RECALL",
    "REST",
    "ROWS",
    "ShortCodes",
    "WORTH",
    "build_index",
    "check_limit",
    "check_queries",
    "cut_lists",
    "distances_of",
    "effort_of",
    "gather_fixed",
    "has_direction",
    "index_files",
    "open_index",
    "nearest_elsewhere",
    "no_hits",
    "search",
    "take_vectors",
    "to_fixed",
    "within_distance",
]
