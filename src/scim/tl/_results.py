"""Check, merge, describe and write the results of the verbs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData

    from ..reference import Reference


def check_writable(adata: AnnData, key: str, *, copy: bool) -> None:
    """Raise ValueError, before any work, if results cannot be written to ``adata`` or to ``uns[key]``."""
    if adata.is_view and adata.isbacked and not copy:
        raise ValueError(
            "adata is a view of a backed file, which cannot be written to. Pass adata.to_memory(), or copy=True."
        )
    if not isinstance(key, str) or not key.strip() or "/" in key:
        raise ValueError(f"key_added must be a name without a slash (a folder in files), got {key!r}.")
    there = adata.uns.get(key, {})
    if not isinstance(there, Mapping):
        raise ValueError(
            f"adata.uns[{key!r}] is a {type(there).__name__} that scim did not write. Choose another key_added=, or "
            "delete it."
        )


def copy_of(data: Any) -> Any:
    """Copy an AnnData or MuData; backed data are read into memory."""
    backed = getattr(data, "isbacked", False) and hasattr(data, "to_memory")
    return data.to_memory() if backed else data.copy()


def write_results(adata: AnnData, results: Mapping[str, Mapping[str, Any]], *, replace: Sequence[str] = ()) -> None:
    """Write the results of a verb to ``obs``, ``obsm`` and ``uns``; None removes an entry.

    Results are added to existing dicts in ``uns``; dicts named in ``replace`` are replaced. A view is copied first, as
    in scanpy.
    """
    if adata.is_view:
        adata._init_as_actual(adata.copy())
    for slot in ("obsm", "obs"):
        table = getattr(adata, slot)
        for name, values in results.get(slot, {}).items():
            if values is not None:
                table[name] = values
            elif name in table:
                del table[name]
    for name, values in results.get("uns", {}).items():
        old = adata.uns.get(name)
        values = {**old, **values} if isinstance(old, Mapping) and name not in replace else values
        adata.uns[name] = {entry: value for entry, value in values.items() if value is not None}


def merge_results(*parts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Merge the results of several steps; dicts of the same name in ``uns`` are joined."""
    joined: dict[str, dict[str, Any]] = {"obs": {}, "obsm": {}, "uns": {}}
    for part in parts:
        for slot, entries in part.items():
            for name, values in entries.items():
                old = joined[slot].get(name)
                joined[slot][name] = {**old, **values} if slot == "uns" and isinstance(old, dict) else values
    return joined


def storable(name: str) -> str:
    """Replace slashes, which are folders in h5ad and zarr files."""
    return name.replace("/", "|")


def filter_text(condition: Any) -> str:
    """Write a filter as text, for the record."""
    return "" if condition is None else str(condition)


def reference_record(reference: Reference, **more: Any) -> dict[str, Any]:
    """Describe a reference for the record, with ``more`` facts and the versions of its packages."""
    info = reference.info()
    about = {"name": reference.path.name, "cells": info["cells"], "encoder_id": info["encoder"]}
    return {"reference": {**about, "calibration": info["calibration"], **more}, "versions": info["made_with"]}
