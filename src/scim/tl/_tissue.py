"""The tissue of the cells: joined with the filter of a reference if it is given, and guessed if it is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..labels import are_enough, favour_present, guess_tissue, label_shares
from ..ontology import vocabulary_of

if TYPE_CHECKING:
    from ..reference import Reference

#: Columns of a reference with the tissue and the study of its cells.
TISSUE, STUDY = "tissue", "study"


def with_tissue(where: Any, tissue: str | Sequence[str] | None, reference: Reference) -> Any:
    """Add ``{"tissue": tissue}`` to a filter.

    Raises
    ------
    KeyError, ValueError, TypeError
        The reference has no column "tissue" or no such tissue, or ``where`` is not a mapping, or names a tissue, too.
    """
    if tissue is None:
        return where
    if TISSUE not in reference.obs.columns:
        raise KeyError(
            f"tissue= was given, but {reference.path.name} has no column 'tissue'. Its columns are "
            f"{', '.join(map(str, reference.obs.columns))}. Use where=."
        )
    if where is not None and not isinstance(where, Mapping):
        raise TypeError("tissue= cannot be joined with an expression in where=. Name the tissue in the expression.")
    if where and TISSUE in where:
        raise ValueError("tissue= and where={'tissue': ...} were both given. Give one of them.")
    wanted = [tissue] if isinstance(tissue, str) else list(tissue)
    if not wanted:
        raise ValueError("tissue is empty. Name at least one tissue, or leave it out.")
    try:
        reference.allowed(where={TISSUE: wanted})
    except ValueError as error:
        # The user gave tissue=, not where=.
        raise ValueError(str(error).removeprefix("where: ")) from None
    return {**(where or {}), TISSUE: wanted}


def is_tissue_given(where: Any) -> bool:
    """Whether a filter names a tissue."""
    return isinstance(where, Mapping) and TISSUE in where


def take_tissue(
    by_label: np.ndarray, represented: np.ndarray, reference: Reference, within: np.ndarray | None, **options: float
) -> tuple[np.ndarray, dict[str, Any]]:
    """Guess the tissue of cells, and favour labels that the reference has in this tissue.

    Parameters
    ----------
    by_label
        Probability of each label, float32 (n, n_labels).
    represented
        Cells that are well represented in the reference, bool (n,).
    reference, within
        Reference, and its cells to use, bool (n_rows,). None: all.
    options
        ``factor`` of :func:`scim.labels.favour_present`.

    Returns
    -------
    The probabilities, and facts for the record: ``tissue_guess``, ``""`` if no tissue has more than half of the
    mixture, and ``tissue_guess_share``, the largest share. Without a guess, there are no facts.
    """
    if not are_enough(represented):  # before anything is read
        return by_label, {}
    names, tissues = _tissues(reference)
    if len(names) < 2:
        return by_label, {}
    codes = reference.label_codes if within is None else np.where(within, reference.label_codes, -1)
    studies, _ = reference.codes(STUDY)
    shares = label_shares(codes, studies, tissues, n_labels=by_label.shape[1], n_tissues=len(names))
    guess = guess_tissue(by_label, represented, shares)
    if guess is None:
        return by_label, {}
    facts = {"tissue_guess": names[guess.tissue] if guess.is_sure else "", "tissue_guess_share": guess.share}
    if guess.is_sure:
        by_label = favour_present(by_label, shares[:, guess.tissue], reference.terms.comparable, **options)
    return by_label, facts


def _tissues(reference: Reference) -> tuple[list[str], np.ndarray]:
    """Return the names of tissues, and the code of each cell's tissue, (n_rows,); -1 for none.

    A tissue that is a part of another tissue of the reference counts as the other.
    """
    vocabulary = vocabulary_of(TISSUE)
    if TISSUE not in reference.obs.columns or vocabulary is None:
        return [], np.empty(0, dtype=np.int64)
    codes, values = reference.codes(TISSUE)
    if len(values) < 2:
        return list(map(str, values)), codes
    group = vocabulary.grouped(map(str, values))
    names = sorted(set(group.values()))
    place = np.array([names.index(group[str(value)]) for value in values] + [-1])
    return names, place[codes]
