"""Which labels of a reference may vote, and the terms that their votes reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import did_you_mean
from ..ontology import CellOntology
from ..ontology._ontology import GENERIC

if TYPE_CHECKING:
    from ..ontology import TermSpace
    from ..reference import Reference

_TERM_ID = "term_id"


@dataclass(frozen=True, eq=False)
class Voters:
    """The labels that vote, L of them, and the terms T that they are or descend from.

    Attributes
    ----------
    positions
        Position of each label in the reference's ``terms.labels``, (L,).
    ids, names
        Term id and name of each label, (L,).
    term_ids, term_names
        The terms, (T,); the generic ones are not among them.
    columns
        Their names as columns of a table, all different and without ``/``, (T,).
    closure
        1 where a term is a label's or an ancestor of it, float64 (L, T).
    rank
        Rank of each term, 0 for the most specific, (T,).
    restricts
        Some cells of the reference may not vote.
    """

    positions: np.ndarray
    ids: np.ndarray
    names: np.ndarray
    term_ids: np.ndarray
    term_names: np.ndarray
    columns: list[str]
    closure: np.ndarray
    rank: np.ndarray
    restricts: bool

    def codes(self, reference: Reference) -> np.ndarray:
        """Position among these labels of each reference cell's label, int32 (n_cells,); -1 for cells that do not vote."""
        place = np.full(len(reference.terms.labels) + 1, -1, dtype=np.int32)
        place[self.positions] = np.arange(len(self.positions), dtype=np.int32)
        return place[reference.label_codes]

    def restrict(self, where: Any) -> Any:
        """Add to a filter that only voting cells are wanted."""
        if not self.restricts:
            return where
        ids = [str(term) for term in self.ids]
        if where is None:
            return {_TERM_ID: ids}
        if not isinstance(where, Mapping):
            import pyarrow.compute as pc

            if not isinstance(where, pc.Expression):
                return where  # refused by the search, which says why
            return where & pc.field(_TERM_ID).isin(ids)
        if _TERM_ID not in where:
            return {**where, _TERM_ID: ids}
        wanted = where[_TERM_ID]
        wanted = [wanted] if isinstance(wanted, str) else list(wanted)
        both = [term for term in wanted if term in ids]
        if wanted and not both:
            raise ValueError(f"where={dict(where)!r} and labels leave no label to vote: those are {', '.join(ids)}.")
        return {**where, _TERM_ID: both}


def choose_voters(reference: Reference, labels: Sequence[str] | None) -> Voters:
    """Compile the labels that vote: all but generic ones, or those of ``labels``.

    Raises
    ------
    ValueError
        A label is unknown (close ones are named), generic, or no cell of the reference has one that can vote.
    """
    terms = reference.terms
    generic = np.isin(terms.label_ids.astype(str), list(GENERIC))
    present = np.zeros(len(terms.labels), dtype=bool)
    codes = reference.label_codes
    present[np.unique(codes[codes >= 0])] = True
    voting = present & ~generic
    if labels is not None:
        voting &= _safelisted(terms, labels)
        if not voting.any():
            raise ValueError(
                f"labels={list(labels)!r} leave nothing to vote for: no cell of the reference has such a label, or the "
                "label fits every cell."
            )
    if not voting.any():
        raise ValueError("No cell of the reference has a label that says what kind of cell it is. Nothing can vote.")
    return _compile(terms, np.flatnonzero(voting), restricts=bool((~np.append(voting, False)[codes]).any()))


def _compile(terms: TermSpace, positions: np.ndarray, *, restricts: bool) -> Voters:
    reached = terms.closure[positions].any(axis=0) & ~np.isin(terms.terms.astype(str), list(GENERIC))
    kept = np.flatnonzero(reached)
    names, ids = terms.term_names[kept], terms.terms[kept]
    return Voters(
        positions=positions,
        ids=terms.label_ids[positions],
        names=terms.term_names[terms.label_term[positions]],
        term_ids=ids,
        term_names=names,
        columns=_column_names(names, ids),
        closure=terms.closure[np.ix_(positions, kept)].astype(np.float64),
        rank=terms.specificity()[kept],
        restricts=restricts,
    )


def _column_names(names: np.ndarray, ids: np.ndarray) -> list[str]:
    """Names of the terms that a table in a file can have: without ``/``, and all different."""
    columns: list[str] = []
    for name, term in zip(names, ids, strict=True):
        column = str(name).replace("/", "|")
        if column in columns:
            column = f"{column} ({str(term).replace('/', '|')})"
        while column in columns:
            column += "'"
        columns.append(column)
    return columns


def _safelisted(terms: TermSpace, labels: Sequence[str]) -> np.ndarray:
    """Mark labels that ``labels`` names, directly or by an ancestor: bool (L,)."""
    if isinstance(labels, str):
        raise TypeError(f"labels must be a list of labels, got the text {labels!r}. Write labels=[{labels!r}].")
    wanted = [str(label) for label in labels]
    if not wanted:
        raise ValueError("labels is empty: nothing could vote. Leave it out to let all labels vote.")
    by_text: dict[str, int] = {}
    for texts in (terms.term_names, terms.terms):
        for position, text in enumerate(texts):
            by_text[str(text).lower()] = position
    chosen = np.zeros(len(terms.labels), dtype=bool)
    for label in wanted:
        position = by_text.get(label.lower())
        if position is None:
            position = by_text.get(str(CellOntology.bundled().resolve(label)).lower())
        if position is None:
            own = dict.fromkeys(map(str, [*terms.term_names[terms.label_term], *terms.term_names, *terms.label_ids]))
            raise ValueError(f"labels: the reference has no label {label!r}. {did_you_mean(label, own)}")
        chosen |= terms.closure[:, position]
    return chosen
