"""scim: find similar cells.

Learn from labelled single-cell studies what makes cells alike, then embed, annotate and search new data
inside a scanpy workflow. The names below load on first use, so that ``import scim`` itself is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import datasets, get, pl, pp, tl
    from .encoder import Encoder
    from .model import SCIM
    from .ontology import CellOntology
    from .reference import Reference, install_reference, push_reference, references

__all__ = [
    "SCIM",
    "CellOntology",
    "Encoder",
    "Reference",
    "datasets",
    "get",
    "install_reference",
    "pl",
    "pp",
    "push_reference",
    "references",
    "tl",
]

_HOME = {
    "SCIM": "model",
    "Encoder": "encoder",
    "Reference": "reference",
    "install_reference": "reference",
    "push_reference": "reference",
    "references": "reference",
    "CellOntology": "ontology",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from ._version import scim_version

        return scim_version()
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
