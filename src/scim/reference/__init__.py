"""References: build, open, search and share them."""

from __future__ import annotations

from .._disk import FolderError
from ..index import Hits
from ..labels import LabelModel
from ._reference import Reference
from .sharing import install_reference, push_reference
from .store import ReferenceFolderError, references

__all__ = [
    "FolderError", "Hits", "LabelModel", "Reference", "ReferenceFolderError",
    "install_reference", "push_reference", "references",
]  # fmt: skip
