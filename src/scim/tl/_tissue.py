"""Join the tissue of the cells with the filter of a reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..reference import Reference


def with_tissue(where: Any, tissue: str | Sequence[str] | None, reference: Reference) -> Any:
    """Add ``{"tissue": tissue}`` to a filter.

    Raises
    ------
    KeyError, ValueError, TypeError
        The reference has no column "tissue" or no such tissue, or ``where`` is not a mapping, or names a tissue, too.
    """
    if tissue is None:
        return where
    if "tissue" not in reference.obs.columns:
        raise KeyError(
            f"tissue= was given, but {reference.path.name} has no column 'tissue'. Its columns are "
            f"{', '.join(map(str, reference.obs.columns))}. Use where=."
        )
    if where is not None and not isinstance(where, Mapping):
        raise TypeError("tissue= cannot be joined with an expression in where=. Name the tissue in the expression.")
    if where and "tissue" in where:
        raise ValueError("tissue= and where={'tissue': ...} were both given. Give one of them.")
    known = sorted({str(name) for name in reference.obs["tissue"].dropna().unique()} - {""})
    wanted: list[str] = []
    for name in [tissue] if isinstance(tissue, str) else tissue:
        # "blood" is also "blood (PBMC)".
        found = [one for one in known if str(name).casefold() in (one.casefold(), one.casefold().split(" (")[0])]
        if not found:
            raise ValueError(
                f"tissue must be in {reference.path.name}, got {name!r}. Its tissues are {', '.join(map(repr, known))}."
            )
        wanted += found
    if not wanted:
        raise ValueError("tissue is empty. Name at least one tissue, or leave it out.")
    return {**(where or {}), "tissue": wanted}
