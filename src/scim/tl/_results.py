"""What the verbs share: the embedding they start from, and how results are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData


def check_writable(adata: AnnData, key: str, *, copy: bool) -> None:
    """Refuse, before any work, data that results cannot be written to.

    Raises
    ------
    ValueError
        A view of a file, which cannot become an object of its own; or ``uns[key]`` holds what scim did not write.
    """
    if adata.is_view and adata.isbacked and not copy:
        raise ValueError(
            "adata is a view of a backed file, which cannot be written to. Pass adata.to_memory(), or copy=True."
        )
    if not isinstance(key, str) or not key.strip() or "/" in key:
        raise ValueError(f"key_added must be a name without a slash, which files take for a folder, got {key!r}.")
    there = adata.uns.get(key, {})
    if not isinstance(there, Mapping):
        raise ValueError(
            f"adata.uns[{key!r}] holds a {type(there).__name__} that scim did not write. Choose another key_added=, or "
            "delete it."
        )


def copy_of(data: Any) -> Any:
    """Copy of an AnnData or MuData; a backed one comes into memory."""
    backed = getattr(data, "isbacked", False) and hasattr(data, "to_memory")
    return data.to_memory() if backed else data.copy()


def write_results(adata: AnnData, results: Mapping[str, Mapping[str, Any]], *, replace: Sequence[str] = ()) -> None:
    """Write to ``obs``, ``obsm`` and ``uns`` what a verb has computed in full.

    Entries of ``uns`` are added to, but those named in ``replace`` take the place of old ones. What is None is removed.

    A view becomes an object of its own first, as scanpy does it.
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
    """Join what several steps want written; later entries of ``uns`` are added to earlier ones of the name."""
    joined: dict[str, dict[str, Any]] = {"obs": {}, "obsm": {}, "uns": {}}
    for part in parts:
        for slot, entries in part.items():
            for name, values in entries.items():
                old = joined[slot].get(name)
                joined[slot][name] = {**old, **values} if slot == "uns" and isinstance(old, dict) else values
    return joined


def storable(name: str) -> str:
    """Name as a column that h5ad and zarr can store: they take a slash for a folder."""
    return name.replace("/", "|")


def filter_text(condition: Any) -> str:
    """Filter in words, for the record."""
    return "" if condition is None else str(condition)
