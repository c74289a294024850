"""Searches, queries and annotations on the workers of a Dask cluster."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scim
from scim import Encoder, Reference
from scim.genes import GeneSpace
from scim.index import _search

distributed = pytest.importorskip("distributed", reason="needs dask.distributed: pip install 'scim-tools[dask]'")

N_CELLS, N_FIRST, N_GENES, N_LATENT = 20_000, 17_000, 30, 8
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three blocks of cells in two segments; cells come in fours, some have no counts, and some were removed."""
    rng = np.random.default_rng(0)
    counts = np.tile(rng.poisson(1.0, size=(N_CELLS // 4, N_GENES)), (4, 1)).astype(np.float32)
    counts[::997] = 0
    obs = pd.DataFrame(
        {
            "cell_type": rng.choice(["B cell", "T cell", "monocyte"], N_CELLS),
            "study": rng.choice(["one", "two"], N_CELLS),
            "donor": rng.choice([f"D{i}" for i in range(40)], N_CELLS),
        },
        index=[f"cell{i}" for i in range(N_CELLS)],
    )
    genes = [f"ENSG{i:011d}" for i in range(N_GENES)]
    adata = AnnData(counts, obs=obs, var=pd.DataFrame(index=genes))
    matrix = rng.normal(size=(N_LATENT, N_GENES)).astype(np.float32)
    encoder = Encoder(GeneSpace.from_adata(adata), {"output.weight": matrix, "output.bias": np.zeros(N_LATENT)})
    path = tmp_path_factory.mktemp("größer als") / "viele Zellen.scim"
    keys = {"labels_key": "cell_type", "study_key": "study"}
    made = Reference.build(path, adata[:N_FIRST], encoder, **keys, landmarks="none", backend="exact")
    made.add(adata[N_FIRST:])
    return path


@pytest.fixture
def many(large: Path) -> Reference:
    return Reference.open(large)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(1_030, N_LATENT)).astype(np.float32)


def assert_same(one: Any, two: Any) -> None:
    np.testing.assert_array_equal(one.indices, two.indices)
    np.testing.assert_array_equal(one.distances, two.distances)


@pytest.mark.parametrize(
    "how",
    [
        {"k": 1},
        {"k": 50},
        {"k": 9_000},
        {"k": 10, "where": {"donor": "D7"}},
        {"k": 10, "exclude": {"study": "one"}, "max_distance": 0.05},
        {"k": None, "max_distance": 0.02},
        {"k": None, "max_distance": 0.05, "where": {"donor": ["D1", "D2"]}, "max_per_group": {"study": 3}},
        {"k": 20, "max_per_group": {"donor": 2, "study": 15}},
        {"k": 7, "within": np.arange(N_CELLS) >= N_FIRST},
    ],
    ids=str,
)
def test_same_as_in_one_process(many: Reference, queries: np.ndarray, client: Any, how: dict[str, Any]) -> None:
    some = queries[:40] if how["k"] == 9_000 else queries
    some = np.concatenate([some, many.vectors(np.arange(5, 30)), np.zeros((1, N_LATENT), dtype=np.float32)])
    local = many.search(some, **how)
    assert (local.indices[:-1, 0] >= 0).any()
    assert_same(many.search(some, **how, client=client), local)


def test_removed_cells_are_not_found(large: Path, queries: np.ndarray, client: Any, tmp_path: Path) -> None:
    copy = Reference.open(shutil.copytree(large, tmp_path / "copy.scim"))
    before = copy.search(queries, k=5, client=client)
    old = Reference.open(copy.path)
    copy.remove(where={"donor": ["D1", "D2", "D3"]})
    after = copy.search(queries, k=5, client=client)
    assert not np.isin(copy.codes("donor")[0][after.indices], copy.codes("donor")[0][~copy.allowed()]).any()
    assert_same(after, copy.search(queries, k=5))
    assert_same(
        copy.search(queries, k=None, max_distance=0.03, client=client), copy.search(queries, k=None, max_distance=0.03)
    )
    # A reader keeps what it opened, until its files are gone.
    assert_same(old.search(queries, k=5, client=client), before)
    copy.compact()
    assert_same(copy.search(queries, k=5, client=client), copy.search(queries, k=5))
    copy.compact()
    with pytest.raises(scim.reference.ReferenceFolderError, match="written to more than once since it was opened"):
        old.search(queries, k=5, client=client)


def test_index_is_not_needed(reference: Reference, vectors: np.ndarray, client: Any) -> None:
    """700 cells are one block, which one worker has."""
    assert_same(reference.search(vectors, k=9, client=client), reference.search(vectors, k=9))
    assert reference.search(vectors[:0], k=9, client=client).indices.shape == (0, 9)
    with pytest.warns(UserWarning, match="k=710 is more than the 700 cells"):
        assert reference.search(vectors[:2], k=710, client=client).indices.shape == (2, 700)


def test_a_worker_opens_its_part_once(many: Reference, queries: np.ndarray, client: Any) -> None:
    def opened() -> dict[str, list[str]]:
        from scim.reference.serving import _shards

        return {root: sorted(segments) for root, (_, segments) in _shards._opened.items()}

    many.search(queries, client=client)
    held = [parts[str(many.path)] for parts in client.run(opened).values() if str(many.path) in parts]
    assert len(held) == 2
    assert {name for part in held for name in part} == {s["name"] for s in many._now.manifest["segments"]}


def test_too_many_within_a_distance(
    many: Reference, queries: np.ndarray, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_search, "MAX_HITS", 1_000)
    with pytest.raises(ValueError, match="More than 1,000 cells are within max_distance=1"):
        many.search(queries[:1], k=None, max_distance=1, client=client)


def test_survives_a_worker_that_is_killed(many: Reference, client: Any, despite_a_killed_worker: Any) -> None:
    queries = np.random.default_rng(2).normal(size=(8_000, N_LATENT)).astype(np.float32)
    found, killed = despite_a_killed_worker(lambda: many.search(queries, k=20, client=client))
    assert_same(found, many.search(queries, k=20))
    deadline = time.monotonic() + 60
    while len(client.nthreads()) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)  # the nanny starts another
    assert killed not in client.run(os.getpid).values()


def test_folder_that_a_worker_does_not_see(many: Reference, queries: np.ndarray, client: Any, tmp_path: Path) -> None:
    moved = Reference.open(shutil.copytree(many.path, tmp_path / "here.scim"))
    os.rename(moved.path, tmp_path / "elsewhere.scim")
    with pytest.raises(FileNotFoundError, match=r"The Dask worker tcp://127.* cannot see .*here\.scim.*share"):
        moved.search(queries, client=client)
    shutil.copytree(many.path, moved.path)
    vectors = next((moved.path / "segments").glob("*/vectors.i16"))
    vectors.write_bytes(vectors.read_bytes()[:-16])
    with pytest.raises(scim.reference.ReferenceFolderError, match=r"vectors\.i16"):
        moved.search(queries, client=client)


def test_another_reference_at_the_path(
    many: Reference, reference: Reference, vectors: np.ndarray, client: Any, tmp_path: Path
) -> None:
    mine = Reference.open(shutil.copytree(reference.path, tmp_path / "mine.scim"))
    shutil.rmtree(mine.path)
    shutil.copytree(many.path, mine.path)
    with pytest.raises(scim.reference.ReferenceFolderError, match="is another reference, or another version"):
        mine.search(vectors, client=client)


def test_versions_that_differ(
    many: Reference, queries: np.ndarray, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scim.reference.serving._exact.scim_version", lambda: "99.0")
    with pytest.raises(RuntimeError, match=r"The Dask worker tcp://.* has scim .*, and the client has 99\.0"):
        many.search(queries, client=client)


def test_what_is_no_client(many: Reference, queries: np.ndarray, cluster: Any) -> None:
    with pytest.raises(TypeError, match=r"client must be a distributed\.Client, got LocalCluster"):
        many.search(queries, client=cluster)
    closed = distributed.Client(cluster)
    closed.close()
    with pytest.raises(ValueError, match="not connected to a scheduler"):
        many.search(queries, client=closed)


def test_without_distributed(many: Reference, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'scim-tools\[dask\]'"):
        many.search(queries, client=object())


@pytest.mark.parametrize("groupby", [None, "cell_type"])
def test_query_is_that_of_one_process(pbmc: AnnData, reference: Reference, client: Any, groupby: str | None) -> None:
    local, served = pbmc[:60].copy(), pbmc[:60].copy()
    how = {"groupby": groupby, "k": 12, "where": {"tissue": "blood"}, "max_per_group": {"study": 5}}
    scim.tl.query(local, reference, **how)
    scim.tl.query(served, reference, **how, client=client)
    for name in ("hits", "summary", "coherence") if groupby else ("hits", "summary"):
        # Products of other blocks of cells round differently.
        pd.testing.assert_frame_equal(served.uns["scim_query"][name], local.uns["scim_query"][name], atol=1e-6)


@pytest.mark.parametrize("how", [{"vote": "ontology", "k": 9}, {"vote": "calibrated"}], ids=str)
def test_annotate_is_that_of_one_process(
    many: Reference, reference: Reference, pbmc: AnnData, client: Any, how: dict[str, Any]
) -> None:
    local, served = pbmc[:60].copy(), pbmc[:60].copy()
    scim.tl.annotate(local, reference, **how)
    scim.tl.annotate(served, reference, **how, client=client)
    pd.testing.assert_frame_equal(served.obs, local.obs)
    # Without landmarks, novelty is told by the distance to the nearest cell, which workers look for.
    vectors = np.random.default_rng(5).normal(size=(50, N_LATENT)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def nearest(queries: np.ndarray, recall: float) -> np.ndarray:
        return many.search(queries, 1, recall=recall, client=client).distances[:, 0]

    model = many.label_model
    np.testing.assert_allclose(
        model.matched(nearest=nearest).distances(vectors), model.matched().distances(vectors), atol=1e-6
    )
