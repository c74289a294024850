"""The labels of data on an ontology, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

#: Fields with tables of True and False, which are saved as the positions of True.
_PAIRS = ("closure", "comparable")
#: Fields with numbers.
_NUMBERS = ("label_term", "depth", "n_below", "n_descendants")


@dataclass(frozen=True, eq=False)
class TermSpace:
    """L labels, and the T terms that these are or descend from.

    A label outside the ontology is a term without relatives, with the label as its id.

    Attributes
    ----------
    labels
        The labels as given, (L,).
    label_ids
        Term id of each label, (L,).
    terms, term_names
        Ids and names of the labels' terms and of all their ancestors except generic ones, (T,).
    label_term
        Position in ``terms`` of each label's term, int32 (L,).
    closure
        Whether term t is label l's term or an ancestor of it, bool (L, T).
    comparable
        Whether labels a and b are the same term, or ancestor and descendant, bool (L, L).
    depth
        Length of the longest path from a root of the ontology to each term, int32 (T,).
    n_below
        Number of labels that are each term or below it, int32 (T,).
    n_descendants
        Number of descendants of each term in the ontology, int32 (T,).
    """

    labels: np.ndarray
    label_ids: np.ndarray
    terms: np.ndarray
    term_names: np.ndarray
    label_term: np.ndarray
    closure: np.ndarray
    comparable: np.ndarray
    depth: np.ndarray
    n_below: np.ndarray
    n_descendants: np.ndarray

    @property
    def below(self) -> np.ndarray:
        """Whether label b is the term of label a or below it, bool (L, L), at [a, b]."""
        return self.closure[:, self.label_term].T

    def keep(self, labels: np.ndarray) -> TermSpace:
        """Select labels, bool (L,), with the terms that they are or descend from."""
        terms = self.closure[labels].any(axis=0)
        place = np.cumsum(terms) - 1
        closure = self.closure[np.ix_(labels, terms)]
        return TermSpace(
            labels=self.labels[labels],
            label_ids=self.label_ids[labels],
            terms=self.terms[terms],
            term_names=self.term_names[terms],
            label_term=place[self.label_term[labels]].astype(np.int32),
            closure=closure,
            comparable=self.comparable[np.ix_(labels, labels)],
            depth=self.depth[terms],
            n_below=closure.sum(axis=0).astype(np.int32),
            n_descendants=self.n_descendants[terms],
        )

    def specificity(self) -> np.ndarray:
        """Rank terms from the most specific, which has rank 0: int64 (T,).

        Terms are sorted by fewest labels below, then fewest descendants, then greatest depth, then id. A descendant
        always comes before its ancestor.
        """
        order = sorted(
            range(len(self.terms)),
            key=lambda t: (self.n_below[t], self.n_descendants[t], -self.depth[t], self.terms[t]),
        )
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        return rank

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers for JSON."""
        return {
            **{f.name: getattr(self, f.name).tolist() for f in fields(self) if f.name not in _PAIRS},
            # Mostly False: the positions of True take a tenth of the space.
            **{name: np.argwhere(getattr(self, name)).tolist() for name in _PAIRS},
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> TermSpace:
        """Read the result of :meth:`to_dict`.

        Raises
        ------
        ValueError
            A field is missing or does not fit the others.
        """
        try:
            n_labels, n_terms = len(saved["labels"]), len(saved["terms"])
            arrays: dict[str, np.ndarray] = {}
            for field in fields(cls):
                if field.name in _PAIRS:
                    shape = (n_labels, n_terms if field.name == "closure" else n_labels)
                    pairs = np.array(saved[field.name], dtype=np.int64).reshape(-1, 2)
                    arrays[field.name] = np.zeros(shape, dtype=bool)
                    arrays[field.name][tuple(pairs.T)] = True
                else:
                    dtype: Any = np.int32 if field.name in _NUMBERS else object
                    arrays[field.name] = np.array(saved[field.name], dtype=dtype)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"The saved terms cannot be read: {error!r}.") from error
        return cls(**arrays)
