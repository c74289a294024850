"""Checks of arguments, and the errors they raise: what was found, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

#: Labels in published tables that mean "no label", in lower case.
NO_LABEL = frozenset(
    {"", "nan", "na", "n/a", "<na>", "none", "unknown", "unassigned", "unlabeled", "unlabelled", "unannotated", "?"}
)
#: Number of names that are searched for one that is spelled similarly.
_SEARCHED_NAMES = 5_000


def did_you_mean(name: object, available: Iterable[object], *, limit: int = 12, also: Iterable[str] = ()) -> str:
    """List what is available, text in quotes, and suggest what is spelled like ``name``, there or in ``also``.

    Examples
    --------
    >>> did_you_mean("celltype", ["cell_type", "study"])
    "Did you mean 'cell_type'? Available: 'cell_type', 'study'."
    >>> did_you_mean(4, [1, 2])
    'Available: 1, 2.'
    """
    quoted = {str(a): f"'{a}'" if isinstance(a, str) else str(a) for a in available}
    names = [*quoted, *also]
    plain = {n.casefold(): n for n in reversed(names[:_SEARCHED_NAMES])}
    close = [plain[n] for n in difflib.get_close_matches(str(name).casefold(), plain, n=1, cutoff=0.6)]
    hint = f"Did you mean {quoted.get(close[0], repr(close[0]))}? " if close else ""
    return f"{hint}Available: {first_names(quoted.values(), limit=limit) or 'nothing'}."


def first_names(names: Iterable[str], *, limit: int = 5) -> str:
    """List the first names, and the number of the others.

    Examples
    --------
    >>> first_names(["'a'", "'b'", "'c'"], limit=2)
    "'a', 'b' and 1 more"
    """
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def as_names(given: object) -> list[str]:
    """Return one name or several names, text or numbers, as a list of text.

    Examples
    --------
    >>> as_names("B cell"), as_names([0, 1]), as_names(3)
    (['B cell'], ['0', '1'], ['3'])
    """
    several = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    return [str(name) for name in several]


def is_unlabeled(labels: pd.Series, category: str | None = None) -> pd.Series:
    """Whether cells have no label: missing, one of :data:`NO_LABEL`, or ``category``; bool (n_cells,)."""
    text = labels.astype(object).where(labels.notna(), "").astype(str).str.strip()
    mask = text.str.lower().isin(NO_LABEL)
    return mask if category is None else mask | (text == str(category).strip())


def check_key(table: Mapping[str, Any] | pd.DataFrame, key: str, *, argument: str, where: str) -> None:
    """Raise a :class:`KeyError` that lists the keys of ``table`` if ``key`` is not among them."""
    if not isinstance(key, str):
        raise TypeError(f"{argument} must be the name of one column or entry of {where}, got {key!r}.")
    if key not in table:
        raise KeyError(f"{argument}={key!r} is not in {where}. {did_you_mean(key, _names(table))}")


def check_option(value: object, options: Iterable[object], *, argument: str) -> None:
    """Raise a :class:`ValueError` that lists the options if ``value`` is not among them."""
    options = list(options)
    if value not in options:
        raise ValueError(f"{argument}={value!r} is not known. {did_you_mean(value, options)}")


def check_positive_int(value: object, *, argument: str, minimum: int = 1, maximum: int | None = None) -> int:
    """Return ``value`` as an int from ``minimum`` to ``maximum``, or raise."""
    import numbers

    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{argument} must be an integer of at least {minimum}, got {value!r} ({type(value).__name__}).")
    if int(value) < minimum:
        raise ValueError(f"{argument} must be at least {minimum}, got {value}.")
    if maximum is not None and int(value) > maximum:
        raise ValueError(f"{argument} must be at most {maximum}, got {value}.")
    return int(value)


def check_fraction(value: object, *, argument: str, low: float = 0.0, high: float = 1.0) -> float:
    """Return ``value`` as a float within [``low``, ``high``], or raise."""
    import numbers

    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{argument} must be a number from {low:g} to {high:g}, got {value!r}.")
    if not low <= float(value) <= high:
        raise ValueError(f"{argument} must lie from {low:g} to {high:g}, got {value!r}.")
    return float(value)


def get_adata(data: object, *, mod: str | None = None, allow_empty: bool = False) -> AnnData:
    """Return the AnnData in ``data``: itself, or the modality ``mod`` of a MuData.

    Parameters
    ----------
    data
        An AnnData (a view or a backed one too) or a MuData.
    mod
        Name of the modality, required for a MuData with several and not allowed for an AnnData.
    allow_empty
        Accept data without cells or genes.

    Raises
    ------
    TypeError
        ``data`` is neither AnnData nor MuData.
    KeyError
        There is no such modality.
    ValueError
        ``mod`` is missing or not allowed, or the data have no cells or no genes.
    """
    from anndata import AnnData

    if isinstance(data, AnnData):
        if mod is not None:
            raise ValueError(f"mod={mod!r} names a modality of a MuData, but the data is an AnnData. Leave mod out.")
        adata = data
    elif type(data).__name__ == "MuData" and hasattr(data, "mod"):
        adata = _modality(data.mod, mod)
    else:
        raise TypeError(
            f"adata must be an AnnData or a MuData, got {type(data).__name__}. "
            "Read a file with anndata.read_h5ad first."
        )
    if not allow_empty and 0 in adata.shape:
        raise ValueError(f"adata has {adata.n_obs} cells x {adata.n_vars} genes: there is nothing to work on.")
    return adata


def _modality(modalities: Mapping[str, AnnData], mod: str | None) -> AnnData:
    if mod is None:
        if len(modalities) == 1:
            return next(iter(modalities.values()))
        raise ValueError(f"A MuData with several modalities needs mod=. Available: {', '.join(map(repr, modalities))}.")
    if mod not in modalities:
        raise KeyError(f"mod={mod!r} is not a modality. {did_you_mean(mod, modalities)}")
    return modalities[mod]


def _names(table: Mapping[str, Any] | pd.DataFrame) -> list[str]:
    # anndata >= 0.13 has a None key in `layers`.
    return [str(k) for k in table.keys() if k is not None]
