from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scim.model._mining import (
    POSITIVES,
    STRATEGIES,
    MiningOptions,
    Triplets,
    distances,
    mine_from_distances,
    mine_triplets,
)
from scim.model._mining_torch import mine_from_distances_torch, mine_triplets_torch

_WRAP = 2**64


@dataclass
class Batch:
    """A batch with its distances: the three miners get the very same numbers."""

    distance: np.ndarray
    labels: np.ndarray
    studies: np.ndarray
    comparable: np.ndarray


def draw(seed: int, a: int, b: int) -> int:
    """31 random bits of a pair, in Python's unbounded integers."""
    h = (seed * 0x9E3779B97F4A7C15 + a * 0xBF58476D1CE4E5B9 + b * 0x94D049BB133111EB) % _WRAP
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 % _WRAP
    h = (h ^ (h >> 27)) * 0x94D049BB133111EB % _WRAP
    return (h ^ (h >> 31)) >> 33


def plain(
    batch: Batch, *, margin: float, strategy: str, positives: str, seed: int, max_pairs: int = 50_000
) -> tuple[list[tuple[int, int, int]], int, int]:
    """The contract, spelled out cell by cell."""
    d, labels, studies = batch.distance, batch.labels.tolist(), batch.studies.tolist()
    cells = range(len(labels))
    pairs = []
    for a in cells:
        same = [p for p in cells if p != a and labels[a] >= 0 and labels[p] == labels[a]]
        studies_of_label = {studies[p] for p in cells if labels[p] == labels[a]}
        within = positives == "any" or (positives == "prefer_cross_study" and len(studies_of_label) == 1)
        pairs += [(a, p) for p in same if within or studies[p] != studies[a]]
    if len(pairs) > max_pairs:
        pairs = [(a, p) for a, p in pairs if draw(seed + 1, a, p) < int(2**31 * (max_pairs / len(pairs)))]
    found = []
    for a, p in pairs:
        low, high = d[a, p], np.float32(d[a, p] + np.float32(margin))
        fits = [n for n in cells if labels[n] >= 0 and not batch.comparable[labels[a], labels[n]]]
        if strategy == "semihard":
            fits = [n for n in fits if low < d[a, n] < high]
        if not fits:
            continue
        n = min(fits, key=lambda n: d[a, n]) if strategy == "hardest" else fits[draw(seed, a, p) % len(fits)]
        if d[a, n] < high:
            found.append((a, p, n))
    return found, len(pairs), len(pairs) - len(found)


def listed(found: Triplets) -> tuple[list[tuple[int, int, int]], int, int]:
    columns = (found.anchor.tolist(), found.positive.tolist(), found.negative.tolist())
    return list(zip(*columns, strict=True)), found.n_candidates, found.n_without_negative


def by_numba(batch: Batch, **options: Any) -> tuple[list[tuple[int, int, int]], int, int]:
    cells = (batch.distance, batch.labels, batch.studies, batch.comparable)
    return listed(mine_from_distances(*cells, MiningOptions(**options)))


def by_torch(batch: Batch, **options: Any) -> tuple[list[tuple[int, int, int]], int, int]:
    cells = (batch.distance, batch.labels, batch.studies, batch.comparable)
    return listed(mine_from_distances_torch(*map(torch.from_numpy, cells), MiningOptions(**options)))


def unit(rng: np.random.Generator, n: int, d: int = 4) -> np.ndarray:
    z = rng.standard_normal((n, d))
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)


def lineage(n_labels: int) -> np.ndarray:
    """Labels as a binary tree: comparable to themselves, their ancestors and their descendants."""
    comparable = np.eye(n_labels, dtype=bool)
    for label in range(n_labels):
        above = label
        while above > 0:
            above = (above - 1) // 2
            comparable[label, above] = comparable[above, label] = True
    return comparable


def make(kind: str, n: int = 40) -> Batch:
    rng = np.random.default_rng(7)
    labels, studies = rng.integers(-1, 7, n), rng.integers(0, 4, n)
    comparable, z = lineage(7), unit(rng, n)
    if kind == "one label":
        labels = np.zeros(n, dtype=int)
    elif kind == "all comparable":
        comparable = np.ones((7, 7), dtype=bool)
    elif kind == "flat":
        comparable = np.eye(7, dtype=bool)
    elif kind == "unlabelled":
        labels = np.full(n, -1)
    elif kind == "one study":
        studies = np.zeros(n, dtype=int)
    elif kind == "study in label":
        studies = labels + 1  # each label has a study of its own
    elif kind == "identical":
        z = np.tile(z[:1], (n, 1))
    elif kind == "singletons":
        labels, comparable = np.arange(n), np.eye(n, dtype=bool)
    elif kind == "skewed":
        labels = np.where(np.arange(n) < n - 3, 3, 4)
    elif kind == "large codes":
        studies = studies * 1_000_003
    elif kind == "long":  # several stretches of negatives, the last one not full
        n = 301
        labels, studies, z = np.where(np.arange(n) < 9, 3, 4), rng.integers(0, 3, n), unit(rng, n)
    distance = distances(z)
    if kind == "ties":
        distance = np.round(distance * 4) / 4
    return Batch(distance.astype(np.float32), labels.astype(np.int32), studies.astype(np.int32), comparable)


KINDS = (
    "random",
    "flat",
    "one label",
    "all comparable",
    "unlabelled",
    "one study",
    "study in label",
    "identical",
    "singletons",
    "skewed",
    "large codes",
    "ties",
)


@pytest.mark.parametrize("positives", POSITIVES)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", KINDS)
def test_three_miners_agree(kind: str, strategy: str, positives: str) -> None:
    batch = make(kind)
    for margin, seed in ((0.0, 0), (0.05, 3), (0.5, 2**40 + 1), (4.0, 11)):
        options = {"margin": margin, "strategy": strategy, "positives": positives, "seed": seed}
        expected = plain(batch, **options)
        assert by_numba(batch, **options) == expected
        assert by_torch(batch, **options) == expected


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_long_rows_agree(strategy: str) -> None:
    batch = make("long")
    for margin in (0.02, 0.3):
        options = {"margin": margin, "strategy": strategy, "positives": "any", "seed": 5, "max_pairs": 200}
        expected = plain(batch, **options)
        assert expected[0]
        assert by_numba(batch, **options) == by_torch(batch, **options) == expected


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_tiny_batches_have_no_triplets(n: int, strategy: str) -> None:
    z, zeros = np.eye(2, dtype=np.float32)[:n], np.zeros(n, dtype=np.int32)
    cells = (z, zeros, np.arange(n, dtype=np.int32), np.eye(1, dtype=bool))
    options = MiningOptions(strategy=strategy)
    for found in (mine_triplets(*cells, options), mine_triplets_torch(*map(torch.from_numpy, cells), options)):
        n_pairs = 2 if n == 2 else 0
        assert listed(found) == ([], n_pairs, n_pairs)


def test_the_expected_inputs_are_mined_at_all() -> None:
    # Guards the comparisons above against three miners that agree on nothing.
    found, n_pairs, _ = plain(make("random"), margin=0.5, strategy="semihard", positives="any", seed=0)
    assert n_pairs > 100
    assert len(found) > 50


def test_semihard_lie_between_and_hardest_is_nearest() -> None:
    batch = make("random")
    options = {"margin": 0.3, "positives": "prefer_cross_study", "seed": 1}
    for a, p, n in by_numba(batch, strategy="semihard", **options)[0]:
        assert batch.distance[a, p] < batch.distance[a, n] < batch.distance[a, p] + np.float32(0.3)
        assert not batch.comparable[batch.labels[a], batch.labels[n]]
        assert batch.studies[a] != batch.studies[p]
    for a, _, n in by_numba(batch, strategy="hardest", **options)[0]:
        apart = [
            j for j, label in enumerate(batch.labels) if label >= 0 and not batch.comparable[batch.labels[a], label]
        ]
        assert n == min(apart, key=lambda j: batch.distance[a, j])


def test_margin_zero_has_no_semihard_negative() -> None:
    options = {"margin": 0.0, "positives": "any", "seed": 0}
    assert not by_numba(make("random"), strategy="semihard", **options)[0]
    assert by_numba(make("random"), strategy="hardest", **options)[0]


def test_label_of_one_study_falls_back_only_when_preferred() -> None:
    labels, studies = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 2, 2, 0])
    batch = Batch(np.ones((6, 6), dtype=np.float32), labels, studies, np.eye(3, dtype=bool))
    pairs = {
        kind: {(a, p) for a, p, _ in by_numba(batch, margin=1.0, strategy="hardest", positives=kind, seed=0)[0]}
        for kind in POSITIVES
    }
    across = {(0, 2), (1, 2), (2, 0), (2, 1)}
    assert pairs["cross_study"] == across
    assert pairs["prefer_cross_study"] == across | {(3, 4), (4, 3)}
    assert pairs["any"] == across | {(3, 4), (4, 3), (0, 1), (1, 0)}


def test_ties_go_to_the_first() -> None:
    distance = np.ones((5, 5), dtype=np.float32)
    batch = Batch(distance, np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 0, 0]), np.eye(3, dtype=bool))
    found = by_numba(batch, margin=0.1, strategy="hardest", positives="cross_study", seed=0)[0]
    assert found == [(0, 1, 2), (1, 0, 2)]


@pytest.mark.parametrize("strategy", ["semihard", "random"])
def test_draws_are_even(strategy: str) -> None:
    # One pair, eight equal negatives, of which each seed takes one.
    labels = np.array([0, 0, *[1] * 8])
    distance = np.full((10, 10), 1.05, dtype=np.float32)
    distance[0, 1] = distance[1, 0] = 1.0
    batch = Batch(distance, labels, np.arange(10), np.eye(2, dtype=bool))
    options = {"margin": 0.1, "strategy": strategy, "positives": "cross_study"}
    seen = np.zeros(10, dtype=int)
    for seed in range(800):
        found = [t for t in by_numba(batch, seed=seed, **options)[0] if t[0] == 0]
        seen[found[0][2]] += 1
    assert seen[:2].sum() == 0
    assert 60 < seen[2:].min() <= seen[2:].max() < 145  # 100 each, 4.3 standard deviations


def test_many_pairs_are_thinned_to_about_the_bound() -> None:
    batch = make("one label", n=60)
    options = {"margin": 0.5, "strategy": "random", "positives": "any", "seed": 4}
    all_pairs = by_numba(batch, **options)[1]
    assert all_pairs == 60 * 59
    kept = by_numba(batch, max_pairs=1000, **options)[1]
    assert 850 < kept < 1150
    assert by_torch(batch, max_pairs=1000, **options) == plain(batch, max_pairs=1000, **options)
    assert by_numba(batch, max_pairs=1000, **options) == plain(batch, max_pairs=1000, **options)


def test_seed_decides_and_threads_do_not() -> None:
    batch = make("random")
    options = {"margin": 0.5, "strategy": "semihard", "positives": "any"}
    first = by_numba(batch, seed=1, **options)
    assert by_numba(batch, seed=2, **options)[0] != first[0]
    threads = torch.get_num_threads()
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            assert by_numba(batch, seed=1, **options) == first
    finally:
        torch.set_num_threads(threads)


def test_distances_are_euclidean() -> None:
    z = unit(np.random.default_rng(0), 30, 16)
    exact = np.linalg.norm(z[:, None].astype(float) - z[None], axis=2)
    np.testing.assert_allclose(distances(z), exact, atol=1e-3)
    # Entries of +-1/2 in four dimensions: all inner products are exact, so both miners see the same distances.
    corners = (np.sign(np.random.default_rng(1).standard_normal((40, 4))) / 2).astype(np.float32)
    batch = make("random")
    cells = (corners, batch.labels, batch.studies, batch.comparable)
    for strategy in STRATEGIES:
        options = MiningOptions(margin=0.5, strategy=strategy, seed=9)
        found = listed(mine_triplets(*cells, options))
        assert listed(mine_triplets_torch(*map(torch.from_numpy, cells), options)) == found
        exact_batch = Batch(distances(corners), *cells[1:])
        assert plain(exact_batch, margin=0.5, strategy=strategy, positives="prefer_cross_study", seed=9) == found


def test_positions_can_index_and_have_the_promised_types() -> None:
    batch, z = make("flat"), unit(np.random.default_rng(7), 40)
    cells = (z, batch.labels, batch.studies, batch.comparable)
    found = mine_triplets(*cells, MiningOptions(margin=0.5))
    on_tensors = mine_triplets_torch(*map(torch.from_numpy, cells), MiningOptions(margin=0.5))
    assert {found.anchor.dtype, found.positive.dtype, found.negative.dtype} == {np.dtype(np.int32)}
    assert {on_tensors.anchor.dtype, on_tensors.positive.dtype, on_tensors.negative.dtype} == {torch.int64}
    assert len(found.anchor) > 0


BAD = {
    "nan": ({"z": np.full((4, 2), np.nan, dtype=np.float32)}, ValueError, "z holds NaN"),
    "infinite": ({"z": np.full((4, 2), np.inf, dtype=np.float32)}, ValueError, "z holds NaN or infinite"),
    "flat z": ({"z": np.ones(4, dtype=np.float32)}, ValueError, "z must be"),
    "short labels": ({"labels": np.zeros(3, dtype=np.int32)}, ValueError, "labels"),
    "short studies": ({"studies": np.zeros(5, dtype=np.int32)}, ValueError, "studies"),
    "unknown label": ({"labels": np.array([0, 1, 2, 0])}, ValueError, "labels go up to 2, but comparable has 2"),
    "oblong comparable": ({"comparable": np.ones((2, 3), dtype=bool)}, ValueError, "comparable must be"),
    "labels as numbers": (
        {"labels": np.array([0.0, 0, 1, 1])},
        TypeError,
        "labels must hold integer codes, got .*float",
    ),
    "studies as truths": (
        {"studies": np.ones(4, dtype=bool)},
        TypeError,
        "studies must hold integer codes, got .*bool",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("on", ["numpy", "torch"])
def test_bad_input_is_named(case: str, on: str) -> None:
    change, error, match = BAD[case]
    arguments: dict[str, Any] = {
        "z": np.eye(4, 2, dtype=np.float32),
        "labels": np.array([0, 0, 1, 1]),
        "studies": np.array([0, 1, 0, 1]),
        "comparable": np.eye(2, dtype=bool),
    } | change
    if on == "torch":
        arguments = {name: torch.from_numpy(array) for name, array in arguments.items()}
    with pytest.raises(error, match=match):
        (mine_triplets if on == "numpy" else mine_triplets_torch)(**arguments, options=MiningOptions())


def test_names_instead_of_codes_are_refused() -> None:
    z, codes, comparable = np.eye(2, dtype=np.float32), np.array([0, 1]), np.eye(2, dtype=bool)
    with pytest.raises(TypeError, match="studies must hold integer codes, got <U"):
        mine_triplets(z, codes, codes.astype(str), comparable, MiningOptions())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"margin": -0.1}, "margin must be at least 0"),
        ({"margin": float("nan")}, "margin must be at least 0"),
        ({"strategy": "semi-hard"}, "Did you mean 'semihard'"),
        ({"positives": "cross-study"}, "Did you mean 'cross_study'"),
        ({"max_pairs": 0}, "max_pairs must be at least 1"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        MiningOptions(**options)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Up to 14 cells; distances from a few values, so that many are equal."""
    n, n_labels = draw(st.integers(0, 14)), draw(st.integers(1, 4))
    upper = np.triu(draw(arrays(np.int32, (n, n), elements=st.integers(0, 8))), 1)
    related = np.triu(draw(arrays(bool, (n_labels, n_labels))), 1)
    return Batch(
        ((upper + upper.T) / 4).astype(np.float32),
        draw(arrays(np.int32, n, elements=st.integers(-1, n_labels - 1))),
        draw(arrays(np.int32, n, elements=st.integers(0, 3))),
        related | related.T | np.eye(n_labels, dtype=bool),
    )


@settings(max_examples=60, deadline=None)
@given(
    batch=batches(),
    margin=st.sampled_from([0.0, 0.2, 0.25, 1.0, 5.0]),
    strategy=st.sampled_from(STRATEGIES),
    positives=st.sampled_from(POSITIVES),
    seed=st.integers(0, 2**63 - 2),
    max_pairs=st.integers(1, 60),
)
def test_miners_agree_with_a_loop_on_any_batch(batch: Batch, **options: Any) -> None:
    expected = plain(batch, **options)
    assert by_numba(batch, **options) == expected
    assert by_torch(batch, **options) == expected
