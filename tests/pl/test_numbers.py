"""Shares as text."""

from __future__ import annotations

import pytest

from scim.pl._numbers import percent


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.005, "0.5 %"),
        (0.0094, "0.9 %"),
        (0.0096, "1 %"),
        (0.0004, "<0.1 %"),
        (0.126, "13 %"),
    ],
)
def test_shares_have_few_digits(share: float, text: str) -> None:
    assert percent(share) == text
