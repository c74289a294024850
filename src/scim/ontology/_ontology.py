"""CellOntology: terms by id, name or synonym, and their ancestors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from .._validate import did_you_mean
from ._bundled import read_bundled
from ._synonyms import Texts, read_texts
from ._term_space import TermSpace

#: How a term relates to another one.
Relation = Literal["same", "broader", "finer", "other"]
#: Terms that are never given as a label: they hold for cells of any type, or name a property that cells of unrelated
#: types share.
GENERIC = frozenset(
    {
        "CL:0000000",  # cell
        "CL:0000255",  # eukaryotic cell
        "CL:0000219",  # motile cell
        "CL:0002242",  # nucleate cell
        "CL:0000226",  # single nucleate cell
        "CL:0000228",  # multinucleate cell
        "CL:0000225",  # anucleate cell
        "CL:0001061",  # abnormal cell
        "CL:0001034",  # cell in vitro
        "CL:0000010",  # cultured cell
        "CL:0000325",  # stuff accumulating cell
        "CL:0000211",  # electrically active cell
        "CL:0000151",  # secretory cell
        "CL:0000234",  # phagocyte
        "CL:0000518",  # phagocyte (sensu Vertebrata)
        "CL:0011026",  # progenitor cell
        "CL:0000064",  # ciliated cell
        "CL:0000630",  # supporting cell
        "CL:0011115",  # precursor cell
        "CL:0000412",  # polyploid cell
        "CL:0000413",  # haploid cell
        "CL:0000415",  # diploid cell
        "CL:0000404",  # electrically signaling cell
        "CL:0000393",  # electrically responsive cell
    }
)


class CellOntology:
    """The Cell Ontology, or another ontology of cell types.

    Create one with :meth:`bundled`, :meth:`from_owl`, :meth:`from_obo` or :meth:`flat`.

    Parameters
    ----------
    ids, names
        Id and name of every term, (n,).
    parents
        Ids of the direct parents (``is_a``) of each term.
    synonyms
        Exact synonyms of each term.
    replaced
        Obsolete ids -> ids that replace them.
    obsolete_names
        Names of obsolete terms -> their ids.
    version, source
        Where the terms come from.

    Raises
    ------
    ValueError
        Lengths differ, an id is repeated, or a term descends from itself.

    Examples
    --------
    >>> import scim
    >>> ontology = scim.CellOntology.bundled()
    >>> ontology.resolve("T lymphocyte")
    'CL:0000084'
    >>> ontology.name(ontology.lca("CD4-positive, alpha-beta T cell", "CD8-positive, alpha-beta T cell"))
    'mature alpha-beta T cell'
    """

    def __init__(
        self,
        ids: Sequence[str],
        names: Sequence[str],
        parents: Sequence[Iterable[str]],
        *,
        synonyms: Sequence[Iterable[str]] | None = None,
        replaced: Mapping[str, str] | None = None,
        obsolete_names: Mapping[str, str] | None = None,
        version: str = "",
        source: str = "",
    ) -> None:
        self.ids = np.array([str(i) for i in ids], dtype=object)
        self.names = np.array([str(n) for n in names], dtype=object)
        self.version, self.source = version, source
        self._position = {term: i for i, term in enumerate(self.ids)}
        self._synonyms = [tuple(filter(None, s)) for s in synonyms] if synonyms is not None else [()] * len(self.ids)
        if not len(self.ids) == len(self.names) == len(parents) == len(self._synonyms):
            raise ValueError("ids, names, parents and synonyms must be of the same length.")
        if len(self._position) < len(self.ids):
            raise ValueError("ids holds a term twice.")
        self._parents = [
            tuple(self._position[p] for p in dict.fromkeys(mine) if p in self._position and self._position[p] != i)
            for i, mine in enumerate(parents)
        ]
        self._replaced = dict(replaced or {})
        self._obsolete_names = dict(obsolete_names or {})
        #: Synonyms of the user -> ids.
        self._given: dict[str, str] = {}

    @classmethod
    def bundled(cls) -> CellOntology:
        """Return the Cell Ontology of 2026-03-26 that comes with scim (CC BY 4.0), loaded once.

        Source: Diehl et al., J Biomed Semantics 2016, and https://obofoundry.org/ontology/cl.
        """
        return _bundled()

    @classmethod
    def from_owl(cls, path: str | Path) -> CellOntology:
        """Read an OWL file in RDF/XML, such as ``cl.owl`` or ``cl.owl.gz``. Needs ``owlready2``."""
        from ._owl import read_owl

        return cls(**read_owl(Path(path)))

    @classmethod
    def from_obo(cls, path: str | Path) -> CellOntology:
        """Read an OBO file (1.2 or 1.4), gzipped or not."""
        from ._obo import read_obo

        return cls(**read_obo(Path(path)))

    @classmethod
    def flat(cls, labels: Iterable[str]) -> CellOntology:
        """Make an ontology in which all labels are unrelated."""
        names = list(dict.fromkeys(str(label) for label in labels))
        return cls(names, names, [()] * len(names), version="flat", source="labels")

    def with_synonyms(self, table: Mapping[str, str]) -> CellOntology:
        """Return a copy with more synonyms, such as the labels of your data.

        Parameters
        ----------
        table
            Synonym -> term, by id, name or synonym. A word that already means a term keeps its meaning; a code such as
            "DC2" means what you say.

        Raises
        ------
        ValueError
            A term is not in the ontology.

        Examples
        --------
        >>> import scim
        >>> ontology = scim.CellOntology.bundled().with_synonyms({"CD14+ Mono": "CD14-positive monocyte"})
        >>> ontology.resolve("CD14+ Mono")
        'CL:0001054'
        """
        given = dict(self._given)
        for word, term in table.items():
            found = self.resolve(term)
            if found is None:
                raise ValueError(
                    f"table[{word!r}] is {term!r}, which is not a term of the ontology. Give an id or a name."
                )
            if self.resolve(word) is None:
                given[str(word).strip()] = found
        other = copy(self)
        other.__dict__.pop("_texts", None)
        other._given, other.source = given, f"{self.source}, with more synonyms"
        return other

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"CellOntology of {len(self):,} terms ({self.version or 'no version'}, {self.source or 'no source'})"

    def __contains__(self, term: object) -> bool:
        return isinstance(term, str) and self.resolve(term) is not None

    def resolve(self, term: str, *, codes: bool = False) -> str | None:
        """Return the id of a term given by id, name or exact synonym in any letter case; None if it is unknown.

        ``CL_0000084`` and ``CL:0000084`` are the same. Obsolete ids and names give the term that replaces them.

        Parameters
        ----------
        term
            Id, name or synonym.
        codes
            Also take synonyms that mean other things to other people: those of four letters or fewer, such as "DC2",
            "IC" and "ARC", and those of terms of other animals.
        """
        text = str(term).strip()
        if not text:
            return None
        if text in self._position:
            return text
        found = self._texts.words.get(text.casefold())
        if found is None and "_" in text:
            found = self._texts.words.get(text.rsplit("/", 1)[-1].replace("_", ":", 1).casefold())
        return self._texts.codes.get(text.casefold()) if found is None and codes else found

    def by_synonym(self, labels: Iterable[str]) -> dict[str, str]:
        """Return the labels that are a synonym of a term, or the name of an obsolete one -> name of the term.

        Ids, names and synonyms of :meth:`with_synonyms` are left out.

        Examples
        --------
        >>> import scim
        >>> scim.CellOntology.bundled().by_synonym(["T cell", "T lymphocyte", "unheard-of"])
        {'T lymphocyte': 'T cell'}
        """
        asked = {word.casefold() for word in self._given} | set(map(str.casefold, self._replaced))
        found = {str(label): term for label in labels if (term := self.resolve(label)) is not None}
        return {
            label: self.name(term)
            for label, term in found.items()
            if not {label.strip().casefold(), label.strip().rsplit("/", 1)[-1].replace("_", ":", 1).casefold()}
            & (asked | {term.casefold(), self.name(term).casefold()})
        }

    def resolve_many(self, terms: Iterable[str]) -> list[str | None]:
        """Return the ids of ``terms``, None for unknown ones."""
        return [self.resolve(term) for term in terms]

    def name(self, term: str) -> str:
        """Name of a term."""
        return str(self.names[self._index(term)])

    def synonyms(self, term: str, *, codes: bool = True) -> tuple[str, ...]:
        """Exact synonyms of a term; without ``codes``, those that :meth:`resolve` takes."""
        found = self._synonyms[self._index(term)]
        return found if codes else tuple(text for text in found if self.resolve(text) is not None)

    def parents(self, term: str) -> set[str]:
        """Ids of the direct parents of a term."""
        return {str(self.ids[p]) for p in self._parents[self._index(term)]}

    def ancestors(self, term: str) -> set[str]:
        """Ids of all ancestors of a term, without itself."""
        return {str(self.ids[a]) for a in self._above[self._index(term)]}

    def descendants(self, term: str) -> set[str]:
        """Ids of all descendants of a term, without itself."""
        return {str(self.ids[d]) for d in self._below[self._index(term)]}

    def depth(self, term: str) -> int:
        """Length of the longest ``is_a`` path from a root to a term; 0 for a root."""
        return int(self._depth[self._index(term)])

    def comparable(self, a: str, b: str) -> bool:
        """Whether two terms are the same, or one is an ancestor of the other."""
        i, j = self._index(a), self._index(b)
        return i == j or i in self._above[j] or j in self._above[i]

    def relation(self, term: str, other: str) -> Relation:
        """Say whether a term is the ``"same"`` as another term, ``"broader"``, ``"finer"``, or neither (``"other"``).

        Terms are given by id, name or synonym. Labels outside the ontology are the same if they are spelled the same.
        """
        i, j = self.resolve(term) or str(term), self.resolve(other) or str(other)
        if i == j:
            return "same"
        if i not in self._position or j not in self._position or not self.comparable(i, j):
            return "other"
        return "broader" if self._position[i] in self._above[self._position[j]] else "finer"

    def lca(self, *terms: str) -> str | None:
        """Return the lowest common ancestor of ``terms``; None if there is none.

        A term counts as its own ancestor. Of several, the one with the fewest descendants is returned, then the one
        with the smallest id.
        """
        if not terms:
            raise ValueError("lca() needs at least one term.")
        places = [self._index(term) for term in terms]
        shared = set.intersection(*(self._above[i] | {i} for i in places))
        if not shared:
            return None
        return str(min((len(self._below[i]), self.ids[i]) for i in shared)[1])

    def is_generic(self, term: str) -> bool:
        """Whether a term is too general to be given as a label."""
        return self.resolve(term) in GENERIC or term in GENERIC

    def term_space(self, labels: Sequence[str]) -> TermSpace:
        """Compile labels to arrays; labels outside the ontology become terms without relatives.

        Parameters
        ----------
        labels
            Distinct labels: ids, names, synonyms, or anything else.
        """
        given = [str(label) for label in labels]
        ids = [self.resolve(label) or label for label in given]
        above = {term: self.ancestors(term) if term in self else set() for term in set(ids)}
        shown = {term for ancestors in above.values() for term in ancestors if not self.is_generic(term)}
        terms = sorted(shown | set(ids))
        place = {term: i for i, term in enumerate(terms)}
        closure = np.zeros((len(given), len(terms)), dtype=bool)
        for row, term in enumerate(ids):
            closure[row, [place[t] for t in above[term] | {term} if t in place]] = True
        under = np.array([[a == b or a in above[b] for b in ids] for a in ids], dtype=bool).reshape(len(ids), len(ids))
        known = [term in self for term in terms]
        pairs = list(zip(terms, known, strict=True))
        return TermSpace(
            labels=np.array(given, dtype=object),
            label_ids=np.array(ids, dtype=object),
            terms=np.array(terms, dtype=object),
            term_names=np.array([self.name(term) if k else term for term, k in pairs], dtype=object),
            label_term=np.array([place[term] for term in ids], dtype=np.int32),
            closure=closure,
            comparable=under | under.T,
            depth=np.array([self.depth(term) if k else 0 for term, k in pairs], dtype=np.int32),
            n_below=closure.sum(axis=0).astype(np.int32),
            n_descendants=np.array([len(self.descendants(term)) if k else 0 for term, k in pairs], dtype=np.int32),
        )

    def _index(self, term: str) -> int:
        found = self.resolve(term)
        if found is None:
            raise KeyError(f"{term!r} is not a term of the ontology. {did_you_mean(term, self.names, limit=3)}")
        return self._position[found]

    @cached_property
    def _texts(self) -> Texts:
        """Texts that mean a term."""
        obsolete = {name: new for name, old in self._obsolete_names.items() if (new := self._follow(old)) is not None}
        replaced = {old: new for old in self._replaced if (new := self._follow(old)) is not None}
        return read_texts(self.ids, self.names, self._synonyms, self._given, obsolete, replaced)

    def _follow(self, term: str) -> str | None:
        """Return the current id that replaces an obsolete one, in one or several steps."""
        seen = set()
        while term not in self._position:
            if term in seen or term not in self._replaced:
                return None
            seen.add(term)
            term = self._replaced[term]
        return term

    @cached_property
    def _order(self) -> list[int]:
        """Terms in an order in which parents come before their children."""
        waiting = [len(parents) for parents in self._parents]
        children: list[list[int]] = [[] for _ in self._parents]
        for child, parents in enumerate(self._parents):
            for parent in parents:
                children[parent].append(child)
        order = [i for i, n in enumerate(waiting) if n == 0]
        for term in order:
            for child in children[term]:
                waiting[child] -= 1
                if waiting[child] == 0:
                    order.append(child)
        if len(order) < len(self._parents):
            stuck = next(i for i, n in enumerate(waiting) if n > 0)
            raise ValueError(f"The ontology is broken: {self.ids[stuck]} descends from itself.")
        return order

    @cached_property
    def _above(self) -> list[set[int]]:
        above: list[set[int]] = [set() for _ in self._parents]
        for term in self._order:
            above[term] = set().union(*(above[p] | {p} for p in self._parents[term]))
        return above

    @cached_property
    def _below(self) -> list[set[int]]:
        below: list[set[int]] = [set() for _ in self._parents]
        for term, ancestors in enumerate(self._above):
            for ancestor in ancestors:
                below[ancestor].add(term)
        return below

    @cached_property
    def _depth(self) -> np.ndarray:
        depth = np.zeros(len(self._parents), dtype=np.int32)
        for term in self._order:
            depth[term] = max((depth[p] + 1 for p in self._parents[term]), default=0)
        return depth


@cache
def _bundled() -> CellOntology:
    return CellOntology(**read_bundled("cell_ontology.json.gz"), source="bundled Cell Ontology")
