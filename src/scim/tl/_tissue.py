"""Join the tissue of the cells with the filter of a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..reference import Reference

#: Column of a reference with the tissue of its cells.
TISSUE = "tissue"


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
