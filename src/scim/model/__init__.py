"""The scvi-tools model that trains an encoder. It imports scvi when a name is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._augment import Augmentation
    from ._model import SCIM
    from ._plan import PlanOptions

__all__ = ["SCIM", "Augmentation", "PlanOptions"]

_HOME = {"SCIM": "_model", "Augmentation": "_augment", "PlanOptions": "_plan"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
