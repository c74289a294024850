"""Search through the lists of a faiss index, beside exact search."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from _made import index_sizes
from anndata import AnnData

from scim import Encoder, Reference
from scim.index import _ivf_flat
from scim.index._exact import ExactIndex
from scim.index._ivf_flat import IvfFlatIndex
from scim.index._open import build_index, open_index
from scim.index._plan import IndexPlan
from scim.index._vectors import SCALE, FixedVectors, to_float

#: An index for hundreds of cells.
PLAN = IndexPlan(index_from_cells=500)


@pytest.fixture(scope="module")
def cells() -> FixedVectors:
    """Sixty clouds of cells in two segments, three cells without direction."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(60, 16)), 100, axis=0) + rng.normal(size=(6_000, 16)) * 0.3
    vectors = vectors[rng.permutation(6_000)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[[0, 1000, 5999]] = 0
    fixed = np.round(vectors * SCALE).astype(np.int16)
    return FixedVectors([fixed[:2_000], fixed[2_000:]])


@pytest.fixture
def backend(cells: FixedVectors, tmp_path: Path) -> IvfFlatIndex:
    return IvfFlatIndex(cells, tmp_path, build_index(cells, tmp_path / "i.safetensors", PLAN), PLAN)


@pytest.fixture(scope="module")
def queries(cells: FixedVectors) -> np.ndarray:
    return to_float(np.concatenate(cells.segments)[1:300])


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.mean([np.isin(b, a).mean() for a, b in zip(found, expected, strict=True)]))


@pytest.mark.parametrize("k", [1, 20, 50])
def test_finds_nearly_all(backend: IvfFlatIndex, cells: FixedVectors, queries: np.ndarray, k: int) -> None:
    hits = backend.nearest(queries, k)
    positions, distances = hits.indices, hits.distances
    hits = ExactIndex(cells).nearest(queries, k)
    expected, exact = hits.indices, hits.distances
    assert recall(positions, expected) > 0.95
    assert 2 * backend._effort.visits(k) < backend._facts["lists"]  # it was the index that was searched
    same = positions == expected
    np.testing.assert_allclose(distances[same], exact[same], atol=1e-6)
    assert (np.diff(distances, axis=1) >= 0).all()
    assert not np.isin(positions, [0, 1000, 5999]).any()
    assert positions.dtype == np.int64 and distances.dtype == np.float32


def test_no_cell_that_a_filter_excludes(backend: IvfFlatIndex, cells: FixedVectors, queries: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    for share in (0.9, 0.5, 0.2):
        allowed = rng.random(6_000) < share
        allowed[[0, 1000, 5999]] = False
        positions = backend.nearest(queries, 10, allowed).indices
        assert allowed[positions].all()
        assert recall(positions, ExactIndex(cells).nearest(queries, 10, allowed).indices) > 0.95


def test_few_cells_and_deep_searches_are_exact(backend: IvfFlatIndex, cells: FixedVectors, queries: np.ndarray) -> None:
    allowed = np.zeros(6_000, dtype=bool)
    allowed[100:500] = True
    for k, mask in ((30, allowed), (5_000, None)):
        found, expected = (index.nearest(queries[:9], k, mask) for index in (backend, ExactIndex(cells)))
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_array_equal(found.distances, expected.distances)
    assert backend.nearest(queries[:0], 5).indices.shape == (0, 5)


def test_lists_with_too_few_cells_are_made_up_for(cells: FixedVectors, queries: np.ndarray, tmp_path: Path) -> None:
    facts = build_index(cells, tmp_path / "i.safetensors", PLAN)
    facts["trials"] = {depth: trial | {"visits": [1], "found": [1.0]} for depth, trial in facts["trials"].items()}
    hits = IvfFlatIndex(cells, tmp_path, facts, PLAN).nearest(queries, 50)
    positions, distances = hits.indices, hits.distances
    assert (positions >= 0).all() and np.isfinite(distances).all()


def test_seed_and_batches(backend: IvfFlatIndex, cells: FixedVectors, queries: np.ndarray, tmp_path: Path) -> None:
    again = IvfFlatIndex(cells, tmp_path, build_index(cells, tmp_path / "again.safetensors", PLAN), PLAN)
    whole = backend.nearest(queries, 20).indices
    np.testing.assert_array_equal(again.nearest(queries, 20).indices, whole)
    parts = [backend.nearest(queries[i : i + 7], 20).indices for i in range(0, len(queries), 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_recall_of_a_search(backend: IvfFlatIndex, cells: FixedVectors, queries: np.ndarray) -> None:
    expected = ExactIndex(cells).nearest(queries, 10).indices
    reached = [recall(backend.nearest(queries, 10, None, target).indices, expected) for target in (0.3, 0.8, None)]
    assert 0.3 < reached[0] < reached[1] < reached[2]


def test_an_index_is_tried_on_cells_of_other_studies(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clouds, studies = np.repeat(rng.normal(size=(60, 16)), 100, axis=0), np.tile(np.arange(6), 1_000)
    vectors = clouds + rng.normal(size=(6, 16))[studies] + rng.normal(size=(6_000, 16)) * 0.5
    fixed = np.round(vectors / np.abs(vectors).max(axis=1, keepdims=True) * SCALE).astype(np.int16)
    known, new = FixedVectors([fixed[studies > 0]]), to_float(fixed[studies == 0])
    expected = ExactIndex(known).nearest(new, 10).indices
    reached, plan = [], replace(PLAN, recall=0.9)
    for groups in (None, studies[studies > 0]):
        facts = build_index(known, tmp_path / "i.safetensors", plan, groups)
        found = IvfFlatIndex(known, tmp_path, facts, plan).nearest(new, 10).indices
        reached.append(recall(found, expected))
    assert reached[0] < 0.85 < 0.9 < reached[1]


def test_an_index_of_an_older_scim_is_not_searched(cells: FixedVectors, queries: np.ndarray, tmp_path: Path) -> None:
    facts = build_index(cells, tmp_path / "i.safetensors", PLAN)
    facts["visits"] = facts.pop("trials")
    with pytest.warns(UserWarning, match=r"of an older scim.*reindex"):
        backend = open_index(cells, PLAN, tmp_path, facts)
    expected = ExactIndex(cells).nearest(queries, 5).indices
    np.testing.assert_array_equal(backend.nearest(queries, 5).indices, expected)


def test_a_study_of_nearly_all_cells_does_not_mislead_the_trial(
    cells: FixedVectors, queries: np.ndarray, tmp_path: Path
) -> None:
    groups = np.where(np.arange(6_000) % 100 == 7, 1 + np.arange(6_000) // 2_000, 0)
    facts = build_index(cells, tmp_path / "i.safetensors", PLAN, groups)
    plain = build_index(cells, tmp_path / "plain.safetensors", PLAN)
    own, all_alike = (IvfFlatIndex(cells, tmp_path, f, PLAN)._effort for f in (facts, plain))
    for k in (10, 50, 1_000):
        assert all_alike.visits(k) <= own.visits(k) <= 2 * all_alike.visits(k) + 2
        expected = ExactIndex(cells).nearest(queries, k).indices
        assert recall(IvfFlatIndex(cells, tmp_path, facts, PLAN).nearest(queries, k).indices, expected) > 0.97
    # More neighbours never lie in fewer lists, and one study alone is none to leave out.
    visits = [own.visits(k) for k in (1, 10, 50, 200, 1_000, 3_000)]
    assert visits == sorted(visits)
    assert build_index(cells, tmp_path / "one.safetensors", PLAN, np.zeros(6_000, int)) == plain | {
        "file": "one.safetensors"
    }


@pytest.mark.parametrize("damage", ["missing", "truncated", "edited"])
def test_an_index_is_made_again(
    backend: IvfFlatIndex, cells: FixedVectors, queries: np.ndarray, tmp_path: Path, damage: str
) -> None:
    expected = backend.nearest(queries, 20).indices
    path = tmp_path / "i.safetensors"
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-10] if damage == "truncated" else content[:-4] + b"oops")
    fresh = IvfFlatIndex(cells, tmp_path, backend._facts, PLAN)
    with pytest.warns(UserWarning, match=r"i\.safetensors is missing or damaged, and the index is made again"):
        found = fresh.nearest(queries, 20).indices
    np.testing.assert_array_equal(found, expected)


def test_a_reference_has_one_and_renews_it_when_much_was_added(
    pbmc: AnnData, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_sizes(monkeypatch, index_from_cells=500)
    options = {"labels_key": "cell_type", "study_key": "channel"}
    # Of random vectors, more than half of the lists hold 98 %.
    reference = Reference.build(tmp_path / "auto.scim", pbmc[:600], encoder, recall=0.8, **options)
    assert reference.info()["backend"] == "faiss"
    assert [p.name for p in (tmp_path / "auto.scim" / "index").iterdir()] == ["0001.safetensors"]
    more = pbmc[600:].copy()
    more.obs["channel"] = "new"
    reference.add(more)
    # A hundred are searched beside the index.
    assert [p.name for p in (tmp_path / "auto.scim" / "index").iterdir()] == ["0001.safetensors"]
    queries = encoder.embed(more)
    for opened in (reference, Reference.open(tmp_path / "auto.scim")):
        hits = opened.search(queries, k=5)
        assert (hits.distances[:, 0] < 1e-5).mean() > 0.95
        assert (hits.indices[:, 0] >= 600).mean() > 0.9
    few = reference.search(queries[:3], k=5, where={"study": "new"}).indices
    assert few.min() >= 600
    index_sizes(monkeypatch, index_from_cells=50)
    even_more = more[:20].copy()
    even_more.obs["channel"] = "newer"
    reference.add(even_more)
    # The old one is kept for those who have the version before open.
    index = tmp_path / "auto.scim" / "index"
    assert sorted(p.name for p in index.iterdir()) == ["0001.safetensors", "0003.safetensors"]
    assert reference._now.manifest["index"]["n_cells"] == 720
    index_sizes(monkeypatch, index_from_cells=500)
    (index / "0003.safetensors").unlink()
    with pytest.warns(UserWarning, match="made again in memory"):
        Reference.open(tmp_path / "auto.scim").search(queries, k=5)
    exact = Reference.build(tmp_path / "exact.scim", pbmc, encoder, backend="exact", **options)
    assert exact.info()["backend"] == "exact" and not (tmp_path / "exact.scim" / "index").exists()
    few = Reference.build(tmp_path / "few.scim", pbmc[:400], encoder, backend="faiss", **options)
    assert few.info()["backend"] == "exact"


def test_an_add_that_fails_leaves_the_index(
    pbmc: AnnData, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_sizes(monkeypatch, index_from_cells=500)
    options = {"labels_key": "cell_type", "study_key": "channel"}
    reference = Reference.build(tmp_path / "r.scim", pbmc[:600], encoder, **options)
    before = {p.name: p.read_bytes() for p in (tmp_path / "r.scim" / "index").iterdir()}
    more = pbmc[600:].copy()
    more.obs["channel"] = "new"

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_ivf_flat, "_try", stop)
    index_sizes(monkeypatch, index_from_cells=50)
    with pytest.raises(KeyboardInterrupt):
        reference.add(more)
    assert {p.name: p.read_bytes() for p in (tmp_path / "r.scim" / "index").iterdir()} == before
    assert len(Reference.open(tmp_path / "r.scim").search(encoder.embed(more), k=3)) == 100
