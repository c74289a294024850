"""Vocabularies of metadata: tissues as terms of UBERON, and diseases as terms of MONDO."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from ._bundled import read_bundled
from ._ontology import CellOntology

#: Column of metadata -> its vocabulary.
_COLUMNS = {
    "tissue": "anatomy",
    "tissue_ontology_term_id": "anatomy",
    "disease": "diseases",
    "disease_ontology_term_id": "diseases",
}
#: How a narrower term relates to a broader one, in messages.
_RELATIONS = {"anatomy": "part", "diseases": "kind"}
#: A text and a remark, such as "blood (PBMC)".
_REMARK = re.compile(r"^(.+?)\s*\((.+)\)$")
#: Remarks on cells that are not from the body: "brain (organoid)" is not brain.
_GROWN = re.compile(r"organoid|cell culture|cell line", re.IGNORECASE)
#: CELLxGENE joins several diseases of a cell by this.
_JOINED = "||"


class Vocabulary:
    """Values of a column of metadata as terms of an ontology.

    A value may be a name, an exact synonym or an id, in any letter case. "blood (PBMC)" is "blood", and "brain
    (hippocampus)" is both "brain" and "hippocampus". But "brain (organoid)" and values with "cell culture" or "cell
    line" are only themselves. "A || B" is both A and B.

    Parameters
    ----------
    ontology
        Terms. Their parents are what they are a kind of or a part of.
    relation
        Noun for a narrower term, such as "part".
    """

    def __init__(self, ontology: CellOntology, relation: str) -> None:
        self.relation = relation
        self._ontology = ontology
        #: Value -> its readings, and the terms of these with all terms above.
        self._read: dict[str, tuple[set[str], set[str]]] = {}

    def resolve(self, text: str) -> str | None:
        """Return the id of a term; None if it is unknown."""
        return self._ontology.resolve(text, codes=True)

    def matching(self, wanted: str, values: Iterable[str]) -> list[str]:
        """Find the values that mean ``wanted``, or a part or kind of it."""
        text, term = wanted.strip().casefold(), self.resolve(wanted)
        found = []
        for value in values:
            readings, above = self._of(value)
            if text in readings or term in above:
                found.append(value)
        return found

    def broader(self, wanted: str, values: Iterable[str]) -> list[str]:
        """Return the names of the values' terms that ``wanted`` is a part or kind of, the nearest first."""
        there = {term for value in values for term in self._terms(value)}
        found = sorted(self._above(self.resolve(wanted)) & there, key=self._breadth, reverse=True)
        return [self._ontology.name(term) for term in found]

    def grouped(self, values: Iterable[str]) -> dict[str, str]:
        """Map each value to the name of the broadest term among those of all values that it is a part or kind of.

        A value without a term is mapped to itself.
        """
        own = {value: min(self._terms(value), key=self._breadth, default=None) for value in values}
        there = set(own.values())
        return {
            value: value if term is None else self._ontology.name(min(self._above(term) & there, key=self._breadth))
            for value, term in own.items()
        }

    def words(self, values: Iterable[str]) -> list[str]:
        """Return names and synonyms that would find one of the values."""
        terms = sorted(set().union(*(self._of(value)[1] for value in values)))
        return [word for term in terms for word in (self._ontology.name(term), *self._ontology.synonyms(term))]

    def _of(self, value: str) -> tuple[set[str], set[str]]:
        """Return the readings of a value, in lower case, and its terms with all terms above them."""
        if value not in self._read:
            readings = _readings(value)
            above = set().union(*(self._above(self.resolve(reading)) for reading in readings))
            self._read[value] = {reading.casefold() for reading in readings}, above
        return self._read[value]

    def _breadth(self, term: str) -> tuple[int, str]:
        """Key that sorts terms from the broadest."""
        return len(self._above(term)), term

    def _terms(self, value: str) -> set[str]:
        return {term for reading in _readings(value) if (term := self.resolve(reading)) is not None}

    def _above(self, term: str | None) -> set[str]:
        """Return a term and all terms above it. This walks up: the terms below are many."""
        found: set[str] = set()
        waiting = [] if term is None else [term]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += self._ontology.parents(one)
        return found


def _readings(value: str) -> list[str]:
    """Split a value into the texts that it may mean."""
    found = []
    for part in filter(None, (part.strip() for part in value.split(_JOINED))):
        found.append(part)
        remark = _REMARK.match(part)
        if remark and not _GROWN.search(remark.group(2)):
            found += remark.groups()
    return found


@cache
def _vocabulary(name: str) -> Vocabulary:
    return Vocabulary(CellOntology(**read_bundled(f"{name}.json.xz"), source=f"bundled {name}"), _RELATIONS[name])


def vocabulary_of(column: str) -> Vocabulary | None:
    """Return the vocabulary of a column, loaded once: of tissues (UBERON) or diseases (MONDO). None: it has none."""
    return _vocabulary(_COLUMNS[column]) if column in _COLUMNS else None
