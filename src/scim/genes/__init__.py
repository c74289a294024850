"""Which genes: ordered lists of genes, and how the columns of data map onto them."""

from ._names import IdKind, canonical, foreign_species
from ._space import COMFORTABLE_FRACTION, MIN_GENES, GeneMap, GeneSpace, name_candidates, refuse_numbers

__all__ = [
    "COMFORTABLE_FRACTION",
    "GeneMap",
    "GeneSpace",
    "IdKind",
    "MIN_GENES",
    "canonical",
    "foreign_species",
    "name_candidates",
    "refuse_numbers",
]
