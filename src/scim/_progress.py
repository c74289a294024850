"""One progress bar for every room; silent for work that is over within two seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tqdm.std import tqdm

T = TypeVar("T")

_DELAY_SECONDS = 2.0
#: Seconds between lines where no person watches, such as in the log of a job; None: there are none. The command line
#: sets it, whose user asked for nothing else.
log_every: float | None = None


@contextmanager
def progress_bar(total: int | None, *, desc: str, unit: str = "cells", enabled: bool | None = None) -> Iterator[tqdm]:
    """Open a bar; call ``update(n)`` on what is yielded. ``enabled=None``: where a person can see it, or in a log."""
    from tqdm.auto import tqdm

    disable = None if enabled is None else not enabled
    how: dict[str, Any] = {"delay": _DELAY_SECONDS, "disable": disable}
    if enabled is None and log_every is not None and not sys.stderr.isatty():
        how = {"delay": log_every, "mininterval": log_every, "maxinterval": 2 * log_every, "file": _Lines()}
    with tqdm(total=total, desc=desc, unit=f" {unit}", leave=False, **how) as bar:
        yield bar


class _Lines:
    """Where a bar writes each of its states as a line of its own."""

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def track(items: Iterable[T], *, total: int | None = None, desc: str, unit: str = "it") -> Iterator[T]:
    """Iterate over ``items`` behind a bar."""
    with progress_bar(total, desc=desc, unit=unit) as bar:
        for item in items:
            yield item
            bar.update(1)
