"""Ordered lists of genes, maps of the columns of data onto them, and the human genes of mouse genes."""

from ._columns import name_candidates, refuse_numbers
from ._features import gene_rows
from ._names import IdKind, canonical, foreign_species
from ._organism import Organism, OrganismChoice, organism_of, strip_genome, to_human
from ._space import COMFORTABLE_FRACTION, MIN_GENES, GeneMap, GeneSpace

__all__ = [
    "COMFORTABLE_FRACTION", "MIN_GENES",
    "GeneMap", "GeneSpace", "IdKind", "Organism", "OrganismChoice",
    "canonical", "foreign_species", "gene_rows", "name_candidates", "organism_of", "refuse_numbers", "strip_genome",
    "to_human",
]  # fmt: skip
