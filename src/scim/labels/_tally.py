"""Loops over the neighbours of each cell: compiled, because each touches only a few of the many labels."""

from __future__ import annotations

import numpy as np

from .._compiled import njit


@njit(nogil=True)
def weigh(distances, labelled, narrowest, weights):  # type: ignore[no-untyped-def]
    """Write weights of votes, see :func:`~scim.labels._votes.vote_weights`, of which ``narrowest`` is the width."""
    near = np.empty(distances.shape[1], dtype=np.float64)
    for i in range(len(distances)):
        n = 0
        for j in range(distances.shape[1]):
            weights[i, j] = 0
            if labelled[i, j] and np.isfinite(distances[i, j]):
                near[n] = distances[i, j]
                n += 1
        if not n:
            continue
        # Neighbours come nearest first, and stay so: nothing is moved then.
        for a in range(1, n):
            value, b = near[a], a
            while b and near[b - 1] > value:
                near[b] = near[b - 1]
                b -= 1
            near[b] = value
        width = max((near[(n - 1) // 2] + near[n // 2]) / 2, narrowest)
        total = 0.0
        for j in range(distances.shape[1]):
            if labelled[i, j] and np.isfinite(distances[i, j]):
                # From the nearest on: only differences count, and nothing underflows.
                weights[i, j] = np.exp(-(distances[i, j] - near[0]) / width)
                total += weights[i, j]
        for j in range(distances.shape[1]):
            weights[i, j] /= total


@njit(nogil=True)
def add_up(weights, codes, above, starts, by_label, by_term):  # type: ignore[no-untyped-def]
    """Sum votes by label, and up to its terms, which are ``above[starts[label]:starts[label + 1]]``."""
    sums = np.zeros(by_label.shape[1], dtype=np.float64)
    for i in range(len(codes)):
        for j in range(codes.shape[1]):
            if codes[i, j] >= 0:
                sums[codes[i, j]] += weights[i, j]
        for j in range(codes.shape[1]):
            label = codes[i, j]
            if label >= 0 and sums[label] > 0:
                by_label[i, label] = sums[label]
                for term in above[starts[label] : starts[label + 1]]:
                    by_term[i, term] += sums[label]
                sums[label] = 0


@njit(nogil=True)
def first_enough(shares, order, enough, chosen):  # type: ignore[no-untyped-def]
    """Write the first of the columns ``order`` that holds ``enough`` of each row, -1 for none."""
    for i in range(len(shares)):
        chosen[i] = -1
        for column in order:
            if shares[i, column] >= enough:
                chosen[i] = column
                break


@njit(nogil=True)
def smallest_sets(shares, enough, sets):  # type: ignore[no-untyped-def]
    """Mark the fewest columns that hold ``enough`` of each row, of equal ones the first."""
    for i in range(len(shares)):
        held = 0.0
        while True:
            best = -1
            for j in range(shares.shape[1]):
                if not sets[i, j] and shares[i, j] > 0 and (best < 0 or shares[i, j] > shares[i, best]):
                    best = j
            # The first is there in any case, and what comes when there is enough is not.
            if best < 0 or (held > 0 and held >= enough):
                break
            sets[i, best] = True
            held += shares[i, best]


@njit(nogil=True)
def count_hits(indices, pairs, pair_values, n_cells, n_samples):  # type: ignore[no-untyped-def]
    """Count the hits of each query, -1 for none, by value, and the samples that they come from.

    ``pairs`` says which pair of a sample and a value each cell belongs to, -1 for none, and ``pair_values`` the value.
    """
    seen = np.full(len(pair_values), -1, dtype=np.int32)
    for q in range(len(indices)):
        for row in indices[q]:
            pair = pairs[row] if row >= 0 else -1
            if pair >= 0:
                value = pair_values[pair]
                n_cells[q, value] += 1
                if seen[pair] != q:
                    seen[pair] = q
                    n_samples[q, value] += 1
