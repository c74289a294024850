"""Tell raw counts, log1p values and other values apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NoReturn

import numpy as np

from .._warn import warn
from ._blocks import iter_blocks

#: Sum of the counts of a cell after normalisation, before log1p.
TARGET_SUM = 1e4
#: Blocks of rows that a sample is taken from.
_SAMPLE_BLOCKS = 8
#: Stored values in a sample, at most approximately.
_SAMPLE_VALUES = 250_000
#: Largest logarithm of a count; exponentials of larger values could overflow.
_MAX_LOG = 40.0
#: Cells were scaled to one sum if the relative spread of their sums is below this.
_SUM_TOLERANCE = 1e-3
#: Sums per cell in common use: one cell is enough to recognise them.
_USUAL_SUMS = (TARGET_SUM, 1e5, 1e6)
#: Share of a cell's values that are whole multiples of its smallest value if they are scaled counts.
WHOLE_SHARE = 0.8
REMEDY = (
    "scim takes raw counts, or log1p of counts scaled to a fixed sum per cell "
    "(scanpy: normalize_total(target_sum=1e4), log1p). Name the layer that holds them with layer=, "
    'such as layer="counts" or layer="raw" for adata.raw.'
)


@dataclass(frozen=True)
class InputKind:
    """What the values of a matrix are.

    Attributes
    ----------
    kind
        ``"counts"`` or ``"log1p"``.
    target_sum
        Sum per cell before log1p, if known. None for counts, and for log1p values that are assumed to have 1e4.
    detail
        Description of the values, in words.
    """

    kind: Literal["counts", "log1p"]
    target_sum: float | None
    detail: str

    @property
    def factor(self) -> float:
        """Factor that brings the linear values of log1p data to 1e4 per cell; 1 for counts."""
        if self.kind == "counts" or not self.target_sum or abs(self.target_sum / TARGET_SUM - 1) <= _SUM_TOLERANCE:
            return 1.0
        return TARGET_SUM / self.target_sum

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON and h5ad, without those that are None."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class _Sample:
    """Stored values of a sample of cells, the row of each value, and the number of cells."""

    values: np.ndarray
    rows: np.ndarray
    n_cells: int

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum per cell, of cells with values above zero."""
        sums = np.bincount(self.rows, weights=values, minlength=self.n_cells)
        return sums[sums > 0]

    def whole_share(self, values: np.ndarray) -> float:
        """Share of the values that are whole multiples of their cell's smallest value: near 1 for scaled UMI counts."""
        smallest = np.full(self.n_cells, np.inf)
        np.minimum.at(smallest, self.rows, values)
        ratio = values / smallest[self.rows]
        # float32 rounding hides whether large ratios are whole; the smallest value itself has ratio 1.
        ratio = ratio[(ratio > 1.01) & (ratio < 30)]
        if len(ratio) < 20:
            return 0.0
        return float(np.mean(np.abs(ratio - np.round(ratio)) < 0.02))


def input_kind(X: Any, *, n_cells: int = 1000, where: str = "X") -> InputKind:
    """Recognise counts and log1p values from a sample of the rows of ``X``.

    Parameters
    ----------
    X
        Any matrix that :func:`scim.counts._blocks.iter_blocks` takes.
    n_cells
        Rows to read, in blocks spread over the matrix.
    where
        Name of the matrix in messages.

    Raises
    ------
    ValueError
        The values are neither counts nor log1p values; the message describes them.

    Examples
    --------
    >>> import numpy as np
    >>> from scim.counts._kinds import input_kind
    >>> input_kind(np.array([[0, 3, 1], [5, 0, 2]])).kind
    'counts'
    """
    sample = _take_sample(X, n_cells, where)
    values = sample.values
    if len(values) == 0:
        return InputKind("counts", None, "no value above zero")
    top = float(values.max())
    whole = float(np.mean(np.abs(values - np.round(values)) < 1e-4))
    if whole == 1.0:
        return InputKind("counts", None, f"whole numbers up to {top:g}")
    sample = replace(sample, values=values.astype(np.float64))
    values = sample.values
    _refuse_transformed_counts(values, where)
    linear = sample.sums(values)
    if _common_sum(linear) or (sample.whole_share(values) > WHOLE_SHARE and whole < 0.5):
        _refuse(where, f"scaled but not logged: sums per cell around {np.median(linear):,.0f}, values up to {top:,.4g}")
    if whole > 0.5 or top > 50:
        return InputKind("counts", None, f"{whole:.1%} whole numbers up to {top:g}, such as estimated counts")
    return _log_kind(sample, top, where)


def _refuse_transformed_counts(values: np.ndarray, where: str) -> None:
    """Raise if the values become whole numbers by undoing a transform that does not scale cells to one sum."""
    undone: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "square roots of counts; undo them with X ** 2": np.square,
        "log1p of counts that were not scaled to one sum per cell; undo it with np.expm1(X)": np.expm1,
        "log2(1 + x) of counts; undo it with np.exp2(X) - 1": lambda v: np.exp2(v) - 1,
        "log10(1 + x) of counts; undo it with 10**X - 1": lambda v: 10**v - 1,
        "arcsinh of counts; undo it with np.sinh(X)": np.sinh,
    }
    # Values that are whole already say nothing about a transform.
    small = values[(values < _MAX_LOG) & (np.abs(values - np.round(values)) > 1e-4)]
    for seen, undo in undone.items():
        counts = undo(small)
        # float32 rounding hides whether larger counts are whole.
        counts = counts[counts < 1_000]
        is_whole = np.abs(counts - np.round(counts)) < 2e-4 * np.maximum(counts, 1)
        # Counts have values of 1 and 2; without them, these are multiples of a scaled count that happen to be whole.
        if len(counts) >= 20 and counts.min() < 2.5 <= counts.max() and np.mean(is_whole) > 0.999:
            _refuse(where, seen)


def _log_kind(sample: _Sample, top: float, where: str) -> InputKind:
    """Recognise the base of logarithms and the sum per cell before them; raise unless it is log1p."""
    natural, binary = np.expm1(sample.values), np.exp2(sample.values) - 1
    sums = sample.sums(natural)
    share, share_binary = sample.whole_share(natural), sample.whole_share(binary)
    target, constant_binary = _common_sum(sums), _common_sum(sample.sums(binary))
    seen = f"values up to {top:.3g}"
    if not target and (constant_binary or (share_binary > WHOLE_SHARE and share_binary > share)):
        _refuse(
            where, f"logarithms to base 2 ({seen}); undo them with np.exp2(X) - 1, and normalise and log1p the result"
        )
    if not target and sample.n_cells >= 3:
        decimal, twice = 10**sample.values - 1, np.expm1(np.minimum(natural, _MAX_LOG))
        if _common_sum(sample.sums(decimal)):
            _refuse(where, f"logarithms to base 10 ({seen}); undo them with 10**X - 1, and log1p the result")
        if _common_sum(sample.sums(twice)):
            _refuse(where, f"log1p of log1p values ({seen}); undo one of them with np.expm1(X)")
    if target:
        return InputKind("log1p", target, f"log1p of {target:,.0f} per cell, {seen}")
    if np.median(sums) <= 1.05 * TARGET_SUM and np.quantile(sums, 0.99) <= 1.5 * TARGET_SUM:
        if sample.n_cells < 3 and np.max(sums) < 0.95 * TARGET_SUM:
            warn(
                f"{where} holds log1p values of {sample.n_cells} cells, too few to recognise the sum per cell; "
                f"{TARGET_SUM:,.0f} is assumed. Pass raw counts, or more cells at a time."
            )
        evidence = "whole multiples of one count" if share > WHOLE_SHARE else "taken as log1p because of their range"
        return InputKind("log1p", None, f"{evidence}, up to {np.max(sums):,.0f} of 10,000 per cell, {seen}")
    few = "; with fewer than 3 cells, an unusual sum per cell is not recognised" if sample.n_cells < 3 else ""
    _refuse(
        where,
        f"values of an unknown scale: {seen}; as log1p values, their sums per cell would be from {sums.min():,.3g} to "
        f"{sums.max():,.3g} (are they log2, TPM, log1p of counts per million of a selection of genes, or "
        f"batch-corrected?){few}",
    )


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


def _take_sample(X: Any, n_cells: int, where: str) -> _Sample:
    """Read blocks of rows spread over ``X``; raise for values that are not numbers, negative or not finite."""
    from scipy import sparse

    total = int(X.shape[0])
    size = max(1, n_cells // _SAMPLE_BLOCKS)
    if total > n_cells and sparse.issparse(X) and X.format == "csr":
        # Of deeply sequenced cells, fewer are enough.
        size = max(1, min(size, _SAMPLE_VALUES * total // (_SAMPLE_BLOCKS * max(X.nnz, 1))))
    starts = [0] if total <= n_cells else np.linspace(0, total - size, _SAMPLE_BLOCKS).astype(int).tolist()
    rows = np.arange(total) if total <= n_cells else np.unique(np.concatenate([np.arange(s, s + size) for s in starts]))
    parts = []
    for _, block in iter_blocks(X, rows=rows):
        values = block.data if sparse.issparse(block) else block
        if values.dtype == bool:
            _refuse(where, "True and False, not counts")
        if not np.issubdtype(values.dtype, np.number):
            raise TypeError(f"{where} holds {values.dtype} values, not numbers. {REMEDY}")
        check_values(values, where=where)
        parts.append(sparse.csr_matrix(block))
    sample = sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((0, 0))
    sample.eliminate_zeros()
    row = np.repeat(np.arange(sample.shape[0], dtype=np.int32), np.diff(sample.indptr))
    values = sample.data if sample.data.dtype.kind == "f" else sample.data.astype(np.float32)
    return _Sample(values, row, sample.shape[0])


def _common_sum(sums: np.ndarray) -> float | None:
    """Sum that the middle 90 % of the cells were scaled to; None if they differ, or are too few."""
    if len(sums) < 3:
        usual = (target for target in _USUAL_SUMS if len(sums) and np.abs(sums / target - 1).max() < _SUM_TOLERANCE)
        return next(usual, None)
    low, middle, high = np.quantile(sums, [0.05, 0.5, 0.95])
    return float(middle) if (high - low) / middle < _SUM_TOLERANCE else None


def _refuse(where: str, seen: str) -> NoReturn:
    raise ValueError(f"{where} holds {seen}. {REMEDY}")
