"""Share work among Python threads, while BLAS and faiss use one thread each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

#: Cells per block: their arrays by labels and terms fit into the cache of a core.
_BLOCK = 1_024


def in_threads(n: int, work: Callable[[int, int], object]) -> None:
    """Call ``work(first, last)``, which must release the GIL, for parts of 0..n, each in a thread.

    These are Python threads because numba's default threads kill the process if two callers use them at once.
    """
    n_threads = max(1, min(_n_threads(), n))
    bounds = np.linspace(0, n, n_threads + 1).astype(int).tolist()
    if n_threads == 1:
        work(0, n)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        for done in [pool.submit(work, a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]:
            done.result()


def in_blocks(n: int, work: Callable[[slice], object]) -> None:
    """Call ``work`` for blocks of n cells in threads; the blocks depend only on n, not on the number of threads."""

    def blocks(first: int, last: int) -> None:
        for block in range(first, last):
            work(slice(block * _BLOCK, min((block + 1) * _BLOCK, n)))

    with one_thread_of_blas():
        in_threads(-(-n // _BLOCK), blocks)


def one_thread_of_blas() -> AbstractContextManager[Any]:
    """Limit BLAS to the calling thread, while Python threads share the work."""
    return _blas().limit(limits=1, user_api="blas")


@contextmanager
def one_thread_of_faiss() -> Iterator[None]:
    """Limit faiss to the calling thread: Python threads share the work, and more threads would mostly wait."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


@cache
def _blas() -> ThreadpoolController:
    """Return a handle on the loaded BLAS libraries."""
    # numba uses SciPy's BLAS, which the controller finds only if it is loaded.
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _n_threads() -> int:
    """Return torch's number of threads if it is loaded, or else OMP_NUM_THREADS, or else the cores of the process."""
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
