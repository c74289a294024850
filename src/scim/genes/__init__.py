"""Ordered lists of genes, and maps of the columns of data onto them."""

from ._names import IdKind, canonical, foreign_species
from ._space import COMFORTABLE_FRACTION, MIN_GENES, GeneMap, GeneSpace, name_candidates, refuse_numbers

__all__ = [
    "COMFORTABLE_FRACTION", "MIN_GENES",
    "GeneMap", "GeneSpace", "IdKind",
    "canonical", "foreign_species", "name_candidates", "refuse_numbers",
]  # fmt: skip
