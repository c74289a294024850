"""Reference: where embedded cells live and are searched."""

from __future__ import annotations

from ..index import Hits
from ._reference import Reference
from .sharing import install_reference, push_reference
from .store import ReferenceFolderError, references

__all__ = ["Hits", "Reference", "ReferenceFolderError", "install_reference", "push_reference", "references"]
