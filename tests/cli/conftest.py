"""Commands called in this process, and files that they work on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner, Result

import scim
from scim.cli import app
from scim.genes import GeneSpace

GENES = list(scim.datasets.pbmc68k().var_names[:200])
LABELS = ["B cell", "T cell", "monocyte"]


@pytest.fixture(scope="session")
def scim_command() -> Callable[..., Result]:
    """Run a command of scim with these arguments, and return what came of it."""

    def run(*args: object) -> Result:
        return CliRunner().invoke(app, [str(a) for a in args])

    return run


@pytest.fixture(scope="session")
def fails() -> Callable[..., None]:
    """Assert that a command ended with status 1 and one line on stderr that holds the texts."""

    def check(result: Result, *texts: str) -> None:
        assert result.exit_code == 1, result.output
        lines = [line for line in result.stderr.splitlines() if "error" in line]
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("scim: error: ")
        assert "Traceback" not in result.output
        for text in texts:
            assert text in lines[0]

    return check


@pytest.fixture(scope="session")
def make_study() -> Callable[..., anndata.AnnData]:
    """Make cells of three kinds, each with forty genes of its own; raw counts."""

    def make(seed: int, n: int = 60, tissue: str = "blood") -> anndata.AnnData:
        rng = np.random.default_rng(seed)
        kinds = np.arange(n) % 3
        rates = np.full((n, len(GENES)), 0.3)
        for kind in range(3):
            rates[kinds == kind, 40 * kind : 40 * kind + 40] = 4.0
        obs = pd.DataFrame(
            {"cell_type": [LABELS[k] for k in kinds], "tissue": tissue}, index=[f"c{i}" for i in range(n)]
        )
        obs["cluster"] = kinds.astype(str)
        counts = sp.csr_matrix(rng.poisson(rates).astype(np.float32))
        return anndata.AnnData(X=counts, obs=obs, var=pd.DataFrame(index=GENES))

    return make


@pytest.fixture(scope="session")
def files(make_study: Callable[..., anndata.AnnData], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two studies, new cells, an encoder, and a reference that a command built."""
    folder = tmp_path_factory.mktemp("cli")
    make_study(0).write_h5ad(folder / "one.h5ad")
    make_study(1, tissue="lung").write_h5ad(folder / "two.h5ad")
    make_study(2, n=30).write_h5ad(folder / "new.h5ad")
    return folder


@pytest.fixture(scope="session")
def encoder(files: Path) -> Path:
    """An encoder of random weights, which keep cells of three kinds as far apart as training does."""
    matrix = np.random.default_rng(0).normal(size=(16, len(GENES))).astype(np.float32)
    out = files / "made.encoder"
    scim.Encoder(GeneSpace(GENES), {"output.weight": matrix, "output.bias": np.zeros(16)}).save(out)
    return out


@pytest.fixture(scope="session")
def reference(scim_command: Callable[..., Result], files: Path, encoder: Path) -> Path:
    out = files / "made.scim"
    done = scim_command(
        *("build", files / "one.h5ad", files / "two.h5ad", "--labels-key", "cell_type"),
        *("--encoder", encoder, "--obs-column", "tissue", "--out", out),
    )
    assert done.exit_code == 0, done.output
    assert "Reference of 120 cells with 3 labels" in done.stdout
    return out


@pytest.fixture(scope="session")
def studies(make_study: Callable[..., anndata.AnnData], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four studies, one of them zarr."""
    folder = tmp_path_factory.mktemp("data") / "meine Studien"
    folder.mkdir()
    for i in range(3):
        make_study(i, tissue=["blood", "lung", "gut"][i]).write_h5ad(folder / f"s{i}.h5ad")
    make_study(3).write_zarr(folder / "s3.zarr")
    return folder


@pytest.fixture(scope="session")
def built_once(
    scim_command: Callable[..., Result], studies: Path, encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("built") / "made.scim"
    done = scim_command("build", studies, "--labels-key", "cell_type", "--encoder", encoder, "--out", out)
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture
def built(built_once: Path, tmp_path: Path) -> Path:
    """A reference of the four studies, which the test may change."""
    return shutil.copytree(built_once, tmp_path / "made.scim")
