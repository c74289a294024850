"""Reference: where embedded cells live and are searched."""

from __future__ import annotations

from ..index._search import Hits
from ._reference import Reference
from .sharing._hub import push_reference
from .sharing._install import install_reference, references
from .store._manifest import ReferenceFolderError

__all__ = ["Hits", "Reference", "ReferenceFolderError", "install_reference", "push_reference", "references"]
