"""The index on the workers of a Dask cluster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from _made import index_sizes
from anndata import AnnData
from threadpoolctl import threadpool_limits

from scim import Encoder, Reference
from scim.genes import GeneSpace
from scim.index import ExactIndex, IndexPlan, MaskedIndex
from scim.index._files import CODES, ORDERED, REST, ROWS
from scim.reference.serving import _ivf_pq as _serving

N_CELLS, N_GENES, N_LATENT = 24_000, 40, 16
SIZES: dict[str, Any] = {
    "short_codes_from_cells": 1_000,
    "exact_below_cells": 300,
    "part_cells": (2_000, 8_000_000),
    "parts_per_thread": 2,
    "served_queries": 100,
}


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve the index where hundreds of cells may be found, in parts of two thousand."""
    index_sizes(monkeypatch, **SIZES)
    with threadpool_limits(1):
        yield


def cells(n: int, seed: int) -> AnnData:
    """Sixty kinds of cells; some of them come twice, and one has no counts."""
    kinds = np.random.default_rng(0).gamma(0.5, 4.0, size=(60, N_GENES))
    rng = np.random.default_rng(seed)
    counts = rng.poisson(kinds[rng.integers(0, 60, n)]).astype(np.float32)
    counts[n // 2 : n // 2 + 50] = counts[:50]
    counts[7] = 0
    obs = pd.DataFrame(
        {
            "cell_type": rng.choice(["B cell", "T cell", "monocyte"], n),
            "study": rng.choice(["one", "two"], n),
            "donor": rng.choice([f"D{i}" for i in range(20)], n),
        },
        index=[f"cell{seed}.{i}" for i in range(n)],
    )
    return AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"ENSG{i:011d}" for i in range(N_GENES)]))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    adata = cells(N_CELLS, 1)
    matrix = np.random.default_rng(2).normal(size=(N_LATENT, N_GENES)).astype(np.float32)
    encoder = Encoder(GeneSpace.from_adata(adata), {"output.weight": matrix, "output.bias": np.zeros(N_LATENT)})
    path = tmp_path_factory.mktemp("dem Index") / "größer.scim"
    with pytest.MonkeyPatch.context() as patch:
        index_sizes(patch, **SIZES)
        keys = {"labels_key": "cell_type", "study_key": "study", "landmarks": "none"}
        made = Reference.build(path, adata, encoder, **keys)
    assert made._now.manifest["index"]["kind"] == "norm codes"
    return path


@pytest.fixture
def many(built: Path, tmp_path: Path) -> Reference:
    return Reference.open(shutil.copytree(built, tmp_path / "copy.scim"))


@pytest.fixture(scope="module")
def queries(built: Path) -> np.ndarray:
    return Reference.open(built).encoder.embed(cells(300, 3))


def exact(reference: Reference, queries: np.ndarray, **how: Any) -> Any:
    """What a search by the vectors alone finds."""
    other = Reference.open(reference.path)
    index, before = ExactIndex(other._now.vectors), other._now.index
    other._now = replace(other._now, index=before.over(index) if isinstance(before, MaskedIndex) else index)
    return other.search(queries, **how)


def recall(found: Any, expected: Any) -> float:
    pairs = zip(expected.indices, found.indices, strict=True)
    return float(np.mean([np.isin(a[a >= 0], b).mean() for a, b in pairs if (a >= 0).any()]))


def assert_as_good(served: Any, local: Any) -> None:
    """Each hit is that of a search in one process, or one that is nearer, but for what rounding decides."""
    assert np.mean(served.distances <= local.distances + 1e-6) > 0.999
    assert (np.diff(served.distances[np.isfinite(served.distances).all(axis=1)], axis=1) >= 0).all()


def parts_held(client: Any, path: Path) -> list[list[int]]:
    def held() -> dict[str, list[int]]:
        from scim.reference.serving import _ivf_pq as _serving

        return {root: sorted(held.parts) for root, held in _serving._opened.items()}

    return [worker.get(str(path), []) for worker in client.run(held).values()]


@pytest.mark.parametrize(
    "how",
    [
        {"k": 1},
        {"k": 50},
        {"k": 1_000},
        {"k": 20, "where": {"donor": ["D1", "D7", "D9"]}},
        {"k": 20, "exclude": {"study": "one"}, "max_distance": 0.3},
        {"k": 20, "max_per_group": {"donor": 2}},
    ],
    ids=str,
)
def test_finds_what_one_process_finds(many: Reference, queries: np.ndarray, client: Any, how: dict[str, Any]) -> None:
    local, served = many.search(queries, **how), many.search(queries, **how, client=client)
    assert_as_good(served, local)
    expected = exact(many, queries, **how)
    assert recall(served, expected) >= max(recall(local, expected), 0.96)
    if "where" in how:
        donors, names = many.codes("donor")
        assert set(names[donors[served.indices[served.indices >= 0]]]) == {"D1", "D7", "D9"}
    # Each part lies with some worker, and no worker has them all.
    held = parts_held(client, many.path)
    assert {part for mine in held for part in mine} == set(range(4))
    assert max(map(len, held)) <= 3


def test_recall_is_the_users(many: Reference, queries: np.ndarray, client: Any) -> None:
    expected, reached = exact(many, queries, k=50), []
    for target in (0.6, 0.995):
        many._now.manifest["index"]["target"] = target
        reached.append(recall(many.search(queries, k=50, client=client), expected))
        assert reached[-1] > target - 0.03
    assert reached[0] < reached[1]


def test_what_is_few_is_compared_exactly(
    many: Reference, queries: np.ndarray, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("searched the index")

    monkeypatch.setattr(_serving.ShardedIvfPq, "_look_up", refuse)
    few = np.arange(N_CELLS) % 100 == 3
    for how in ({"k": 5, "within": few}, {"k": N_CELLS // 3}, {"k": None, "max_distance": 0.1}):
        some = queries[:20]
        np.testing.assert_array_equal(many.search(some, **how, client=client).indices, exact(many, some, **how).indices)


def test_cells_behind_the_index_and_those_removed(
    many: Reference, queries: np.ndarray, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    index_sizes(monkeypatch, **SIZES, beyond_index_share=1.0)
    many.add(cells(3_000, 4))
    many.remove(where={"donor": ["D2", "D3"]})
    assert many._now.manifest["index"]["n_cells"] == N_CELLS < many.n_rows
    for how in ({"k": 30}, {"k": 30, "where": {"study": "two"}}):
        served = many.search(queries, **how, client=client)
        assert_as_good(served, many.search(queries, **how))
        assert many.allowed(where=how.get("where"))[served.indices[served.indices >= 0]].all()
        assert (served.indices >= N_CELLS).any()
        assert recall(served, exact(many, queries, **how)) > 0.96


@pytest.mark.parametrize("ending", [CODES, ROWS, REST, ORDERED])
@pytest.mark.parametrize("spoil", ["missing", "truncated", "changed"])
def test_a_damaged_index_is_no_wrong_answer(
    many: Reference, queries: np.ndarray, client: Any, ending: str, spoil: str
) -> None:
    path = next(path for path in (many.path / "index").iterdir() if path.name.endswith(ending))
    if spoil == "missing":
        path.unlink()
    elif spoil == "truncated":
        os.truncate(path, path.stat().st_size - 100)
    else:
        content = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
        content[len(content) // 3 :: 5] ^= 0x55
        path.write_bytes(content.tobytes())
    expected = exact(many, queries, k=20)
    if ending == ORDERED:  # workers read the vectors of the cells in their place
        assert recall(many.search(queries, k=20, client=client), expected) > 0.96
        return
    with pytest.warns(UserWarning, match=rf"index file .*{ending} is missing or damaged: queries are compared"):
        served = many.search(queries, k=20, client=client)
    np.testing.assert_array_equal(served.indices, expected.indices)


@pytest.mark.slow
def test_survives_a_worker_that_is_killed(many: Reference, client: Any, despite_a_killed_worker: Any) -> None:
    asked = many.encoder.embed(cells(6_000, 5))
    expected = many.search(asked, k=20, client=client)
    served, _ = despite_a_killed_worker(lambda: many.search(asked, k=20, client=client))
    np.testing.assert_array_equal(served.indices, expected.indices)
    np.testing.assert_array_equal(served.distances, expected.distances)


def test_parts_have_about_as_many_cells() -> None:
    sizes, plan = np.random.default_rng(0).integers(0, 900, 2_000), IndexPlan(**SIZES)
    for threads in (0, 1, 3, 4, 40):
        bounds = _serving.part_bounds(sizes, threads, plan)
        assert bounds[0] == 0 and bounds[-1] == 2_000 and list(bounds) == sorted(set(bounds))
        held = np.add.reduceat(sizes, bounds[:-1])
        assert held.max() < 1.1 * held.mean() + 900
    assert len(_serving.part_bounds(sizes, 3, plan)) == len(_serving.part_bounds(sizes, 4, plan))
    assert len(_serving.part_bounds(np.full(1_000, 100_000), 1, plan)) - 1 == 13
