"""The command ``scim``: the verbs of the package on files."""

from __future__ import annotations

from ._app import app, main

__all__ = ["app", "main"]
