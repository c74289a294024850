"""Which values of an AnnData are taken, what they are, and how they come to one scale."""

from ._blocks import BLOCK_ROWS, iter_blocks, n_rows, read_ahead
from ._kinds import TARGET_SUM, InputKind, check_values, input_kind
from ._scale import as_counts, lognormal_in_place
from ._values import WIDER, find_counts, find_values, place_name, values_of

__all__ = [
    "BLOCK_ROWS",
    "InputKind",
    "TARGET_SUM",
    "WIDER",
    "as_counts",
    "check_values",
    "find_counts",
    "find_values",
    "input_kind",
    "iter_blocks",
    "n_rows",
    "lognormal_in_place",
    "place_name",
    "read_ahead",
    "values_of",
]
