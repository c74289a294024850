"""Prepare data: merge studies, and map author labels to the Cell Ontology."""

from __future__ import annotations

from typing import Any

__all__ = ["cells_from_profiles", "harmonize_labels", "merge_studies"]

_HOME = {"cells_from_profiles": "_profiles", "harmonize_labels": "_harmonize", "merge_studies": "_merge"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
