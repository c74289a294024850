"""What the verbs share: the embedding they start from, and how results are written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _keys
from .._validate import did_you_mean
from .._warn import warn
from ..encoder import Encoder
from ..reference import Reference
from ._records import Input, record_of, recorded_encoder

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData


@dataclass(frozen=True)
class Embedded:
    """Vectors to work with, float32 (n_cells, d), and what was found out if they were made just now."""

    vectors: np.ndarray
    info: dict[str, Any] | None

    def results(self, use_rep: str, key: str) -> dict[str, dict[str, Any]]:
        """Return what to write with the verb's own results: nothing, if the embedding was there."""
        if self.info is None:
            return {}
        return {"obsm": {use_rep: self.vectors}, "uns": {key: {"embed": self.info}}}


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


def find_embedding(adata: AnnData, reference: Reference, *, use_rep: str, key: str, layer: str | None) -> Embedded:
    """Embedding in ``obsm[use_rep]``, or one made now.

    Raises
    ------
    KeyError
        There is none, and ``use_rep`` is not the name that scim gives one.
    ValueError
        It was made by another encoder, or is of another width.
    """
    own = use_rep in (_keys.obsm_embedding(), _keys.obsm_embedding(key))
    if use_rep not in adata.obsm:
        if not own:
            raise KeyError(f"use_rep={use_rep!r} is not in adata.obsm. {did_you_mean(use_rep, adata.obsm.keys())}")
        vectors, info = reference.encoder.embed(adata, layer=layer, return_info=True)
        if len(vectors) and not vectors.any():
            warn(f"None of the {len(vectors):,} cells has a count of the encoder's genes.")
        return Embedded(vectors, info)
    vectors = np.asarray(adata.obsm[use_rep], dtype=np.float32)
    made_by = recorded_encoder(adata, use_rep)
    remedy = (
        f"Embed the cells with the reference's: scim.tl.embed(adata, reference), after del adata.obsm[{use_rep!r}]."
    )
    if made_by is not None and made_by != reference.encoder_id:
        raise ValueError(
            f"adata.obsm[{use_rep!r}] was made by encoder {made_by}, the reference by {reference.encoder_id}: their "
            f"spaces have nothing to do with one another. {remedy}"
        )
    if vectors.ndim != 2 or vectors.shape[1] != reference.n_latent:
        raise ValueError(
            f"adata.obsm[{use_rep!r}] has the shape {vectors.shape}, the reference's encoder makes vectors of "
            f"{reference.n_latent}. {remedy}"
        )
    if made_by is None:
        warn(f"adata.obsm[{use_rep!r}] has no record of its encoder; it is taken to be the reference's.")
    elif layer is not None and ((made := Input.of(record_of(adata, use_rep), adata)) is None or made.layer != layer):
        warn(f"layer={layer!r} is not used for the embedding, for adata.obsm[{use_rep!r}] is there already. {remedy}")
    return Embedded(vectors, None)


def choose_encoder(reference: Reference | str | Path | None, encoder: Encoder | str | Path | None) -> Encoder:
    """Take the encoder that is given, or that of the reference.

    Raises
    ------
    ValueError
        Both are given.
    TypeError
        ``encoder`` is something else.
    """
    if encoder is None:
        return Reference.open(reference).encoder
    if reference is not None:
        raise ValueError("Give a reference or an encoder, not both: a reference has its own encoder.")
    if not isinstance(encoder, Encoder | str | os.PathLike):
        remedy = " Pass it as reference=." if isinstance(encoder, Reference) else ""
        raise TypeError(f"encoder must be a scim.Encoder or the path of one, got {type(encoder).__name__}.{remedy}")
    return encoder if isinstance(encoder, Encoder) else Encoder.load(encoder)


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
