"""The peers of search.py: hnswlib, built once for a folder and read again from there, and pynndescent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from scim.index._vectors import to_float


def hnswlib_index(folder: Path, vectors: np.ndarray) -> tuple[Any, float]:
    """Index as SCimilarity sets it (M=80), but with ef_construction 200 and not 1,000; and the CPU seconds it took."""
    import hnswlib

    path, record = folder / f"hnswlib-{len(vectors)}.bin", folder / f"hnswlib-{len(vectors)}.json"
    index = hnswlib.Index(space="cosine", dim=vectors.shape[1])
    if record.is_file():
        index.load_index(str(path), max_elements=len(vectors))
    else:
        index.init_index(max_elements=len(vectors), ef_construction=200, M=80)
        start = time.process_time()
        index.add_items(to_float(vectors), np.arange(len(vectors)))
        seconds = time.process_time() - start
        index.save_index(str(path))
        record.write_text(json.dumps({"build_cpu_s": seconds}))
    return index, float(json.loads(record.read_text())["build_cpu_s"])


def hnswlib_search(folder: Path, vectors: np.ndarray) -> tuple[Callable[[np.ndarray, int], Any], float]:
    """Search with SCimilarity's ef; and the CPU seconds of the build."""
    index, seconds = hnswlib_index(folder, vectors)

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        index.set_ef(max(100, k))
        return np.asarray(index.knn_query(queries, k=k)[0]).astype(np.int64)

    return search, seconds


def pynndescent_search(vectors: np.ndarray) -> tuple[Callable[[np.ndarray, int], Any], float]:
    """Build with its defaults, and search; and the CPU seconds of the build."""
    from pynndescent import NNDescent

    start = time.process_time()
    index = NNDescent(to_float(vectors), metric="cosine", random_state=0)
    index.prepare()
    return lambda queries, k: index.query(queries, k=k)[0], time.process_time() - start
