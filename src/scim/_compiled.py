"""Compile functions with numba, cached between runs if possible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def njit(**options: Any) -> Callable[[F], F]:
    """Compile a function without Python objects; see ``numba.njit`` for the options.

    Compiled functions are cached next to the module, in the user's cache or in ``NUMBA_CACHE_DIR``. If none of them is
    writable, as in a container with a read-only installation, each run compiles again, which takes seconds.

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
