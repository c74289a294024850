"""Reference: where embedded cells live and are searched."""

from __future__ import annotations

from ._hub import push_reference
from ._manifest import ReferenceFolderError
from ._named import install_reference, references
from ._reference import Reference
from ._search import Hits

__all__ = ["Hits", "Reference", "ReferenceFolderError", "install_reference", "push_reference", "references"]
