"""Values of an AnnData: which matrix, whether it holds counts or log1p values, and how to bring them to one scale."""

from ._blocks import BLOCK_ROWS, by_rows, iter_blocks, read_ahead
from ._kinds import InputKind, check_values, input_kind, refuse_mixed
from ._sample import MIN_VALUES, TARGET_SUM
from ._scale import as_counts, gene_moments, lognormal, lognormal_in_place
from ._values import WIDER, Matrix, Values, check_mapped, find_counts, find_values, organism_facts, place_name

__all__ = [
    "BLOCK_ROWS", "MIN_VALUES", "TARGET_SUM", "WIDER",
    "InputKind", "Matrix", "Values",
    "as_counts", "by_rows", "check_mapped", "check_values", "find_counts", "find_values", "gene_moments", "input_kind",
    "iter_blocks", "lognormal", "lognormal_in_place", "organism_facts", "place_name", "read_ahead",
    "refuse_mixed",
]  # fmt: skip
