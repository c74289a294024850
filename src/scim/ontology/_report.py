"""Say which labels were taken for terms by synonym, and which were not."""

from __future__ import annotations

from collections.abc import Iterable

from .._warn import warn
from ._ontology import CellOntology


def report_synonyms(ontology: CellOntology, labels: Iterable[str]) -> None:
    """Warn of labels that are a synonym of a term, and of codes that may be one and were not taken."""
    labels = list(dict.fromkeys(map(str, labels)))
    if taken := ontology.by_synonym(labels):
        shown = ", ".join(f"{label!r} ({name})" for label, name in taken.items())
        warn(
            f"{len(taken)} of {len(labels)} labels were taken by synonym or by an obsolete name: {shown}. If they mean "
            "something else, give their term with scim.pp.harmonize_labels(table=)."
        )
    codes = {label: term for label in labels if ontology.resolve(label) is None if (term := _code(ontology, label))}
    if codes:
        shown = ", ".join(f"{label!r} ({name}?)" for label, name in codes.items())
        warn(
            f"{len(codes)} of {len(labels)} labels are short codes that may mean several cells, and were not taken for "
            f"terms: {shown}. Give their terms with scim.pp.harmonize_labels, or with CellOntology.with_synonyms and "
            "ontology=."
        )


def _code(ontology: CellOntology, label: str) -> str:
    found = ontology.resolve(label, codes=True)
    return "" if found is None else ontology.name(found)
