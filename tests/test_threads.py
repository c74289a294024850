"""Work shared among threads."""

from __future__ import annotations

import numpy as np
import pytest

from scim._threads import in_threads


def test_threads_cover_everything_once_and_pass_errors_on() -> None:
    seen = np.zeros(101, dtype=int)

    def work(first: int, last: int) -> None:
        seen[first:last] += 1

    in_threads(101, work)
    assert (seen == 1).all()
    in_threads(0, work)
    with pytest.raises(ZeroDivisionError):
        in_threads(5, lambda a, b: 1 // 0)
