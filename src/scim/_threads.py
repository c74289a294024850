"""Work shared among threads of Python's own."""

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

#: Cells that a thread works on at a time: numbers of these by labels and terms stay in its cache.
_BLOCK = 1_024


def in_threads(n: int, work: Callable[[int, int], object]) -> None:
    """Call ``work(first, last)`` for parts of 0..n, each in a thread; it has to let go of the GIL.

    Threads of Python's own, and not numba's: its default ones kill the process where two callers meet.
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
    """Call ``work`` for blocks of n cells, some in each thread; which cells are in a block depends on n alone."""

    def blocks(first: int, last: int) -> None:
        for block in range(first, last):
            work(slice(block * _BLOCK, min((block + 1) * _BLOCK, n)))

    with one_thread_of_blas():
        in_threads(-(-n // _BLOCK), blocks)


def one_thread_of_blas() -> AbstractContextManager[Any]:
    """Keep BLAS to the thread that calls it, while threads of ours share the work."""
    return _blas().limit(limits=1, user_api="blas")


@contextmanager
def one_thread_of_faiss() -> Iterator[None]:
    """Keep faiss to the thread that calls it: ours share the work, and its own spend more on waiting than they save."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


@cache
def _blas() -> ThreadpoolController:
    """Handle on the BLAS libraries that are loaded."""
    # Numba's products are of SciPy's BLAS, which is found only where it is loaded already.
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _n_threads() -> int:
    """As many as torch would take, where it is there, and else as the process may use."""
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
