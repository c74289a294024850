"""Fixtures that several rooms' tests share: real studies, and a reference of real blood cells with its encoder."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _made import STUDIES, random_encoder
from anndata import AnnData
from hypothesis import settings
from threadpoolctl import threadpool_limits

import scim
from scim.genes import GeneSpace

# Few examples, of any duration: property tests run beside other work on two cores.
settings.register_profile("scim", max_examples=25, deadline=None, database=None)
settings.load_profile("scim")

_SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder beside the checkout with ontologies, gene tables and a peer's fixture; skips where there is none."""
    if not _SHARED.is_dir():
        pytest.skip("needs the folder `shared` beside the checkout")
    return _SHARED


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real labelled studies, from SCIM_DATA or beside the checkout; skips where there is none."""
    folder = Path(os.environ.get("SCIM_DATA", _SHARED / "data"))
    if not folder.is_dir():
        pytest.skip("needs the real studies: set SCIM_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def _pbmc() -> AnnData:
    adata = scim.datasets.pbmc68k()
    channel = adata.obs["channel"].astype(str)
    adata.obs["study"] = channel.map(STUDIES).fillna("third").astype("category")
    adata.obs["tissue"] = np.where(channel.isin(["1", "4"]), "blood", "bone marrow")
    adata.obs["depth"] = np.asarray(adata.X.sum(axis=1)).ravel()
    return adata


@pytest.fixture
def pbmc(_pbmc: AnnData) -> AnnData:
    """700 real cells x 765 genes with study, cell_type, tissue, channel and depth (a number)."""
    return _pbmc.copy()


@pytest.fixture(scope="session")
def encoder(_pbmc: AnnData) -> scim.Encoder:
    return random_encoder(GeneSpace.from_adata(_pbmc))


@pytest.fixture
def other_encoder(_pbmc: AnnData) -> scim.Encoder:
    return random_encoder(GeneSpace.from_adata(_pbmc), seed=1)


@pytest.fixture(scope="session")
def _built(_pbmc: AnnData, encoder: scim.Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "blood.scim"
    columns = ["tissue", "channel", "depth"]
    scim.Reference.build(path, _pbmc, encoder, labels_key="cell_type", study_key="study", obs_columns=columns)
    return path


@pytest.fixture
def folder(_built: Path, tmp_path: Path) -> Path:
    """A copy of the reference's folder, to do with as one likes."""
    return Path(shutil.copytree(_built, tmp_path / "blood.scim"))


@pytest.fixture
def reference(_built: Path) -> scim.Reference:
    """The reference, not to be changed."""
    return scim.Reference.open(_built)


@pytest.fixture
def vectors(pbmc: AnnData, encoder: scim.Encoder) -> np.ndarray:
    return encoder.embed(pbmc)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers of Dask, processes of their own."""
    distributed = pytest.importorskip("distributed", reason="needs dask.distributed: pip install 'scim-tools[dask]'")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**options, host="127.0.0.1") as made:
        yield made


@pytest.fixture(scope="module")
def client(cluster: Any) -> Iterator[Any]:
    from distributed import Client

    with Client(cluster) as made:
        yield made


@pytest.fixture
def despite_a_killed_worker(client: Any) -> Callable[[Callable[[], Any]], tuple[Any, int]]:
    """Call a function, kill a worker that is at work for it, and return what came of it and the process that died."""

    def call(function: Callable[[], Any]) -> tuple[Any, int]:
        with ThreadPoolExecutor(1) as other:
            found = other.submit(function)
            killed: list[int] = []
            while not killed and not found.done():
                busy = [address for address, tasks in client.processing().items() if tasks]
                for address in busy[:1]:
                    killed += client.run(os.getpid, workers=[address]).values()
                    os.kill(killed[0], signal.SIGKILL)
            assert killed
            assert not found.done()
            return found.result(timeout=300), killed[0]

    return call


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Products round as those of the workers do, so that cells that come in fours are equal."""
    with threadpool_limits(1):
        yield
