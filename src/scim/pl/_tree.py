"""The tree of the terms of labels: which terms are shown, and in what order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .. import _keys
from ..ontology import CellOntology


@dataclass(frozen=True)
class Node:
    """A term of the tree.

    Attributes
    ----------
    name
        Name of the term, or the label if the ontology does not have it.
    level
        Number of terms above it in the tree.
    parent
        Position of its parent in the list of nodes, -1 for none.
    own, below
        Number of cells with exactly this label, and with this label or a descendant.
    """

    name: str
    level: int
    parent: int
    own: int
    below: int


def term_tree(counts: Mapping[str, int], ontology: CellOntology) -> list[Node]:
    """Arrange labels and the ancestors that join them as a tree, from the top down.

    A term of the ontology has several parents. In the tree it stands under the parent with most cells, and it counts
    for all of them. An ancestor without cells of its own is shown only where it joins branches.

    Parameters
    ----------
    counts
        Label (id, name or synonym of a term, or another label) -> number of cells.
    """
    own: dict[str, int] = {}
    for label, n in counts.items():
        term = ontology.resolve(label) or label
        own[term] = own.get(term, 0) + int(n)
    above = {term: _shown_ancestors(term, ontology) for term in own}
    below: dict[str, int] = {}
    for term, n in own.items():
        for ancestor in {term, *above[term]}:
            below[ancestor] = below.get(ancestor, 0) + n
    shown = set(below)
    while True:
        parents = _parents(shown, below, ontology)
        children = _children(parents)
        needless = {term for term in shown if term not in own and len(children.get(term, ())) < 2}
        if not needless:
            break
        shown -= needless
    return _listed(children, own, below, ontology)


def in_order(labels: Iterable[str], ontology: CellOntology) -> list[str]:
    """Sort labels as the rows of their tree, so that related labels stand together; ``"unassigned"`` is last."""
    counts: dict[str, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    place = {node.name: i for i, node in enumerate(term_tree(counts, ontology))}

    def rank(label: str) -> tuple[int, str]:
        term = ontology.resolve(label)
        return place[label if term is None else ontology.name(term)], label

    return sorted(counts, key=rank)


def _shown_ancestors(term: str, ontology: CellOntology) -> set[str]:
    if term not in ontology:
        return set()
    return {ancestor for ancestor in ontology.ancestors(term) if not ontology.is_generic(ancestor)}


def _parents(shown: set[str], below: Mapping[str, int], ontology: CellOntology) -> dict[str, str | None]:
    """Choose the parent of each term among the nearest terms above it that are shown: that with most cells."""
    ancestors = {term: _shown_ancestors(term, ontology) & shown for term in shown}
    found: dict[str, str | None] = {}
    for term, mine in ancestors.items():
        nearest = mine - {farther for other in mine for farther in ancestors[other]}
        found[term] = min(nearest, key=lambda t: (-below[t], t)) if nearest else None
    return found


def _children(parents: Mapping[str, str | None]) -> dict[str | None, list[str]]:
    children: dict[str | None, list[str]] = {}
    for term, parent in parents.items():
        children.setdefault(parent, []).append(term)
    return children


def _listed(
    children: Mapping[str | None, list[str]], own: Mapping[str, int], below: Mapping[str, int], ontology: CellOntology
) -> list[Node]:
    """List the nodes, each before its children, and of siblings the one with most cells first."""

    def last(term: str) -> tuple[bool, int, str]:
        return term == _keys.UNASSIGNED, -below[term], term

    nodes: list[Node] = []
    waiting = [(term, 0, -1) for term in sorted(children.get(None, []), key=last, reverse=True)]
    while waiting:
        term, level, parent = waiting.pop()
        name = ontology.name(term) if term in ontology else term
        nodes.append(Node(name, level, parent, own.get(term, 0), below[term]))
        place = len(nodes) - 1
        waiting += [(child, level + 1, place) for child in sorted(children.get(term, []), key=last, reverse=True)]
    return nodes
