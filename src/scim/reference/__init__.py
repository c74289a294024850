"""Reference: where embedded cells live and are searched."""

from __future__ import annotations

from ._manifest import ReferenceFolderError
from ._named import install, references
from ._reference import Reference
from ._search import Hits

__all__ = ["Hits", "Reference", "ReferenceFolderError", "install", "references"]
