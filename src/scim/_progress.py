"""One progress bar for every room; silent for work that is over within two seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tqdm.std import tqdm

T = TypeVar("T")

_DELAY_SECONDS = 2.0


@contextmanager
def progress_bar(total: int | None, *, desc: str, unit: str = "cells", enabled: bool | None = None) -> Iterator[tqdm]:
    """Open a bar; call ``update(n)`` on what is yielded. ``enabled=None``: where a person can see it."""
    from tqdm.auto import tqdm

    disable = None if enabled is None else not enabled
    with tqdm(total=total, desc=desc, unit=f" {unit}", delay=_DELAY_SECONDS, disable=disable, leave=False) as bar:
        yield bar


def track(items: Iterable[T], *, total: int | None = None, desc: str, unit: str = "it") -> Iterator[T]:
    """Iterate over ``items`` behind a bar."""
    with progress_bar(total, desc=desc, unit=unit) as bar:
        for item in items:
            yield item
            bar.update(1)
