"""Progress bar, in a terminal or notebook; silent for work that takes less than two seconds."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm.std import tqdm

_DELAY_SECONDS = 2.0
#: Seconds between lines if stderr is not a terminal, as in the log of a job; None writes none. Set by the command line.
log_every: float | None = None


@contextmanager
def progress_bar(total: int | None, *, desc: str, unit: str = "cells", enabled: bool | None = None) -> Iterator[tqdm]:
    """Open a bar, to call ``update(n)`` on.

    ``enabled=None`` shows it in a terminal and in a notebook, writes lines to a log if :data:`log_every` is set, and is
    silent elsewhere.
    """
    with warnings.catch_warnings():  # without ipywidgets, a notebook shows the bar as text, which is well enough
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

    # None hides the bar if stderr is not a terminal.
    disable = (False if _in_notebook() else None) if enabled is None else not enabled
    how: dict[str, Any] = {"delay": _DELAY_SECONDS, "disable": disable}
    if enabled is None and log_every is not None and not sys.stderr.isatty():
        how = {"delay": log_every, "mininterval": log_every, "maxinterval": 2 * log_every, "file": _Lines()}
    with tqdm(total=total, desc=desc, unit=f" {unit}", leave=False, **how) as bar:
        yield bar


def _in_notebook() -> bool:
    """Whether this is a Jupyter kernel, whose stderr is not a terminal, but shows bars."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config


class _Lines:
    """A file that writes each state of a bar as a line to stderr."""

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()
