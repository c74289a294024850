"""Tell raw counts, log1p values and anything else apart, and bring the first two to one scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NoReturn

import numpy as np

from .._warn import warn
from ._blocks import iter_blocks, n_rows

#: Counts per cell after normalisation, before log1p.
TARGET_SUM = 1e4


_BLOCKS = 8
#: Stored values that a sample has at most, or about.
_ENTRIES = 250_000
#: No logarithm of a count is larger, and undoing what is could overflow.
_LARGEST_LOG = 40.0
#: A relative spread of the cells' sums below this says that they were all scaled to one value.
_CONSTANT = 1e-3
#: Sums that people scale cells to, by which even one cell tells that it was.
_USUAL_SUMS = (TARGET_SUM, 1e5, 1e6)
#: Share of the values that must be whole multiples of the cell's smallest one, to be called counts under a transform.
_WHOLE = 0.8
_REMEDY = (
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
        Sum per cell before log1p, where it can be told; None means 1e4 for log1p values, and nothing for counts.
    detail
        What was seen, in words.
    """

    kind: Literal["counts", "log1p"]
    target_sum: float | None
    detail: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, which JSON and h5ad take; no key for what is not known."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class _Sample:
    """Stored values of some cells, the row of each, and the number of cells."""

    values: np.ndarray
    rows: np.ndarray
    n_cells: int

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum per cell that has any value."""
        sums = np.bincount(self.rows, weights=values, minlength=self.n_cells)
        return sums[sums > 0]

    def whole_share(self, values: np.ndarray) -> float:
        """Share of the values above a cell's smallest that are whole multiples of it: near 1 for scaled UMI counts."""
        smallest = np.full(self.n_cells, np.inf)
        np.minimum.at(smallest, self.rows, values)
        ratio = values / smallest[self.rows]
        # Rounding of float32 hides the pattern of large ratios; the smallest itself proves nothing.
        telling = (ratio > 1.01) & (ratio < 30)
        if telling.sum() < 20:
            return 0.0
        return float(np.mean(np.abs(ratio[telling] - np.round(ratio[telling])) < 0.02))


def input_kind(X: Any, *, n_cells: int = 1000, where: str = "X") -> InputKind:
    """Say what the values of ``X`` are, from a sample of its rows.

    Parameters
    ----------
    X
        Any matrix that :func:`scim.counts._blocks.iter_blocks` takes.
    n_cells
        Rows to look at, in blocks spread over the matrix.
    where
        What the matrix is called in messages.

    Raises
    ------
    ValueError
        The values are neither counts nor log1p values; the message says what was seen.

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
    if _common_sum(linear) or (sample.whole_share(values) > _WHOLE and whole < 0.5):
        _refuse(where, f"scaled but not logged: sums per cell around {np.median(linear):,.0f}, values up to {top:,.4g}")
    if whole > 0.5 or top > 50:
        return InputKind("counts", None, f"{whole:.1%} whole numbers up to {top:g}, such as estimated counts")
    return _log_kind(sample, top, where)


def _refuse_transformed_counts(values: np.ndarray, where: str) -> None:
    """Refuse what is whole numbers under a transform that does not scale cells to one sum."""
    undone: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "square roots of counts; undo them with X ** 2": np.square,
        "log1p of counts that were not scaled to one sum per cell; undo it with np.expm1(X)": np.expm1,
        "log2(1 + x) of counts; undo it with np.exp2(X) - 1": lambda v: np.exp2(v) - 1,
        "log10(1 + x) of counts; undo it with 10**X - 1": lambda v: 10**v - 1,
        "arcsinh of counts; undo it with np.sinh(X)": np.sinh,
    }
    # Those that are whole as they are prove nothing.
    small = values[(values < _LARGEST_LOG) & (np.abs(values - np.round(values)) > 1e-4)]
    for seen, undo in undone.items():
        counts = undo(small)
        # Rounding of float32 hides whether large ones are whole.
        counts = counts[counts < 1_000]
        is_whole = np.abs(counts - np.round(counts)) < 2e-4 * np.maximum(counts, 1)
        # Without small ones they are rather multiples of a scaled count that happen to be whole, of few cells.
        if len(counts) >= 20 and counts.min() < 2.5 <= counts.max() and np.mean(is_whole) > 0.999:
            _refuse(where, seen)


def _log_kind(sample: _Sample, top: float, where: str) -> InputKind:
    """Judge values that could be logarithms: of which base, and of what sum per cell."""
    natural, binary = np.expm1(sample.values), np.exp2(sample.values) - 1
    sums = sample.sums(natural)
    share, share_binary = sample.whole_share(natural), sample.whole_share(binary)
    target, constant_binary = _common_sum(sums), _common_sum(sample.sums(binary))
    seen = f"values up to {top:.3g}"
    if not target and (constant_binary or (share_binary > _WHOLE and share_binary > share)):
        _refuse(
            where, f"logarithms to base 2 ({seen}); undo them with np.exp2(X) - 1, and normalise and log1p the result"
        )
    if not target and sample.n_cells >= 3:
        decimal, twice = 10**sample.values - 1, np.expm1(np.minimum(natural, _LARGEST_LOG))
        if _common_sum(sample.sums(decimal)):
            _refuse(where, f"logarithms to base 10 ({seen}); undo them with 10**X - 1, and log1p the result")
        if _common_sum(sample.sums(twice)):
            _refuse(where, f"log1p of log1p values ({seen}); undo one of them with np.expm1(X)")
    if target:
        return InputKind("log1p", target, f"log1p of {target:,.0f} per cell, {seen}")
    if np.median(sums) <= 1.05 * TARGET_SUM and np.quantile(sums, 0.99) <= 1.5 * TARGET_SUM:
        if sample.n_cells < 3 and np.max(sums) < 0.95 * TARGET_SUM:
            warn(
                f"{where} holds log1p values of {sample.n_cells} cells, too few to tell what they were scaled to; it "
                f"is taken to be {TARGET_SUM:,.0f} per cell. Pass raw counts, or more cells at a time."
            )
        evidence = "whole multiples of one count" if share > _WHOLE else "taken for log1p by their range"
        return InputKind("log1p", None, f"{evidence}, up to {np.max(sums):,.0f} of 10,000 per cell, {seen}")
    _refuse(
        where,
        f"no scale that can be told: {seen}, which would be sums per cell from {sums.min():,.3g} to {sums.max():,.3g} "
        "if they were log1p (log2, TPM, log1p of counts per million of a selection of genes, or batch-corrected data?)"
        + (", and three cells or more are needed to tell an unusual sum" if sample.n_cells < 3 else ""),
    )


def check_values(values: np.ndarray, *, where: str = "X") -> None:
    """Raise a :class:`ValueError` for what is in no count and no logarithm of one: NaN, infinite, negative values.

    Parameters
    ----------
    values
        Stored values of a matrix, of any shape.
    where
        What the matrix is called in messages.
    """
    # NaN fails every comparison, so that two passes see all three.
    if values.size == 0 or (values.min() >= 0 and values.max() < np.inf):
        return
    if not np.isfinite(values).all():
        what = "NaN" if np.isnan(values).any() else "infinite values"
        _refuse(where, f"{what}; find where it comes from, or replace it: np.nan_to_num(adata.X)")
    _refuse(where, f"negative values (down to {values.min():.3g}): scaled, centred or batch-corrected data")


def _take_sample(X: Any, n_cells: int, where: str) -> _Sample:
    """Read blocks of rows spread over ``X``, and refuse what no scale could explain."""
    from scipy import sparse

    total = n_rows(X)
    size = max(1, n_cells // _BLOCKS)
    if total > n_cells and sparse.issparse(X) and X.format == "csr":
        # Deeply sequenced cells tell as much in smaller numbers.
        size = max(1, min(size, _ENTRIES * total // (_BLOCKS * max(X.nnz, 1))))
    starts = [0] if total <= n_cells else np.linspace(0, total - size, _BLOCKS).astype(int).tolist()
    rows = np.arange(total) if total <= n_cells else np.unique(np.concatenate([np.arange(s, s + size) for s in starts]))
    parts = []
    for _, block in iter_blocks(X, rows=rows):
        values = block.data if sparse.issparse(block) else block
        if values.dtype == bool:
            _refuse(where, "True and False: which genes were seen, not how often")
        if not np.issubdtype(values.dtype, np.number):
            raise TypeError(f"{where} holds {values.dtype} values, not numbers. {_REMEDY}")
        check_values(values, where=where)
        parts.append(sparse.csr_matrix(block))
    sample = sparse.vstack(parts, format="csr") if parts else sparse.csr_matrix((0, 0))
    sample.eliminate_zeros()
    row = np.repeat(np.arange(sample.shape[0], dtype=np.int32), np.diff(sample.indptr))
    values = sample.data if sample.data.dtype.kind == "f" else sample.data.astype(np.float32)
    return _Sample(values, row, sample.shape[0])


def _common_sum(sums: np.ndarray) -> float | None:
    """Sum that the cells were scaled to, by the middle 90 % of them; None where there is none, or it cannot be told."""
    if len(sums) < 3:
        usual = (target for target in _USUAL_SUMS if len(sums) and np.abs(sums / target - 1).max() < _CONSTANT)
        return next(usual, None)
    low, middle, high = np.quantile(sums, [0.05, 0.5, 0.95])
    return float(middle) if (high - low) / middle < _CONSTANT else None


def _refuse(where: str, seen: str) -> NoReturn:
    raise ValueError(f"{where} holds {seen}. {_REMEDY}")
