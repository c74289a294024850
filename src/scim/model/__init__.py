"""The scvi-tools model that trains an encoder. Only :class:`SCIM` imports scvi, when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._model import SCIM

__all__ = ["SCIM"]


def __getattr__(name: str) -> Any:
    if name == "SCIM":
        return import_module("._model", __name__).SCIM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
