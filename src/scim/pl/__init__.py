"""Plots of what the verbs wrote."""

from __future__ import annotations

from typing import Any

__all__ = [
    "clusters",
    "confidence",
    "confusion",
    "hits",
    "labels",
    "markers",
    "novelty",
    "ontology",
    "palette",
    "training",
]

_HOME = {name: f"_{name}" for name in __all__} | {"palette": "_colours"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
