"""Functions that numba compiles."""

from __future__ import annotations

import pytest
from numba.core import caching

from scim._compiled import njit
from scim.tl._hit_tables import count_hits


def test_without_a_place_for_the_cache_functions_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])

    @njit(nogil=True)
    def twice(x: int) -> int:
        return 2 * x

    assert twice(3) == 6 and type(twice._cache).__name__ == "NullCache"


def test_what_was_compiled_is_kept() -> None:
    assert type(count_hits._cache).__name__ == "FunctionCache"
