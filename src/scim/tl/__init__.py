"""The verbs: embed, annotate, query and explain."""

from __future__ import annotations

from typing import Any

__all__ = ["annotate", "embed", "explain", "query"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        return getattr(import_module(f"._{name}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
