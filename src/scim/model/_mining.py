"""Mine triplets from a batch: anchor and positive share a term, the negative has a term that excludes it.

Source: semi-hard mining after Schroff et al., CVPR 2015 (FaceNet), on the ontology as in SCimilarity (Heimberg et al.,
Nature 2024). Mining and loss use the same distance, the Euclidean one between unit vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from .._compiled import njit
from .._threads import in_threads
from .._validate import check_option, check_positive_int

Strategy = Literal["semihard", "hardest", "random"]
Positives = Literal["cross_study", "prefer_cross_study", "any"]

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
POSITIVES: tuple[Positives, ...] = get_args(Positives)


@dataclass(frozen=True)
class MiningOptions:
    """Which triplets are mined.

    Parameters
    ----------
    margin
        How much farther than the positive the negative has to be, as a distance on the unit sphere.
    strategy
        ``"semihard"``: a random negative that is farther than the positive, but by less than the margin.
        ``"hardest"``: the nearest negative, if it is nearer than the positive's distance plus the margin.
        ``"random"``: a random negative, if it is nearer than that.
    positives
        ``"prefer_cross_study"``: pairs from two studies; pairs from the same study only for labels that occur in one
        study of the batch. ``"cross_study"``: pairs from two studies. ``"any"``: all pairs.
    seed
        Seed of the random draws. They depend on the seed and the positions of the two cells, not on threads.
    max_pairs
        If there are more pairs, a random share of about this number is used: the gradients of 50,000 triplets are as
        good as those of all.

    Raises
    ------
    ValueError
        An option is not known or out of range.
    """

    margin: float = 0.05
    strategy: Strategy = "semihard"
    positives: Positives = "prefer_cross_study"
    seed: int = 0
    max_pairs: int = 50_000

    def __post_init__(self) -> None:
        check_option(self.strategy, STRATEGIES, argument="strategy")
        check_option(self.positives, POSITIVES, argument="positives")
        check_positive_int(self.max_pairs, argument="max_pairs")
        if not 0 <= self.margin < np.inf:
            raise ValueError(f"margin must be at least 0 and finite, got {self.margin!r}.")

    def keep_threshold(self, n_pairs: int) -> int:
        """Return the number below which the 31 random bits of a pair have to be for it to be used."""
        return 2**31 if n_pairs <= self.max_pairs else int(2**31 * (self.max_pairs / n_pairs))


@dataclass(frozen=True, eq=False)
class Triplets:
    """Triplets as positions within the batch (n_triplets,), ordered by anchor, then positive.

    Positions are int32 arrays or int64 tensors. ``n_candidates`` pairs of anchor and positive were used. For
    ``n_without_negative`` of these, no cell was a suitable negative.
    """

    anchor: Any
    positive: Any
    negative: Any
    n_candidates: int
    n_without_negative: int


def mine_triplets(
    z: np.ndarray, labels: np.ndarray, studies: np.ndarray, comparable: np.ndarray, options: MiningOptions
) -> Triplets:
    """Find at most one negative for each pair of anchor and positive.

    ``z`` are unit vectors, float32 (n_cells, n_latent). Labels and studies are integer codes (n_cells,); cells with the
    label -1 are left out. ``comparable`` are pairs of labels that are the same term, or ancestor and descendant, bool
    (n_labels, n_labels): cells with such labels are never negatives of each other. NaN, or shapes that do not fit, are
    a ValueError.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], dtype="float32")
    >>> labels, studies = np.array([0, 0, 1]), np.array([0, 1, 0])
    >>> found = mine_triplets(z, labels, studies, np.eye(2, dtype=bool), MiningOptions(margin=0.5))
    >>> found.anchor.tolist(), found.positive.tolist(), found.negative.tolist()
    ([0], [1], [2])
    """
    z = np.ascontiguousarray(z, dtype=np.float32)
    labels, studies, comparable = np.asarray(labels), np.asarray(studies), np.asarray(comparable)
    check_batch(z, labels, studies, comparable)
    return mine_from_distances(distances(z), labels, studies, comparable, options)


def mine_from_distances(
    d: np.ndarray, labels: np.ndarray, studies: np.ndarray, comparable: np.ndarray, options: MiningOptions
) -> Triplets:
    """Mine on given distances, float32 (n_cells, n_cells); see :func:`mine_triplets`."""
    labels = np.ascontiguousarray(labels, dtype=np.int32)
    studies = np.ascontiguousarray(studies, dtype=np.int32)
    comparable = np.ascontiguousarray(comparable, dtype=bool)
    same_study_allowed = _same_study_allowed(labels, studies, len(comparable), options.positives)
    members, starts = _members(labels, len(comparable))
    counts = _count_pairs(labels, studies, members, starts, same_study_allowed)
    n_pairs = int(counts.sum())
    offsets = np.zeros(len(labels) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    positive = np.empty(n_pairs, dtype=np.int32)
    negative = np.full(n_pairs, _NOT_USED, dtype=np.int32)
    cells = d, labels, studies, comparable, members, starts, same_study_allowed, offsets
    margin, strategy = np.float32(options.margin), STRATEGIES.index(options.strategy)
    draws = margin, strategy, np.uint64(options.seed % 2**63), np.int64(options.keep_threshold(n_pairs))
    in_threads(len(labels), lambda first, last: _mine(first, last, cells, draws, positive, negative))
    anchor = np.repeat(np.arange(len(labels), dtype=np.int32), counts)
    found = negative >= 0
    n_used = int((negative > _NOT_USED).sum())
    return Triplets(anchor[found], positive[found], negative[found], n_used, n_used - int(found.sum()))


def distances(z: np.ndarray) -> np.ndarray:
    """Euclidean distances between unit vectors (n, d) -> float32 (n, n), zero on the diagonal."""
    d = np.empty((len(z), len(z)), dtype=np.float32)
    columns = np.ascontiguousarray(z.T)
    in_threads(len(z), lambda first, last: _fill_distances(first, last, z, columns, d))
    return d


def check_batch(z: Any, labels: Any, studies: Any, comparable: Any) -> None:
    """Raise if vectors, codes and comparable labels, all arrays or all tensors, do not fit together."""
    check_codes(labels, studies)
    if len(z.shape) != 2 or labels.shape != z.shape[:1] or studies.shape != z.shape[:1]:
        raise ValueError(
            f"z must be (n_cells, n_latent) with a label and a study for each cell, got z {tuple(z.shape)}, labels "
            f"{tuple(labels.shape)}, studies {tuple(studies.shape)}."
        )
    if len(comparable.shape) != 2 or comparable.shape[0] != comparable.shape[1]:
        raise ValueError(f"comparable must be (n_labels, n_labels), got {tuple(comparable.shape)}.")
    # Checked on a GPU, too: an index out of range would end the process there.
    if len(labels) and int(labels.max()) >= len(comparable):
        raise ValueError(f"labels go up to {int(labels.max())}, but comparable has {len(comparable)} labels.")
    if not bool((abs(z) < np.inf).all()):
        raise ValueError("z holds NaN or infinite values: the training has diverged. Lower lr.")


def check_codes(labels: Any, studies: Any) -> None:
    """Raise if labels or studies, arrays or tensors, are not integers."""
    for name, codes in (("labels", labels), ("studies", studies)):
        if len(codes) and "int" not in str(codes.dtype):
            raise TypeError(f"{name} must hold integer codes, got {codes.dtype}. Use pandas.factorize or .cat.codes.")


def _same_study_allowed(labels: np.ndarray, studies: np.ndarray, n_labels: int, positives: Positives) -> np.ndarray:
    """Labels whose pairs may come from the same study, bool (n_labels,)."""
    if positives != "prefer_cross_study":
        return np.full(n_labels, positives == "any")
    known = labels >= 0
    pairs = np.unique(np.stack([labels[known], studies[known]]), axis=1)
    return np.bincount(pairs[0], minlength=n_labels) < 2


def _members(labels: np.ndarray, n_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells in the order of their labels, and the start of each label among them."""
    order = np.argsort(labels, kind="stable").astype(np.int32)
    return order, np.searchsorted(labels[order], np.arange(n_labels + 1)).astype(np.int64)


#: Marks a pair that was left out because there are too many.
_NOT_USED = -2
#: Marks a pair without a suitable negative.
_NO_NEGATIVE = -1
#: Negatives that are skipped at a time.
_STRETCH = 128
_HARDEST = STRATEGIES.index("hardest")
_RANDOM = STRATEGIES.index("random")


@njit(inline="always")
def _bits(seed, a, b):  # type: ignore[no-untyped-def]
    """31 random bits from a seed and two positions: splitmix64's finaliser over a weighted sum."""
    h = (
        seed * np.uint64(0x9E3779B97F4A7C15)
        + np.uint64(a) * np.uint64(0xBF58476D1CE4E5B9)
        + np.uint64(b) * np.uint64(0x94D049BB133111EB)
    )
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((h ^ (h >> np.uint64(31))) >> np.uint64(33))


@njit(nogil=True)
def _fill_distances(first, last, z, columns, d):  # type: ignore[no-untyped-def]
    # BLAS would wake threads of its own for a product this small, which then compete with those of the miner and of
    # torch. Adding column by column keeps the order of the sums, whatever the number of threads.
    n, n_latent = z.shape
    for a in range(first, last):
        row = d[a]
        row[:] = np.float32(0.0)
        # Four columns at a time, so that the row is read and written a quarter as often.
        for j in range(0, n_latent - 3, 4):
            x0, x1, x2, x3 = z[a, j], z[a, j + 1], z[a, j + 2], z[a, j + 3]
            c0, c1, c2, c3 = columns[j], columns[j + 1], columns[j + 2], columns[j + 3]
            for b in range(n):
                row[b] += x0 * c0[b] + x1 * c1[b] + x2 * c2[b] + x3 * c3[b]
        for j in range(n_latent - n_latent % 4, n_latent):
            x, column = z[a, j], columns[j]
            for b in range(n):
                row[b] += x * column[b]
        for b in range(n):
            row[b] = np.sqrt(max(np.float32(2.0) - np.float32(2.0) * row[b], np.float32(0.0)))
        row[a] = np.float32(0.0)


@njit()
def _count_pairs(labels, studies, members, starts, same_study_allowed):  # type: ignore[no-untyped-def]
    counts = np.zeros(len(labels), dtype=np.int64)
    for label in range(len(starts) - 1):
        allowed = same_study_allowed[label]
        for i in range(starts[label], starts[label + 1]):
            a = members[i]
            for k in range(starts[label], starts[label + 1]):
                p = members[k]
                counts[a] += (p != a) & (allowed | (studies[p] != studies[a]))
    return counts


@njit(nogil=True)
def _mine(first, last, cells, draws, positive, negative):  # type: ignore[no-untyped-def]
    """Fill in positive and negative of the anchors from ``first`` to ``last``."""
    d, labels, studies, comparable, members, starts, same_study_allowed, offsets = cells
    margin, strategy, seed, keep = draws
    others = np.empty(len(labels), dtype=np.int32)
    gaps = np.empty(len(labels), dtype=np.float32)
    counts = np.empty((len(labels) + _STRETCH - 1) // _STRETCH, dtype=np.int64)
    for a in range(first, last):
        if offsets[a] == offsets[a + 1]:
            continue
        label = labels[a]
        # All positives of an anchor have the same negatives: gathered once, so that the search runs over a dense row.
        n_others = _gather_negatives(d[a], labels, comparable[label], others, gaps)
        nearest = np.argmin(gaps[:n_others]) if strategy == _HARDEST and n_others else -1
        allowed = same_study_allowed[label]
        place = offsets[a]
        for k in range(starts[label], starts[label + 1]):
            p = members[k]
            if p == a or not (allowed or studies[p] != studies[a]):
                continue
            positive[place] = p
            if keep == 2147483648 or _bits(seed + np.uint64(1), a, p) < keep:
                j = _choose(gaps[:n_others], d[a, p], margin, strategy, nearest, _bits(seed, a, p), counts)
                negative[place] = others[j] if j >= 0 else _NO_NEGATIVE
            place += 1


@njit()
def _gather_negatives(row, labels, comparable, others, gaps):  # type: ignore[no-untyped-def]
    """Write the cells that an anchor excludes, and their distances, to the front of ``others`` and ``gaps``."""
    n_others = 0
    for q in range(len(labels)):
        if labels[q] >= 0 and not comparable[labels[q]]:
            others[n_others] = q
            gaps[n_others] = row[q]
            n_others += 1
    return n_others


@njit()
def _choose(gaps, low, margin, strategy, nearest, bits, counts):  # type: ignore[no-untyped-def]
    """Position of the negative among the anchor's, -1 for none."""
    n_others = len(gaps)
    if n_others == 0:
        return -1
    high = low + margin
    if strategy == _HARDEST:
        return nearest if gaps[nearest] < high else -1
    if strategy == _RANDOM:
        j = bits % n_others
        return j if gaps[j] < high else -1
    # Counted by stretches, so that only the stretch with the wanted negative is walked through.
    total = 0
    for i in range((n_others + _STRETCH - 1) // _STRETCH):
        counts[i] = _count_between(gaps[i * _STRETCH : (i + 1) * _STRETCH], low, high)
        total += counts[i]
    if total == 0:
        return -1
    wanted = bits % total
    i = 0
    while wanted >= counts[i]:
        wanted -= counts[i]
        i += 1
    j = i * _STRETCH
    while wanted > 0 or not (gaps[j] > low and gaps[j] < high):
        wanted -= gaps[j] > low and gaps[j] < high
        j += 1
    return j


@njit()
def _count_between(gaps, low, high):  # type: ignore[no-untyped-def]
    # Without a branch and in 32 bits, so that the compiler compares eight at a time.
    count = np.int32(0)
    for j in range(len(gaps)):
        count += np.int32((gaps[j] > low) & (gaps[j] < high))
    return count
