"""Warnings that point at the user's own line."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

_PACKAGE = __name__.partition(".")[0]


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, and name the line that called scim as the place.

    The number of calls between that line and this one does not matter. The command line counts as a caller of scim.

    Parameters
    ----------
    message
        What is wrong, and what to do.
    category
        Class of the warning.
    """
    frame = _calling_frame(sys._getframe(1))
    where = frame.f_globals
    warnings.warn_explicit(
        message,
        category,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=where.get("__name__", "<unknown>"),
        registry=where.setdefault("__warningregistry__", {}),
    )


def _calling_frame(inner: FrameType) -> FrameType:
    """Find the frame that called the outermost function of scim."""
    frame: FrameType | None = inner
    found = inner
    while frame is not None:
        if _is_inside(frame):
            found = frame.f_back or frame
        frame = frame.f_back
    return found


def _is_inside(frame: FrameType) -> bool:
    """Whether a frame runs code of scim that is not of the command line."""
    parts = str(frame.f_globals.get("__name__", "")).split(".")
    return parts[0] == _PACKAGE and parts[1:2] != ["cli"]
