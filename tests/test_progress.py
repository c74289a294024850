"""The progress bar counts what it is told, and stays silent for quick work."""

from __future__ import annotations

import pytest

from scim._progress import progress_bar, track


def test_track_yields_everything_in_order_and_is_silent_when_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([3, 1, 2], desc="three")) == [3, 1, 2]
    assert capsys.readouterr().err.strip() == ""


def test_bar_counts_and_closes() -> None:
    with progress_bar(10, desc="cells", enabled=True) as bar:
        bar.update(4)
        assert bar.n == 4 and bar.total == 10
    assert bar.disable or bar.last_print_n <= 10


def test_bar_can_be_switched_off() -> None:
    with progress_bar(10, desc="cells", enabled=False) as bar:
        assert bar.disable
