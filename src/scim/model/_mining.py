"""Mine triplets from a batch: anchor and positive of one term, the negative of a term that excludes it.

Source: semi-hard mining after Schroff et al., CVPR 2015 (FaceNet), on the ontology as in SCimilarity (Heimberg et al.,
Nature 2024). Mining and loss use one distance, the Euclidean one between unit vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .._compiled import njit
from .._threads import in_threads
from .._validate import check_option, check_positive_int

Strategy = Literal["semihard", "hardest", "random"]
Positives = Literal["cross_study", "prefer_cross_study", "any"]

STRATEGIES: tuple[Strategy, ...] = ("semihard", "hardest", "random")
POSITIVES: tuple[Positives, ...] = ("cross_study", "prefer_cross_study", "any")
#: Pairs of a batch beyond this number are thinned: gradients of 50,000 triplets are no worse than of all.
MAX_PAIRS = 50_000


@dataclass(frozen=True, eq=False)
class Triplets:
    """Triplets as positions within the batch.

    Attributes
    ----------
    anchor, positive, negative
        int32 (n_triplets,), ordered by anchor, then positive.
    n_candidates
        Pairs of anchor and positive that were looked at.
    n_without_negative
        Pairs for which no cell was a fitting negative.
    """

    anchor: Any
    positive: Any
    negative: Any
    n_candidates: int
    n_without_negative: int


def mine_triplets(
    z: np.ndarray,
    labels: np.ndarray,
    studies: np.ndarray,
    comparable: np.ndarray,
    *,
    margin: float = 0.05,
    strategy: Strategy = "semihard",
    positives: Positives = "prefer_cross_study",
    seed: int = 0,
    max_pairs: int = MAX_PAIRS,
) -> Triplets:
    """Find at most one negative for each pair of anchor and positive.

    Parameters
    ----------
    z
        Unit vectors, float32 (n_cells, n_latent).
    labels
        Label codes (n_cells,); a cell with -1 takes no part.
    studies
        Study codes (n_cells,).
    comparable
        Labels that are the same term or ancestor and descendant, bool (n_labels, n_labels); such cells are never
        negatives of one another.
    margin
        By how much farther than the positive the negative has to be.
    strategy
        ``"semihard"``: one at random of those farther than the positive, but by less than the margin. ``"hardest"``:
        the nearest, if it is nearer than the positive's distance plus the margin. ``"random"``: one at random, if it
        is nearer than that.
    positives
        ``"prefer_cross_study"``: pairs from two studies, or from one where the batch has a label from one only;
        ``"cross_study"``: from two studies; ``"any"``: both.
    seed
        Seed of the random draws. They depend on the seed and the two cells' positions alone, not on threads.
    max_pairs
        With more pairs than this, a random share of about this size is used.

    Raises
    ------
    ValueError
        Shapes do not fit, ``z`` holds NaN, or an option is not known.
    TypeError
        Labels or studies are not integers.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8]], dtype="float32")
    >>> found = mine_triplets(z, np.array([0, 0, 1]), np.array([0, 1, 0]), np.eye(2, dtype=bool), margin=0.5)
    >>> found.anchor.tolist(), found.positive.tolist(), found.negative.tolist()
    ([0], [1], [2])
    """
    z = np.ascontiguousarray(z, dtype=np.float32)
    labels, studies, comparable = check_batch(z.shape, labels, studies, comparable)
    check_settings(margin, strategy, positives, max_pairs)
    if not np.isfinite(z).all():
        raise ValueError("z holds NaN or infinite values: the training has diverged. Lower lr.")
    return mine_from_distances(
        distances(z),
        labels,
        studies,
        comparable,
        margin=margin,
        strategy=strategy,
        positives=positives,
        seed=seed,
        max_pairs=max_pairs,
    )


def mine_from_distances(
    d: np.ndarray,
    labels: np.ndarray,
    studies: np.ndarray,
    comparable: np.ndarray,
    *,
    margin: float,
    strategy: Strategy,
    positives: Positives,
    seed: int,
    max_pairs: int = MAX_PAIRS,
) -> Triplets:
    """Mine on given distances, float32 (n_cells, n_cells); see :func:`mine_triplets`."""
    same_study_allowed = _same_study_allowed(labels, studies, len(comparable), positives)
    members, starts = _members(labels, len(comparable))
    counts = _count_pairs(labels, studies, members, starts, same_study_allowed)
    n_pairs = int(counts.sum())
    keep = keep_threshold(n_pairs, max_pairs)
    offsets = np.zeros(len(labels) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    positive = np.empty(n_pairs, dtype=np.int32)
    negative = np.full(n_pairs, _NOT_LOOKED_AT, dtype=np.int32)
    cells = d, labels, studies, comparable, members, starts, same_study_allowed, offsets
    options = np.float32(margin), STRATEGIES.index(strategy), np.uint64(seed % 2**63), np.int64(keep)
    in_threads(len(labels), lambda first, last: _mine(first, last, *cells, *options, positive, negative))
    anchor = np.repeat(np.arange(len(labels), dtype=np.int32), counts)
    found = negative >= 0
    n_looked_at = int((negative > _NOT_LOOKED_AT).sum())
    return Triplets(anchor[found], positive[found], negative[found], n_looked_at, n_looked_at - int(found.sum()))


def distances(z: np.ndarray) -> np.ndarray:
    """Euclidean distances between unit vectors (n, d) -> float32 (n, n), zero on the diagonal."""
    d = np.empty((len(z), len(z)), dtype=np.float32)
    columns = np.ascontiguousarray(z.T)
    in_threads(len(z), lambda first, last: _fill_distances(first, last, z, columns, d))
    return d


def check_batch(
    shape: tuple[int, ...], labels: Any, studies: Any, comparable: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, studies (int32) and comparable (bool) as the kernels take them; raises if they do not fit."""
    for name, codes in (("labels", np.asarray(labels)), ("studies", np.asarray(studies))):
        if codes.size and codes.dtype.kind not in "iu":
            raise TypeError(f"{name} must hold integer codes, got {codes.dtype}. Use pandas.factorize or .cat.codes.")
    labels = np.ascontiguousarray(labels, dtype=np.int32)
    studies = np.ascontiguousarray(studies, dtype=np.int32)
    comparable = np.ascontiguousarray(comparable, dtype=bool)
    if len(shape) != 2 or labels.shape != shape[:1] or studies.shape != shape[:1]:
        raise ValueError(
            f"z must be (n_cells, n_latent) with a label and a study for each cell, got z {shape}, labels "
            f"{labels.shape}, studies {studies.shape}."
        )
    if comparable.ndim != 2 or comparable.shape[0] != comparable.shape[1]:
        raise ValueError(f"comparable must be (n_labels, n_labels), got {comparable.shape}.")
    if len(labels) and labels.max() >= len(comparable):
        raise ValueError(f"labels go up to {labels.max()}, but comparable has {len(comparable)} labels.")
    return labels, studies, comparable


def check_settings(margin: float, strategy: str, positives: str, max_pairs: int) -> None:
    """Raise for an option that is not known or out of range."""
    check_option(strategy, STRATEGIES, argument="strategy")
    check_option(positives, POSITIVES, argument="positives")
    check_positive_int(max_pairs, argument="max_pairs")
    if not 0 <= margin < np.inf:
        raise ValueError(f"margin must be at least 0 and finite, got {margin!r}.")


def keep_threshold(n_pairs: int, max_pairs: int) -> int:
    """Return what the 31 random bits of a pair have to be below for it to be used."""
    return 2**31 if n_pairs <= max_pairs else int(2**31 * (max_pairs / n_pairs))


def _same_study_allowed(labels: np.ndarray, studies: np.ndarray, n_labels: int, positives: Positives) -> np.ndarray:
    """Labels whose pairs may come from one study, bool (n_labels,)."""
    if positives != "prefer_cross_study":
        return np.full(n_labels, positives == "any")
    known = labels >= 0
    pairs = np.unique(np.stack([labels[known], studies[known]]), axis=1)
    return np.bincount(pairs[0], minlength=n_labels) < 2


def _members(labels: np.ndarray, n_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells of each label in order, one after the other, and where each label begins."""
    order = np.argsort(labels, kind="stable").astype(np.int32)
    return order, np.searchsorted(labels[order], np.arange(n_labels + 1)).astype(np.int64)


#: Marks pairs that were thinned out; -1 marks those without a negative.
_NOT_LOOKED_AT = -2
#: Negatives that are skipped at a time.
_STRETCH = 128


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
    # A product of this size is a few million multiplications: BLAS would wake threads that then spin beside those of
    # the miner and of torch. Adding column by column keeps the order of the sums, whatever the threads.
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
def _mine(  # type: ignore[no-untyped-def]
    first,
    last,
    d,
    labels,
    studies,
    comparable,
    members,
    starts,
    same_study_allowed,
    offsets,
    margin,
    strategy,
    seed,
    keep,
    positive,
    negative,
):
    n = len(labels)
    for a in range(first, last):
        if offsets[a] == offsets[a + 1]:
            continue
        label = labels[a]
        # The negatives of an anchor are the same for all its positives: gathered once, so that the search below
        # runs over one dense row.
        others = np.empty(n, dtype=np.int32)
        gaps = np.empty(n, dtype=np.float32)
        n_others = 0
        for q in range(n):
            other = labels[q]
            if other >= 0 and not comparable[label, other]:
                others[n_others] = q
                gaps[n_others] = d[a, q]
                n_others += 1
        nearest = -1
        if strategy == 1:
            for j in range(n_others):
                if nearest < 0 or gaps[j] < gaps[nearest]:
                    nearest = j
        counts = np.empty((n_others + _STRETCH - 1) // _STRETCH, dtype=np.int64)
        allowed = same_study_allowed[label]
        place = offsets[a]
        for k in range(starts[label], starts[label + 1]):
            p = members[k]
            if p == a or not (allowed or studies[p] != studies[a]):
                continue
            positive[place] = p
            if keep == 2147483648 or _bits(seed + np.uint64(1), a, p) < keep:
                j = _choose(gaps[:n_others], d[a, p], margin, strategy, nearest, _bits(seed, a, p), counts)
                negative[place] = others[j] if j >= 0 else -1
            place += 1


@njit()
def _choose(gaps, low, margin, strategy, nearest, bits, counts):  # type: ignore[no-untyped-def]
    """Place of the negative among the anchor's, -1 for none."""
    n_others = len(gaps)
    if n_others == 0:
        return -1
    high = low + margin
    if strategy == 1:
        return nearest if gaps[nearest] < high else -1
    if strategy == 2:
        j = bits % n_others
        return j if gaps[j] < high else -1
    # Counted by stretches, so that only the one with the wanted negative is walked through.
    total = 0
    for i in range(len(counts)):
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
