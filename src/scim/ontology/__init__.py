"""The Cell Ontology: terms, their ancestors, and labels as arrays of terms. Vocabularies of tissues and diseases."""

from __future__ import annotations

from ._ontology import GENERIC, CellOntology, Relation
from ._report import report_synonyms
from ._term_space import TermSpace
from ._vocabulary import Vocabulary, vocabulary_of

__all__ = ["GENERIC", "CellOntology", "Relation", "TermSpace", "Vocabulary", "report_synonyms", "vocabulary_of"]
