"""Draw batches that contain triplets: several terms, each from several studies."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import numpy as np

from .._validate import check_fraction, check_positive_int
from ._mining import check_codes

#: Cells of each term that a batch leaves room for: fewer cells form few pairs.
_CELLS_PER_TERM = 8
#: Most terms in a batch.
_MAX_TERMS = 50
#: Largest share of a batch for cells without a label, unless it has to be filled.
_MAX_UNLABELED_SHARE = 0.25


class TermStudySampler:
    """Yield batches of positions, in which rare terms and small studies have more than their share.

    A batch takes terms at random, with probabilities proportional to the square root of their number of cells, and
    about the same number of cells from each term. These are divided among the term's studies in proportion to the
    square root of their size, with cells of two studies or more if there are two. Each cell of a term and study is
    drawn once before one of them is drawn again. Passes differ, but two samplers with the same arguments draw the same
    passes.

    Parameters
    ----------
    labels, studies
        Codes (n_cells,); a label of -1 means none.
    batch_size
        Cells in a batch, or all cells if there are fewer.
    indices
        Positions to draw from; all by default.
    terms_per_batch
        Terms in a batch; by default as many as leave 8 cells for each, at most 50. If they have too few cells, other
        terms fill the batch.
    unlabeled_share
        Share of a batch for cells without a label; by default their share in the data, at most a quarter. They also
        fill the batch if there are too few labelled cells, unless this is 0.

    Raises
    ------
    ValueError
        There are no cells, the arrays differ in length, ``indices`` does not fit, or an option is out of range.
    TypeError
        Codes or an option are not integers.

    Examples
    --------
    >>> import numpy as np
    >>> sampler = TermStudySampler(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), batch_size=4)
    >>> [sorted(batch) for batch in sampler]
    [[0, 1, 2, 3]]
    """

    def __init__(
        self,
        labels: np.ndarray,
        studies: np.ndarray,
        *,
        batch_size: int,
        indices: np.ndarray | None = None,
        terms_per_batch: int | None = None,
        unlabeled_share: float | None = None,
        seed: int = 0,
    ) -> None:
        labels, studies = np.asarray(labels), np.asarray(studies)
        if labels.shape != studies.shape or labels.ndim != 1:
            raise ValueError(f"labels and studies must be of one length, got {labels.shape} and {studies.shape}.")
        check_codes(labels, studies)
        chosen = np.arange(len(labels)) if indices is None else _positions(indices, len(labels))
        if unlabeled_share is not None and check_fraction(unlabeled_share, argument="unlabeled_share") == 0:
            chosen = chosen[labels[chosen] >= 0]
        if not len(chosen):
            raise ValueError("There are no cells to draw batches from.")
        self.batch_size = min(check_positive_int(batch_size, argument="batch_size"), len(chosen))
        self.n_cells = len(chosen)
        self.seed, self.epoch = check_positive_int(seed, argument="seed", minimum=0), 0
        unlabeled = chosen[labels[chosen] < 0]
        labeled = chosen[labels[chosen] >= 0]
        share = min(_MAX_UNLABELED_SHARE, len(unlabeled) / len(chosen)) if unlabeled_share is None else unlabeled_share
        n_unlabeled = min(round(share * self.batch_size), len(unlabeled))
        self.n_unlabeled = self.batch_size if not len(labeled) else max(n_unlabeled, self.batch_size - len(labeled))
        self.unlabeled = unlabeled
        self.terms = _by_term(labels, studies, labeled)
        room = self.batch_size - self.n_unlabeled
        wanted = min(_MAX_TERMS, max(2, room // _CELLS_PER_TERM)) if terms_per_batch is None else terms_per_batch
        if terms_per_batch is not None and 2 * check_positive_int(wanted, argument="terms_per_batch") > batch_size:
            raise ValueError(
                f"terms_per_batch={wanted} leaves a batch of {batch_size} cells fewer than two for each term. "
                f"Use at most {batch_size // 2}, or larger batches."
            )
        self.terms_per_batch = min(wanted, len(self.terms))

    def __len__(self) -> int:
        """Return the number of batches in a pass: number of cells / batch size."""
        return ceil(self.n_cells / self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Set the number of the next pass."""
        self.epoch = int(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        pools = [[_Pool(cells, rng) for cells in studies] for studies in self.terms]
        spare = _Pool(self.unlabeled, rng)
        sizes = np.array([sum(map(len, studies)) for studies in self.terms], dtype=float)
        chance = np.sqrt(sizes) / max(np.sqrt(sizes).sum(), 1e-12)
        for _ in range(len(self)):
            batch = spare.take(self.n_unlabeled)
            batch += self._labeled(pools, chance, rng, self.batch_size - len(batch))
            yield batch

    def _labeled(self, pools: list[list[_Pool]], chance: np.ndarray, rng: np.random.Generator, room: int) -> list[int]:
        """Cells of ``terms_per_batch`` terms, and of further terms until the batch is full."""
        if not room:
            return []
        order = rng.choice(len(pools), size=len(pools), replace=False, p=chance)
        first, rest = order[: self.terms_per_batch], order[self.terms_per_batch :]
        batch: list[int] = []
        used = [np.zeros(len(studies), dtype=np.int64) for studies in pools]
        quota = _shares(np.ones(len(first)), np.array([sum(map(len, pools[t])) for t in first]), room, rng)
        for term, n in zip(first, quota, strict=True):
            batch += self._of_term(pools[term], used[term], int(n), rng)
        for term in rest:
            if len(batch) >= room:
                break
            batch += self._of_term(pools[term], used[term], room - len(batch), rng)
        return batch

    @staticmethod
    def _of_term(studies: list[_Pool], used: np.ndarray, n: int, rng: np.random.Generator) -> list[int]:
        sizes = np.array([len(pool) for pool in studies])
        share = _shares(np.sqrt(sizes), sizes - used, n, rng)
        used += share
        return [cell for pool, m in zip(studies, share, strict=True) for cell in pool.take(int(m))]


class _Pool:
    """Cells in random order, and in another one once all are taken. One call of ``take`` holds no cell twice."""

    def __init__(self, cells: np.ndarray, rng: np.random.Generator) -> None:
        self.rng = rng
        self.order = rng.permutation(cells)
        self.next = 0

    def __len__(self) -> int:
        return len(self.order)

    def take(self, n: int) -> list[int]:
        n = min(n, len(self.order))
        taken = self.order[self.next : self.next + n]
        self.next += len(taken)
        if len(taken) < n:
            others = self.rng.permutation(np.setdiff1d(self.order, taken))
            missing = n - len(taken)
            # Cells of this batch go to the end of the new order.
            self.order, self.next = np.concatenate([others, self.rng.permutation(taken)]), missing
            taken = np.concatenate([taken, others[:missing]])
        return [int(cell) for cell in taken]


def _positions(indices: np.ndarray, n: int) -> np.ndarray:
    """Return ``indices`` as positions among ``n`` cells, or raise."""
    chosen = np.asarray(indices)
    if chosen.size and (chosen.ndim != 1 or chosen.dtype.kind not in "iu"):
        raise TypeError(f"indices must be a vector of integer positions, got {chosen.dtype} of shape {chosen.shape}.")
    chosen = chosen.astype(np.int64)
    if len(chosen) and not (chosen.min() >= 0 and chosen.max() < n):
        raise ValueError(f"indices run from {chosen.min()} to {chosen.max()}, but there are {n} cells.")
    if len(np.unique(chosen)) < len(chosen):
        raise ValueError("indices names cells more than once. Give each once.")
    return chosen


def _by_term(labels: np.ndarray, studies: np.ndarray, cells: np.ndarray) -> list[list[np.ndarray]]:
    """Cells of each term, by study."""
    keys = np.stack([labels[cells], studies[cells]])
    pairs, group = np.unique(keys, axis=1, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    members = np.split(cells[order], np.flatnonzero(np.diff(group.ravel()[order])) + 1) if len(cells) else []
    terms: dict[int, list[np.ndarray]] = {}
    for (label, _), mine in zip(pairs.T, members, strict=True):
        terms.setdefault(int(label), []).append(mine)
    return list(terms.values())


def _shares(weights: np.ndarray, sizes: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Divide ``n`` by ``weights``: no share exceeds its size, and two shares or more are above 0 if ``n`` is 2 or more.

    Remainders are drawn by weight: if the largest weight got them all, small ones would never get any.
    """
    share = np.zeros(len(sizes), dtype=np.int64)
    n = min(n, int(sizes.sum()))
    # The shortest exponential waiting times are a draw by weight without replacement.
    waits = np.where(sizes > 0, rng.standard_exponential(len(sizes)) / weights, np.inf)
    share[np.argsort(waits)[: min(2, n)]] = 1
    share = np.minimum(share, sizes)
    while share.sum() < n:
        open_ = sizes > share
        left = n - int(share.sum())
        ideal = np.where(open_, weights, 0.0) / weights[open_].sum() * left
        step = np.minimum(np.floor(ideal).astype(np.int64), sizes - share)
        if not step.any():  # each would get less than one
            step[rng.choice(len(sizes), min(left, int(open_.sum())), replace=False, p=ideal / ideal.sum())] = 1
        share += step
    return share
