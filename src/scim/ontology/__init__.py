"""The Cell Ontology: terms, their ancestors, and labels as arrays of terms."""

from __future__ import annotations

from ._ontology import GENERIC, CellOntology, Relation
from ._term_space import TermSpace

__all__ = ["GENERIC", "CellOntology", "Relation", "TermSpace"]
