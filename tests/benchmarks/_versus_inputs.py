"""What both sides of versus_scimilarity.py are given, and how they are measured; needs NumPy and SciPy only."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

N_GENES, HIDDEN, LATENT = 28_231, (1024, 1024, 1024), 128


def random_weights(rng: np.random.Generator, sizes: list[int]) -> dict[str, np.ndarray]:
    """Weights of a network of these widths."""
    weights: dict[str, np.ndarray] = {}
    for i, (a, b) in enumerate(zip(sizes[:-2], sizes[1:-1], strict=True)):
        weights[f"layers.{i}.weight"] = rng.standard_normal((b, a), dtype=np.float32) / np.sqrt(a)
        for name, value in (("bias", 0), ("bn.weight", 1), ("bn.bias", 0), ("bn.mean", 0), ("bn.var", 1)):
            weights[f"layers.{i}.{name}"] = np.full(b, value, dtype=np.float32)
        weights[f"layers.{i}.prelu"] = np.array([0.25], dtype=np.float32)
    weights["output.weight"] = rng.standard_normal((sizes[-1], sizes[-2]), dtype=np.float32) / np.sqrt(sizes[-2])
    weights["output.bias"] = np.zeros(sizes[-1], dtype=np.float32)
    return weights


def sparse_counts(rng: np.random.Generator, n_cells: int, n_genes: int, per_cell: int = 2_000) -> Any:
    """Counts, float32 CSR: about ``per_cell`` genes of a cell, some genes in most cells and many in few."""
    from scipy import sparse

    popularity = 1.0 / (np.arange(n_genes) + 50.0) ** 0.8
    cumulative = np.cumsum(popularity[rng.permutation(n_genes)])
    cumulative /= cumulative[-1]
    wanted = np.clip(rng.lognormal(np.log(per_cell), 0.35, n_cells), 200, n_genes // 3).astype(int)
    rows = [np.unique(np.searchsorted(cumulative, rng.random(int(n * 1.25)))).astype(np.int32) for n in wanted]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    values = rng.geometric(0.45, indptr[-1]).astype(np.float32)
    return sparse.csr_matrix((values, np.concatenate(rows), indptr), shape=(n_cells, n_genes))


def clustered(rng: np.random.Generator, n: int, n_clusters: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around centres of unequal size, spread in a few directions each, and the centre of each."""
    centres = rng.standard_normal((n_clusters, LATENT), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    loads = rng.standard_normal((n_clusters, 16, LATENT), dtype=np.float32) / np.sqrt(LATENT * 16)
    share = 1.0 / (np.arange(n_clusters) + 5.0)
    labels = rng.choice(n_clusters, n, p=share / share.sum()).astype(np.int64)
    vectors = np.empty((n, LATENT), dtype=np.float32)
    for cluster in range(n_clusters):
        mine = labels == cluster
        z = rng.standard_normal((int(mine.sum()), 16), dtype=np.float32)
        vectors[mine] = centres[cluster] + 1.4 * z @ loads[cluster]
    vectors += 0.02 * rng.standard_normal(vectors.shape, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def batch(n_cells: int = 1_000) -> tuple[Any, np.ndarray, np.ndarray]:
    """Counts, labels and studies of a training batch."""
    rng = np.random.default_rng(0)
    return sparse_counts(rng, n_cells, N_GENES, 1_500), np.arange(n_cells) % 50, rng.integers(0, 15, n_cells)


def steps(step: Any, n: int = 4) -> float:
    """Seconds of the fastest of some steps, the first of which does not count."""
    step()
    return min(clock(step)[1] for _ in range(n))


def clock(work: Any) -> tuple[Any, float]:
    """Result of ``work`` and its seconds."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def peak() -> float:
    """Largest resident memory of this process so far, GiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def import_time(statement: str) -> float:
    """Seconds that a statement takes in a fresh Python, beyond those of starting it."""

    def seconds(code: str) -> float:
        return min(clock(lambda: subprocess.run([sys.executable, "-c", code], check=True))[1] for _ in range(3))

    return seconds(statement) - seconds("pass")


def install_size(name: str) -> float:
    """Megabytes of a distribution and all that it requires, without extras."""
    from importlib.metadata import PackageNotFoundError, distribution

    import packaging.requirements

    todo, seen, total = [name], set(), 0
    while todo:
        one = todo.pop().lower().replace("_", "-")
        if one in seen:
            continue
        seen.add(one)
        try:
            found = distribution(one)
        except PackageNotFoundError:
            continue
        total += sum(path.stat().st_size for f in found.files or () if (path := Path(str(f.locate()))).is_file())
        for text in found.requires or ():
            requirement = packaging.requirements.Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
    return total / 1e6
