"""Search by short codes in lists, beside exact search."""

from __future__ import annotations

import errno
import resource
import signal
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _made import index_sizes
from anndata import AnnData

from scim import Encoder, Reference
from scim.index._effort import Effort
from scim.index._exact import ExactIndex, compare_each
from scim.index._files import CODES, ORDERED, REST, ROWS, index_files
from scim.index._ivf_pq import IvfPqIndex
from scim.index._open import build_index, open_index
from scim.index._plan import IndexPlan
from scim.index._protocol import Hits, Index
from scim.index._vectors import SCALE, FixedVectors, to_float
from scim.reference.store._manifest import ReferenceFolderError

N, D = 20_000, 24
UNDIRECTED = [0, 5_000, N - 1]
#: Short codes for thousands of cells, looked up if hundreds may be found.
PLAN = IndexPlan(short_codes_from_cells=1_000, exact_below_cells=300)


@pytest.fixture(scope="module")
def cells() -> FixedVectors:
    """A hundred clouds of cells in two segments, three cells without direction, and some cells twice."""
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(100, D)), N // 100, axis=0) + rng.normal(size=(N, D)) * 0.4
    vectors = vectors[rng.permutation(N)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[15_000:15_100] = vectors[100:200]
    vectors[UNDIRECTED] = 0
    fixed = np.round(vectors * SCALE).astype(np.int16)
    return FixedVectors([fixed[:8_000], fixed[8_000:]])


@pytest.fixture(scope="module")
def built(cells: FixedVectors, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("index")
    return folder, build_index(cells, folder / "0001.safetensors", PLAN)


@pytest.fixture
def backend(cells: FixedVectors, built: tuple[Path, dict[str, Any]]) -> Index:
    return open_index(cells, PLAN, built[0], built[1])


@pytest.fixture(scope="module")
def queries(cells: FixedVectors) -> np.ndarray:
    """Cells that lie near those of the reference, and fifty of its own."""
    near = to_float(cells.segments[1][:250]) + np.random.default_rng(3).normal(size=(250, D)).astype(np.float32) * 0.03
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    return np.concatenate([near, to_float(cells.segments[0][100:150])]).astype(np.float32)


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.mean([np.isin(b, a).mean() for a, b in zip(found, expected, strict=True)]))


@pytest.mark.parametrize("k", [1, 50, 300, 1_500])
def test_finds_nearly_all(backend: Index, cells: FixedVectors, queries: np.ndarray, k: int) -> None:
    hits = backend.nearest(queries, k)
    positions, distances = hits.indices, hits.distances
    hits = ExactIndex(cells).nearest(queries, k)
    expected, exact = hits.indices, hits.distances
    assert recall(positions, expected) > 0.965
    assert isinstance(backend, IvfPqIndex) and backend._opened is not None  # it was the index that was searched
    same = positions == expected
    assert same.mean() > 0.5
    np.testing.assert_allclose(distances[same], exact[same], atol=1e-6)
    assert (np.diff(distances, axis=1) >= 0).all()
    assert not np.isin(positions, UNDIRECTED).any()
    assert positions.dtype == np.int64 and distances.dtype == np.float32


def test_recall_is_what_was_asked_for(
    cells: FixedVectors, queries: np.ndarray, built: tuple[Path, dict[str, Any]]
) -> None:
    expected = ExactIndex(cells).nearest(queries, 50).indices
    reached = []
    for target in (0.7, 0.9, 0.995):
        backend = open_index(cells, PLAN, built[0], built[1] | {"target": target})
        found = backend.nearest(queries, 50)
        reached.append(recall(found.indices, expected))
        assert reached[-1] > target - 0.03
        # Asked for in the search, it is the same.
        other = open_index(cells, PLAN, built[0], built[1] | {"target": 0.8})
        np.testing.assert_array_equal(other.nearest(queries, 50, None, target).indices, found.indices)
    assert reached[0] < reached[2]


def test_no_cell_that_a_filter_excludes(backend: Index, cells: FixedVectors, queries: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    clouds = np.argmax(to_float(np.concatenate(cells.segments)) @ rng.normal(size=(D, 8)), axis=1)
    masks = [rng.random(N) < share for share in rng.uniform(0.01, 1, 6)] + [clouds == i for i in range(8)]
    for k, mask in zip([1, 10, 50, 200] * 4, masks, strict=False):
        mask[UNDIRECTED] = False
        positions = backend.nearest(queries, k, mask).indices
        assert mask[positions].all()
        expected = ExactIndex(cells).nearest(queries, k, mask).indices
        assert recall(positions, expected) > 0.95, (k, mask.mean())


def test_equal_cells_come_by_position(backend: Index, queries: np.ndarray) -> None:
    hits = backend.nearest(queries[250:], 2)
    positions, distances = hits.indices, hits.distances
    np.testing.assert_array_equal(positions, np.arange(100, 150)[:, None] + [0, 14_900])
    np.testing.assert_array_equal(distances[:, 0], distances[:, 1])


@pytest.mark.parametrize("filtered", [False, True])
def test_threads_and_batches_change_nothing(
    backend: Index, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch, filtered: bool
) -> None:
    mask = np.random.default_rng(2).random(N) < 0.5 if filtered else None
    whole = backend.nearest(queries, 20, mask)
    parts = [backend.nearest(queries[i : i + 7], 20, mask) for i in range(0, len(queries), 7)]
    monkeypatch.setattr("scim._threads._n_threads", lambda: 2)
    for other in (backend.nearest(queries, 20, mask), Hits.stacked(parts)):
        np.testing.assert_array_equal(other.indices, whole.indices)
        np.testing.assert_array_equal(other.distances, whole.distances)


def test_deep_and_narrow_searches_are_exact(backend: Index, cells: FixedVectors, queries: np.ndarray) -> None:
    mask = np.zeros(N, dtype=bool)
    mask[7_900:8_190] = True  # of both segments
    for k, allowed in ((30, mask), (6_000, None), (N - 3, None)):
        found, expected = (
            backend.nearest(queries[:9], k, allowed),
            ExactIndex(cells).nearest(queries[:9], k, allowed),
        )
        np.testing.assert_array_equal(found.indices, expected.indices)
    assert backend.nearest(queries[:0], 5).indices.shape == (0, 5)


def test_lists_with_too_few_cells_are_made_up_for(
    cells: FixedVectors, queries: np.ndarray, built: tuple[Path, dict[str, Any]]
) -> None:
    trials = {depth: trial | {"visits": [1], "found": [1.0]} for depth, trial in built[1]["trials"].items()}
    found = open_index(cells, PLAN, built[0], built[1] | {"trials": trials}).nearest(queries, 2_000, None)
    assert (found.indices >= 0).all() and np.isfinite(found.distances).all()


def test_cells_added_later_are_searched_as_well(cells: FixedVectors, queries: np.ndarray, tmp_path: Path) -> None:
    facts = build_index(cells.split_at(17_000)[0], tmp_path / "i.safetensors", PLAN)
    assert facts["n_cells"] == 17_000
    backend = open_index(cells, PLAN, tmp_path, facts)
    later = to_float(cells.segments[1][9_000:9_200])
    hits = backend.nearest(later, 1)
    positions, distances = hits.indices, hits.distances
    np.testing.assert_array_equal(positions[:, 0], np.arange(17_000, 17_200))
    assert (distances < 1e-5).all()
    expected = ExactIndex(cells).nearest(queries, 50).indices
    found = backend.nearest(queries, 50).indices
    assert recall(found, expected) > 0.965
    added = expected >= 17_000
    assert np.mean([np.isin(e[a], f).all() for e, a, f in zip(expected, added, found, strict=True)]) == 1
    mask = np.zeros(N, dtype=bool)
    for part in (slice(16_900, 17_100), slice(17_500, N - 1), slice(10, 200)):
        mask[:] = False
        mask[part] = True
        exact = ExactIndex(cells).nearest(queries, 40, mask)
        merged = backend.nearest(queries, 40, mask)
        np.testing.assert_array_equal(merged.indices, exact.indices)
        np.testing.assert_allclose(merged.distances, exact.distances, atol=1e-6)


@pytest.mark.parametrize("ending", [CODES, ROWS, REST])
@pytest.mark.parametrize("damage", ["missing", "truncated", "edited"])
def test_an_index_is_made_again(
    cells: FixedVectors,
    queries: np.ndarray,
    built: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    ending: str,
    damage: str,
) -> None:
    expected = open_index(cells, PLAN, built[0], built[1]).nearest(queries, 20)
    _copy_damaged(built, tmp_path, ending, damage)
    fresh = open_index(cells, PLAN, tmp_path, built[1])
    with pytest.warns(UserWarning, match=rf"0001\{ending} is missing or damaged, and the index is made again"):
        found = fresh.nearest(queries, 20)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)


def test_a_full_disk_is_told_of(cells: FixedVectors, tmp_path: Path) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for bytes_ in (30_000, 80_000, 200_000, 330_000):  # of each of the files
            resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, limit[1]))
            with pytest.raises(OSError) as raised:
                build_index(cells, tmp_path / "0001.safetensors", PLAN)
            assert raised.value.errno == errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)


def test_vectors_that_became_zero_are_no_neighbours(queries: np.ndarray, cells: FixedVectors) -> None:
    first = cells.segments[0].copy()
    first[100:140] = 0
    rows = np.arange(50, 200)
    found = compare_each(FixedVectors([first, cells.segments[1]]), queries[:2], rows, 150)
    assert not np.isin(found.indices, np.arange(100, 140)).any()
    assert (found.indices[:, :110] >= 0).all() and (found.indices[:, 110:] == -1).all()
    assert np.isfinite(found.distances[:, 0]).all()


def test_few_neighbours_are_looked_for_as_far_as_was_tried() -> None:
    trial = {"visits": [1, 2, 4, 8], "found": [0.5, 0.8, 0.95, 1.0], "among": {"2": 0.9, "32": 0.999}}
    effort = Effort({"10": trial, "50": trial}, 0.98, 8, 10_000)
    assert effort.candidates(1) == effort.candidates(10) == 320
    # Codes that hardly tell cells apart: the largest number that was tried is too small.
    poor = trial | {"among": {"2": 0.3, "32": 0.7}}
    assert Effort({"10": poor}, 0.98, 8, 10_000).candidates(10) == 8 * 320
    assert Effort({"10": poor}, 0.6, 8, 10_000).candidates(10) == 320


@pytest.mark.parametrize("damage", ["missing", "truncated", "edited", "zeroed"])
def test_vectors_in_order_are_not_trusted(
    cells: FixedVectors, queries: np.ndarray, built: tuple[Path, dict[str, Any]], tmp_path: Path, damage: str
) -> None:
    expected = open_index(cells, PLAN, built[0], built[1]).nearest(queries, 20)
    _copy_damaged(built, tmp_path, ORDERED, damage)
    fresh = open_index(cells, PLAN, tmp_path, built[1])
    with pytest.warns(UserWarning, match=r"0001\.vectors\.i16 is missing or damaged"):
        found = fresh.nearest(queries, 20)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.distances, expected.distances)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh.nearest(queries, 20)  # said once


def _copy_damaged(built: tuple[Path, dict[str, Any]], folder: Path, ending: str, damage: str) -> None:
    for name in index_files(built[1]):
        content = (built[0] / name).read_bytes()
        if name == f"0001{ending}":
            if damage == "missing":
                continue
            half = len(content) // 2
            changed = {
                "truncated": content[:-10],
                "edited": content[:half] + bytes([content[half] ^ 4]) + content[half + 1 :],
                "zeroed": bytes(len(content)),
            }
            content = changed[damage]
            if damage == "edited" and ending == ORDERED:  # everywhere, for it is read where it is searched
                content = bytes(np.frombuffer(content, dtype=np.uint8) ^ 4)
        (folder / name).write_bytes(content)


def test_same_seed_same_index(cells: FixedVectors, built: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    again = build_index(cells, tmp_path / "0001.safetensors", PLAN)
    assert again == built[1]


def test_a_reference_of_many_cells(
    pbmc: AnnData, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_sizes(monkeypatch, index_from_cells=300, short_codes_from_cells=500, exact_below_cells=50)
    options: dict[str, Any] = {"labels_key": "cell_type", "study_key": "channel"}
    path = tmp_path / "r.scim"
    reference = Reference.build(path, pbmc[:600], encoder, recall=0.9, **options)
    assert reference.info()["backend"] == "faiss"
    names = {f"0001{ending}" for ending in (CODES, ROWS, ORDERED, REST)}
    assert {p.name for p in (path / "index").iterdir()} == names
    queries = encoder.embed(pbmc[:100])
    for opened in (reference, Reference.open(path)):
        hits = opened.search(queries, k=5)
        assert (hits.distances[:, 0] < 1e-5).mean() > 0.85
    kept = {"label": str(reference.obs["label"].iloc[0])}
    hits = Reference.open(path).search(queries, k=5, where=kept)
    assert (reference.metadata(hits.indices.ravel(), ["label"])["label"] == kept["label"]).all()
    reference.verify()
    files = [file for file in path.rglob("*") if file.is_file() and file.name != "manifest.json"]
    assert reference.info()["bytes"] == sum(file.stat().st_size for file in files)
    ordered = path / "index" / f"0001{ORDERED}"
    ordered.write_bytes(ordered.read_bytes()[:-2] + b"??")
    reference.verify("sizes")
    with pytest.raises(ReferenceFolderError, match=rf"{ordered.name} was changed .* Reference.reindex"):
        reference.verify()
    reference.reindex()
    reference.verify()
    with pytest.raises(ValueError, match="recall must lie from 0 to 1"):
        Reference.build(tmp_path / "no.scim", pbmc[:600], encoder, recall=98, **options)
