"""Functions that numba compiles, and keeps from one run to the next where it can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def njit(**options: Any) -> Callable[[F], F]:
    """Compile a function without Python objects; see ``numba.njit`` for the options.

    What was compiled is kept beside the module, in the user's cache or in ``NUMBA_CACHE_DIR``. Where none of them can
    be written to, as in a container with a read-only installation, each run compiles anew, which takes seconds.

    Examples
    --------
    >>> @njit(nogil=True)
    ... def twice(x):
    ...     return 2 * x
    >>> twice(3)
    6
    """

    def compiled(function: F) -> F:
        try:
            made: F = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # "no locator available"
            made = numba.njit(**options)(function)
        return made

    return compiled
