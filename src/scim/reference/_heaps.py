"""The k best of what is offered, kept in heaps: of those held, the worst is on top."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def before(a, p, b, q):  # type: ignore[no-untyped-def]
    """Whether a cell is worse than another: less similar, or as similar and farther back."""
    return a < b or (a == b and p > q)


@njit(cache=True, nogil=True)
def sift(similarity, positions, value, row, n):  # type: ignore[no-untyped-def]
    """Put a cell in the place of the worst of a heap of ``n``, and let it sink to where it belongs."""
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        if child + 1 < n and before(similarity[child + 1], positions[child + 1], similarity[child], positions[child]):
            child += 1
        if not before(similarity[child], positions[child], value, row):
            break
        similarity[i], positions[i] = similarity[child], positions[child]
        i = child
    similarity[i], positions[i] = value, row


@njit(cache=True, nogil=True)
def sort_heaps(similarity, positions, queries):  # type: ignore[no-untyped-def]
    """Turn heaps into rows with the best first."""
    for q in queries:
        for n in range(similarity.shape[1] - 1, 0, -1):
            value, row = similarity[q, n], positions[q, n]
            similarity[q, n], positions[q, n] = similarity[q, 0], positions[q, 0]
            sift(similarity[q], positions[q], value, row, n)
