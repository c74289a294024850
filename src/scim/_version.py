"""The version of scim, as installed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version


@cache
def scim_version() -> str:
    """Version of the installed distribution."""
    return version("scim-tools")
