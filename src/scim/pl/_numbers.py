"""Numbers as text in figures."""

from __future__ import annotations


def percent(share: float) -> str:
    """Write a share in percent, with one digit if it is small.

    Examples
    --------
    >>> percent(0.123), percent(0.0042), percent(0.0001), percent(0)
    ('12 %', '0.4 %', '<0.1 %', '0 %')
    """
    if 0 < share < 0.0005:
        return "<0.1 %"
    digits = 1 if 0 < share < 0.0095 else 0
    return f"{100 * share:.{digits}f} %"
