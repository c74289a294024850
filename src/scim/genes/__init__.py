"""Which genes: ordered lists of genes, and how the columns of data map onto them."""

from ._names import IdKind
from ._space import COMFORTABLE_FRACTION, MIN_GENES, GeneMap, GeneSpace, name_candidates, refuse_numbers

__all__ = ["COMFORTABLE_FRACTION", "MIN_GENES", "GeneMap", "GeneSpace", "IdKind", "name_candidates", "refuse_numbers"]
