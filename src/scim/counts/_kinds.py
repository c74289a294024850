"""Tell raw counts, log1p values and other values apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np

from ._blocks import iter_blocks
from ._sample import MAX_LOG, MIN_VALUES, TARGET_SUM, Sample, sample_of, take_sample

if TYPE_CHECKING:
    import pandas as pd

#: Share of a cell's values that are whole multiples of its smallest value if they are scaled counts.
WHOLE_SHARE = 0.8
#: Logarithms in the largest value of a cell, and in that of all cells, which log1p of 1e4 per cell have at least: 20
#: and 54 of 10,000. Smaller ones are logarithms to base 10, logarithms of logarithms, or values scaled to 1.
_LEAST_CELL_TOP, _LEAST_TOP = 3.0, 4.0
#: Cells of a sample from which these are known.
_MIN_CELLS = 20
#: Share of the cells of a sample that must be on another scale to be told from chance, if there are more than 3.
_MIXED_SHARE = 0.01
#: Share of multiples by which another scale must be better than the usual one.
_CLEARLY = 0.05
NOTHING = "no value above zero"
WHOLE = "whole numbers"
REMEDY = (
    "scim takes raw counts, or log1p of counts scaled to a fixed sum per cell "
    "(scanpy: normalize_total(target_sum=1e4), log1p). Name the layer that holds them with layer=, "
    'such as layer="counts" or layer="raw" for adata.raw.'
)
#: Ways to undo what was done to counts that were scaled per cell, by what it was.
_LINEAR: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log1p": np.expm1,
    "log2": lambda v: np.exp2(v) - 1,
    "log10": lambda v: 10**v - 1,
    "log1p twice": lambda v: np.expm1(np.minimum(np.expm1(v), MAX_LOG)),
}


@dataclass(frozen=True)
class InputKind:
    """What the values of a matrix are.

    Attributes
    ----------
    kind
        ``"counts"`` or ``"log1p"``.
    target_sum
        Sum per cell before log1p, if all cells have one. None for counts.
    detail
        Description of the values, in words.
    base
        Base of the logarithm, as recorded in ``uns["log1p"]``. None: the natural logarithm.
    """

    kind: Literal["counts", "log1p"]
    target_sum: float | None
    detail: str
    base: float | None = None

    @property
    def unit(self) -> float:
        """Natural logarithm of the base: factor that makes natural logarithms of the values."""
        return 1.0 if self.base is None else float(np.log(self.base))

    @property
    def is_whole(self) -> bool:
        """Whether the values are whole numbers."""
        return self.detail.startswith(WHOLE)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON and h5ad, without those that are None."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def input_kind(
    X: Any,
    *,
    n_cells: int = 1000,
    where: str = "X",
    base: float | None = None,
    columns: np.ndarray | None = None,
    obs: pd.DataFrame | None = None,
) -> InputKind:
    """Recognise counts and log1p values from a sample of the rows of ``X``.

    Parameters
    ----------
    X
        Any matrix that :func:`scim.counts._blocks.iter_blocks` takes.
    n_cells
        Rows to read, in blocks spread over the matrix.
    where
        Name of the matrix in messages.
    base
        Base of the logarithm that a record names; None if there is no record.
    columns
        Columns that are genes, bool (n_columns,). None: all.
    obs
        Table of the cells, to name studies in messages.

    Raises
    ------
    ValueError
        The values are neither counts nor log1p values, or cells are on several scales; the message describes them.

    Examples
    --------
    >>> import numpy as np
    >>> from scim.counts._kinds import input_kind
    >>> input_kind(np.array([[0, 3, 1], [5, 0, 2]])).kind
    'counts'
    """
    sample = take_sample(X, n_cells, lambda values: _check(values, where), columns)
    base = _checked_base(base)
    if len(_told(_cell_scales(sample, base))) > 1:
        refuse_mixed(X, where=where, base=base, columns=columns, obs=obs)
    found = judge(sample, base)
    if isinstance(found, str):
        _refuse(where, found)
    return found


def _checked_base(base: Any) -> float | None:
    """Return a base of logarithms other than e; None for e, and for what is no base."""
    try:
        number = float(base)
    except (TypeError, ValueError):
        return None
    return number if number > 1 and abs(number - math.e) > 1e-3 else None


def _undo_base(base: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: np.expm1(values * np.log(base))


def judge(sample: Sample, base: float | None) -> InputKind | str:
    """Return the kind of the values of a sample, or what else they are, in words."""
    values = sample.values
    if len(values) == 0:
        return InputKind("counts", None, NOTHING)
    top, whole = sample.top, sample.whole.sum() / len(values)
    if (whole < 1.0 or values.min() == top) and sample.has_one_value_per_cell:
        return f"one value per cell ({top:g} at most): present or absent, not counts"
    if whole == 1.0:
        return InputKind("counts", None, f"{WHOLE} up to {top:g}")
    sample = Sample(values.astype(np.float64), sample.rows, sample.n_cells)
    if (seen := _transformed_counts(sample.values)) is not None:
        return seen
    linear = sample.sums(sample.values)
    if sample.common_sum(sample.values) or (sample.whole_share(sample.values) > WHOLE_SHARE and whole < 0.5):
        return f"scaled but not logged: sums per cell around {np.median(linear):,.0f}, values up to {top:,.4g}"
    if whole > 0.5 or top > 50:
        return InputKind("counts", None, f"{whole:.1%} whole numbers up to {top:g}, such as estimated counts")
    return _log_kind(sample, top, base)


def _transformed_counts(values: np.ndarray) -> str | None:
    """Say whether values become whole numbers by undoing a transform that does not scale cells to one sum."""
    undone: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "square roots of counts; undo them with X ** 2": np.square,
        "log1p of counts that were not scaled to one sum per cell; undo it with np.expm1(X)": np.expm1,
        "log2(1 + x) of counts; undo it with np.exp2(X) - 1": _LINEAR["log2"],
        "log10(1 + x) of counts; undo it with 10**X - 1": _LINEAR["log10"],
        "arcsinh of counts; undo it with np.sinh(X)": np.sinh,
    }
    # Values that are whole already say nothing about a transform.
    small = values[(values < MAX_LOG) & (np.abs(values - np.round(values)) > 1e-4)]
    for seen, undo in undone.items():
        counts = undo(small)
        # float32 rounding hides whether larger counts are whole.
        counts = counts[counts < 1_000]
        is_whole = np.abs(counts - np.round(counts)) < 2e-4 * np.maximum(counts, 1)
        # Counts have values of 1 and 2; without them, these are multiples of a scaled count that happen to be whole.
        if len(counts) >= 20 and counts.min() < 2.5 <= counts.max() and np.mean(is_whole) > 0.999:
            return seen
    return None


def _log_kind(sample: Sample, top: float, base: float | None) -> InputKind | str:
    """Recognise the base of logarithms and the sum per cell before them; say what else they are."""
    seen = f"values up to {top:.3g}"
    ways = _LINEAR if base is None else {"recorded": _undo_base(base), **_LINEAR}
    found: list[tuple[bool, float, str]] = []
    for name, undo in ways.items():
        linear = undo(np.minimum(sample.values, MAX_LOG))
        # With fewer than 3 cells, a sum is no evidence for an unusual scale.
        target = sample.common_sum(linear) if sample.n_cells >= 3 or name in ("recorded", "log1p", "log2") else None
        found.append((target is not None, sample.whole_share(linear), name))
    # Of ways that are hardly better than one another, the first is the usual one.
    certain, share, name = found[0]
    for way in found[1:]:
        if (way[0], way[1]) > (certain, share + _CLEARLY):
            certain, share, name = way
    if not certain and share <= WHOLE_SHARE:
        return _by_range(sample, top, base)
    if name not in ("recorded", "log1p"):
        return f"{_OTHER_LOGS[name].format(seen=seen)}"
    kept = base if name == "recorded" else None
    linear = ways[name](sample.values)
    target = sample.common_sum(linear)
    if share <= WHOLE_SHARE:
        for before, of in _SCALED_BEFORE.items():
            if sample.whole_share(linear, of) > WHOLE_SHARE:
                return f"log1p of {before} that were scaled to one sum per cell ({seen})"
    based = "" if kept is None else f" to base {kept:g}"
    if target:
        return InputKind("log1p", target, f"log1p{based} of {target:,.0f} per cell, {seen}", kept)
    most = np.max(sample.sums(linear))
    return InputKind(
        "log1p", None, f"log1p{based}: whole multiples of one count, up to {most:,.0f} per cell, {seen}", kept
    )


#: What logarithms of another kind are, and how they are undone.
_OTHER_LOGS = {
    "log2": "logarithms to base 2 ({seen}); undo them with np.exp2(X) - 1, and normalise and log1p the result",
    "log10": "logarithms to base 10 ({seen}); undo them with 10**X - 1, and log1p the result",
    "log1p twice": "log1p of log1p values ({seen}); undo one of them with np.expm1(X)",
}
#: What values were before they were scaled: the ratio to the smallest value of a cell -> counts.
_SCALED_BEFORE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "log1p values": lambda ratio: np.exp2(np.minimum(ratio, MAX_LOG)) - 1,
    "square roots": np.square,
}


def _by_range(sample: Sample, top: float, base: float | None) -> InputKind | str:
    """Take values without multiples of one count and without one sum as log1p if their range is that of log1p."""
    unit = 1.0 if base is None else float(np.log(base))
    logs = sample.values * unit
    sums = sample.sums(np.expm1(np.minimum(logs, MAX_LOG)))
    seen, cell_top = f"values up to {top:.3g}", float(np.median(sample.tops(logs)))
    is_small = sample.n_cells >= _MIN_CELLS and (cell_top < _LEAST_CELL_TOP or top * unit < _LEAST_TOP)
    if not is_small and np.median(sums) <= 1.05 * TARGET_SUM and np.quantile(sums, 0.99) <= 1.5 * TARGET_SUM:
        detail = f"taken as log1p because of their range, up to {np.max(sums):,.0f} of 10,000 per cell, {seen}"
        return InputKind("log1p", None, detail, base)
    few = "; with fewer than 3 cells, an unusual sum per cell is not recognised" if sample.n_cells < 3 else ""
    return (
        f"values of an unknown scale: {seen}, {cell_top:.3g} in the middle cell; as log1p values, their sums per cell "
        f"would be from {sums.min():,.3g} to {sums.max():,.3g} (are they log2, log10, TPM, scaled to a maximum, or "
        f"batch-corrected?){few}"
    )


def _told(codes: np.ndarray) -> dict[str, int]:
    """Count the cells of each scale in ``codes`` that more cells have than chance gives, most first."""
    names, sizes = np.unique(codes[codes != ""], return_counts=True)
    found = {
        str(name): int(size)
        for name, size in zip(names, sizes, strict=True)
        # Few cells of an unusual scale are log1p values that look like it.
        if size >= (3 if name in _USUAL else max(3, _MIXED_SHARE * len(codes)))
    }
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _cell_scales(sample: Sample, base: float | None) -> np.ndarray:
    """Tell the scale of each cell: ``"whole numbers"``, ``"log1p"`` and others, "" if it cannot be told, (n_cells,)."""
    codes = np.full(sample.n_cells, "", dtype=object)
    enough = sample.sizes >= MIN_VALUES
    is_whole = enough & (sample.whole == sample.sizes)
    codes[is_whole] = WHOLE
    if sample.whole.sum() == len(sample.values):
        return codes
    chosen = enough & ~is_whole
    rest = sample.take(chosen)
    rest = Sample(rest.values.astype(np.float64), rest.rows, rest.n_cells)
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {**_LINEAR, "scaled values": np.asarray}
    if base is not None:
        ways = {f"log1p to base {base:g}": _undo_base(base), **ways}
    told = np.full(rest.n_cells, "", dtype=object)
    # Halves and thirds of counts, of reads with several places, are multiples as well, among more whole numbers.
    best = np.where(rest.whole > 0.5 * rest.sizes, np.inf, WHOLE_SHARE)
    for name, undo in ways.items():
        share = rest.shares(rest.values if undo is np.asarray else undo(np.minimum(rest.values, MAX_LOG)))
        better = share > best
        told[better], best[better] = name, share[better] + _CLEARLY
    codes[chosen] = told
    return codes


def refuse_mixed(
    X: Any,
    *,
    where: str,
    base: float | None,
    columns: np.ndarray | None = None,
    obs: pd.DataFrame | None = None,
) -> None:
    """Raise if cells are on several scales, with their number and their studies; all cells are read.

    Parameters are those of :func:`input_kind`.
    """
    blocks = [sample_of(block, lambda values: None, columns) for _, block in iter_blocks(X)]
    codes = np.concatenate([_cell_scales(block, base) for block in blocks])
    found = _told(codes)
    if len(found) < 2:
        return
    parts = [
        f"{size:,} {_NAMED.get(name, f'cells of {name}')}{_studies(codes == name, codes, obs)}"
        for name, size in found.items()
    ]
    _refuse(
        where,
        f"cells on several scales: {'; '.join(parts)}. Bring all cells to one scale before they are put together, such "
        "as the raw counts of every study",
    )


#: Scales of cells in messages.
_NAMED = {WHOLE: "cells of whole numbers (counts)", "log1p": "cells of log1p values"}
#: Scales that cells usually have.
_USUAL = (WHOLE, "log1p")


def _studies(cells: np.ndarray, codes: np.ndarray, obs: pd.DataFrame | None) -> str:
    """Name the values of the column of ``obs`` that tells scales apart, or else the first cell."""
    first = int(np.flatnonzero(cells)[0])
    if obs is None or len(obs) != len(cells):
        return f" (the first is row {first})"
    usual = ("study", "dataset", "batch", "sample", "donor")
    for column in sorted(map(str, obs.columns), key=lambda name: (name.casefold() not in usual, name)):
        values = obs[column].astype(str).to_numpy() if column in obs else None
        if values is None or not 1 < len(set(values)) <= 1_000:
            continue
        mine, others = set(values[cells]), set(values[(codes != "") & ~cells])
        if not mine & others:
            shown = sorted(mine)
            return f" ({column} {', '.join(shown[:3])}{' ...' if len(shown) > 3 else ''})"
    return f" (the first is {str(obs.index[first])!r})"


def check_values(values: np.ndarray, *, where: str = "X") -> None:
    """Raise a :class:`ValueError` for NaN, infinite or negative values.

    Parameters
    ----------
    values
        Stored values of a matrix, of any shape.
    where
        Name of the matrix in messages.
    """
    # NaN fails every comparison, so these two detect it as well.
    if values.size == 0 or (values.min() >= 0 and values.max() < np.inf):
        return
    if not np.isfinite(values).all():
        what = "NaN" if np.isnan(values).any() else "infinite values"
        _refuse(where, f"{what}; find where it comes from, or replace it: np.nan_to_num(adata.X)")
    _refuse(where, f"negative values (down to {values.min():.3g}): scaled, centred or batch-corrected data")


def _check(values: np.ndarray, where: str) -> None:
    """Raise for values that are not numbers, negative or not finite."""
    if values.dtype == bool:
        _refuse(where, "True and False, not counts")
    if not np.issubdtype(values.dtype, np.number):
        raise TypeError(f"{where} holds {values.dtype} values, not numbers. {REMEDY}")
    check_values(values, where=where)


def _refuse(where: str, seen: str) -> NoReturn:
    raise ValueError(f"{where} holds {seen}. {REMEDY}")
