from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from scim import Reference
from scim.index import _capped, _search


def all_pairs(queries: np.ndarray, reference: Reference) -> np.ndarray:
    """Cosine distances in float64, from the vectors as they are stored."""
    stored = np.asarray(np.concatenate(reference._now.vectors.segments), dtype=np.float64)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    queries = queries.astype(np.float64)
    return 1 - queries / np.linalg.norm(queries, axis=1, keepdims=True) @ stored.T


def test_finds_the_nearest(reference: Reference, vectors: np.ndarray) -> None:
    distances = all_pairs(vectors, reference)
    hits = reference.search(vectors, k=20)
    assert hits.indices.dtype == np.int64
    assert hits.distances.dtype == np.float32
    assert len(hits) == 700
    np.testing.assert_allclose(hits.distances, np.sort(distances, axis=1)[:, :20], atol=2e-6)
    np.testing.assert_allclose(np.take_along_axis(distances, hits.indices, 1), hits.distances, atol=2e-6)
    assert (np.diff(hits.distances, axis=1) >= 0).all()
    assert (np.sort(hits.indices, axis=1)[:, 1:] != np.sort(hits.indices, axis=1)[:, :-1]).all()


def test_length_of_a_query_does_not_matter(reference: Reference, vectors: np.ndarray) -> None:
    one, two = reference.search(vectors[:9], k=5), reference.search(vectors[:9] * 40, k=5)
    np.testing.assert_array_equal(one.indices, two.indices)
    assert reference.search(vectors[0], k=5).indices.shape == (1, 5)
    assert reference.search(vectors[:0], k=5).indices.shape == (0, 5)


def test_more_than_there_are(reference: Reference, vectors: np.ndarray) -> None:
    with pytest.warns(UserWarning, match="k=710 is more than the 700 cells") as caught:
        hits = reference.search(vectors[:3], k=710)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert (np.sort(hits.indices[:, :700], axis=1) == np.arange(700)).all()
    assert (hits.indices[:, 700:] == -1).all()
    assert np.isinf(hits.distances[:, 700:]).all()


def test_filters(reference: Reference, vectors: np.ndarray) -> None:
    obs = reference.obs
    mask = (obs["study"].isin(["first", "third"]) & (obs["tissue"] == "blood") & (obs["channel"] != "1")).to_numpy()
    assert mask.sum() == 0
    mask = (obs["study"].isin(["first", "second"]) & (obs["tissue"] == "blood") & (obs["label"] != "B cell")).to_numpy()
    hits = reference.search(
        vectors[:50],
        k=15,
        where={"study": ["first", "second"], "tissue": "blood"},
        exclude={"label": "B cell"},
    )
    distances = np.where(mask, all_pairs(vectors[:50], reference), np.inf)
    assert mask[hits.indices].all()
    np.testing.assert_allclose(hits.distances, np.sort(distances, axis=1)[:, :15], atol=2e-6)
    np.testing.assert_array_equal(
        reference.allowed(where={"study": ["first", "second"], "tissue": "blood"}, exclude={"label": "B cell"}), mask
    )
    within = reference.search(vectors[:50], k=15, within=mask)
    np.testing.assert_array_equal(within.indices, hits.indices)


def test_filter_that_leaves_few_or_nothing(reference: Reference, vectors: np.ndarray) -> None:
    first = reference.obs["cell_id"].iloc[7]
    with pytest.warns(UserWarning, match="k=5 is more than the 1 cells"):
        hits = reference.search(vectors[:2], k=5, where={"cell_id": first})
    assert hits.indices.tolist() == [[7]] * 2
    with pytest.raises(ValueError, match="leave none of the reference's 700 cells"):
        reference.search(vectors, k=5, where={"study": "third", "tissue": "blood"})
    with pytest.raises(ValueError, match="both the filter and"):
        reference.search(vectors, k=5, within=np.zeros(700, dtype=bool))
    with pytest.raises(ValueError, match=r"within must be bool \(700,\)"):
        reference.search(vectors, k=5, within=np.ones(3, dtype=bool))


def test_largest_distance(reference: Reference, vectors: np.ndarray) -> None:
    limit = float(np.median(all_pairs(vectors[:40], reference)))
    hits, free = reference.search(vectors[:40], k=600, max_distance=limit), reference.search(vectors[:40], k=600)
    near = free.distances <= limit
    assert 0 < near.sum() < near.size
    np.testing.assert_array_equal(hits.indices, np.where(near, free.indices, -1))
    np.testing.assert_array_equal(hits.distances, np.where(near, free.distances, np.inf))


def greedy(order: np.ndarray, caps: list[tuple[np.ndarray, int]], k: int) -> list[int]:
    """Hits one by one, each unless a group of it is full; padded with -1."""
    taken: list[int] = []
    for i in order:
        if len(taken) < k and all(sum(groups[j] == groups[i] for j in taken) < cap for groups, cap in caps):
            taken.append(int(i))
    return taken + [-1] * (k - len(taken))


@pytest.mark.parametrize(("cap", "k"), [(1, 4), (3, 20), (30, 60), (3, 400)])
@pytest.mark.parametrize("at_a_time", [50, 4_000_000])
@pytest.mark.parametrize("deep", [0, 64, 10**6])
def test_cap_per_group(
    reference: Reference,
    vectors: np.ndarray,
    cap: int,
    k: int,
    at_a_time: int,
    deep: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether searched ever deeper or all at once, in blocks or not."""
    monkeypatch.setattr(_capped, "HITS_AT_A_TIME", at_a_time)
    monkeypatch.setattr(_capped, "KEYS_AT_A_TIME", 30 * at_a_time)
    monkeypatch.setattr(_capped, "SORT_ALL_DIVISOR", deep)
    groups = reference.obs["channel"].to_numpy()
    hits = reference.search(vectors[:6], k=k, max_per_group={"channel": cap})
    for row, order in zip(hits.indices, reference.search(vectors[:6], k=700).indices, strict=True):
        assert row.tolist() == greedy(order, [(groups, cap)], k)


def test_caps_of_two_columns_with_a_filter(reference: Reference, vectors: np.ndarray) -> None:
    where = {"study": ["first", "second"]}
    n = int(reference.allowed(where=where).sum())
    hits = reference.search(vectors[:20], k=28, max_per_group={"channel": 5, "label": 8}, where=where)
    caps = [(reference.obs[column].to_numpy(), cap) for column, cap in (("channel", 5), ("label", 8))]
    for row, order in zip(hits.indices, reference.search(vectors[:20], k=n, where=where).indices, strict=True):
        assert row.tolist() == greedy(order, caps, 28)


@pytest.mark.parametrize("deep", [0, 10**6])
def test_caps_bring_no_removed_cell_back(
    reference: Reference, vectors: np.ndarray, tmp_path: Path, deep: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_capped, "SORT_ALL_DIVISOR", deep)
    own = Reference.open(shutil.copytree(reference.path, tmp_path / "own.scim"))
    own.remove(rows=np.arange(0, own.n_rows, 2))
    hits = own.search(vectors[:8], k=30, max_per_group={"channel": 10})
    assert (own.search(vectors[:8], k=30, max_per_group={"channel": 2**70}).indices >= 0).all()
    assert (hits.indices % 2 == 1).all()
    everything = own.search(vectors[:8], k=own.n_cells).indices
    groups = dict(zip(own.obs["channel"].index, own.obs["channel"], strict=True))
    channels = np.array([groups.get(row) for row in range(own.n_rows)], dtype=object)
    for row, order in zip(hits.indices, everything, strict=True):
        assert row.tolist() == greedy(order, [(channels, 10)], 30)


def test_query_without_direction_has_no_hits(reference: Reference, vectors: np.ndarray) -> None:
    queries = vectors[:3].copy()
    queries[1] = 0
    for options in ({}, {"max_per_group": {"study": 2}}, {"where": {"study": "first"}}):
        hits = reference.search(queries, k=4, **options)
        assert (hits.indices[1] == -1).all()
        assert np.isinf(hits.distances[1]).all()
        assert (hits.indices[[0, 2]] >= 0).all()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"k": 0}, ValueError, "k must be at least 1"),
        ({"k": 2.5}, TypeError, "k must be an integer"),
        ({"max_distance": 3}, ValueError, "max_distance must lie from 0 to 2"),
        ({"max_per_group": {"chanel": 2}}, KeyError, "max_per_group='chanel'.*Did you mean 'channel'"),
        ({"max_per_group": {"channel": 0}}, ValueError, r"max_per_group\['channel'\] must be at least 1"),
        ({"max_per_group": 5}, TypeError, "max_per_group must be a mapping"),
        ({"where": {"studdy": "first"}}, KeyError, "where names the column 'studdy'. Did you mean 'study'"),
        ({"exclude": {"study": "frist"}}, ValueError, "exclude: no cell has study='frist'. Did you mean 'first'"),
        ({"where": "study == 'first'"}, TypeError, "where must be a mapping"),
    ],
)
def test_wrong_options(
    reference: Reference, vectors: np.ndarray, options: dict, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        reference.search(vectors, **options)


def test_wrong_vectors(reference: Reference, vectors: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(n_queries, 16\).*\(700, 5\)"):
        reference.search(vectors[:, :5])
    with pytest.raises(TypeError, match=r"vectors must be numbers \(n_queries, 16\), got 'text'"):
        reference.search("text")  # type: ignore[arg-type]
    vectors[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        reference.search(vectors)


def test_everything_within_a_distance(
    reference: Reference, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    distances = all_pairs(vectors[:20], reference)
    limit = float(np.quantile(distances, 0.2))
    hits = reference.search(vectors[:20], k=None, max_distance=limit)
    deep = reference.search(vectors[:20], k=700, max_distance=limit)
    assert hits.indices.shape == (20, (distances <= limit).sum(axis=1).max())
    np.testing.assert_array_equal(hits.indices, deep.indices[:, : hits.indices.shape[1]])
    np.testing.assert_allclose(hits.distances, deep.distances[:, : hits.indices.shape[1]], atol=1e-6)
    # With a filter, a cap, and a query without direction.
    options = {"max_distance": limit, "where": {"tissue": "blood"}, "max_per_group": {"study": 3}}
    queries = np.vstack([vectors[:5], np.zeros_like(vectors[:1])])
    hits, deep = (reference.search(queries, k=k, **options) for k in (None, 170))
    np.testing.assert_array_equal(hits.indices, deep.indices[:, : hits.indices.shape[1]])
    assert (hits.indices[-1] == -1).all()
    assert reference.search(vectors[:3], k=None, max_distance=0.0).indices.shape[0] == 3
    with pytest.raises(ValueError, match="max_distance=, which is missing"):
        reference.search(vectors, k=None)
    monkeypatch.setattr(_search, "MAX_HITS", 100)
    with pytest.raises(ValueError, match="More than 100 cells"):
        reference.search(vectors, k=None, max_distance=1.0)


def test_a_number_beyond_all_memory(reference: Reference, vectors: np.ndarray) -> None:
    with pytest.warns(UserWarning, match="k=1000000000 is more than"):
        assert reference.search(vectors[:2], k=10**9).indices.shape == (2, 700)
