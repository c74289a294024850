"""What the verbs share: the embedding they start from, and how results are written."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import _keys
from .._progress import progress_bar
from .._validate import did_you_mean
from ..encoder import Encoder
from ..reference import Reference
from ..reference._landmarks import embed_with, values_of

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from scipy.sparse import csr_matrix


#: Cells that the depth of a query is told from, and cells whose expression is read at a time.
_DEPTH_SAMPLE, _CELLS = 2_000, 10_000


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
        warnings.warn(
            f"adata.obsm[{use_rep!r}] has no record of its encoder; it is taken to be the reference's.",
            UserWarning,
            stacklevel=3,
        )
    elif layer is not None and ((made := _Input.of(_record_of(adata, use_rep), adata)) is None or made.layer != layer):
        warnings.warn(
            f"layer={layer!r} is not used for the embedding, for adata.obsm[{use_rep!r}] is there already. {remedy}",
            UserWarning,
            stacklevel=3,
        )
    return Embedded(vectors, None)


@dataclass(frozen=True)
class _Input:
    """What cells were embedded from, as far as a record tells.

    Attributes
    ----------
    layer
        Where their values were: a layer, ``"X"`` or ``"raw"``.
    gene_column
        Column of ``var`` with their genes; None for its index, or where the column is gone.
    is_counts
        The values are counts.
    n_matched, n_encoder
        Genes that were found, of those of the encoder.
    """

    layer: str
    gene_column: str | None
    is_counts: bool
    n_matched: int
    n_encoder: int

    @classmethod
    def of(cls, record: Mapping[str, Any], adata: AnnData) -> _Input | None:
        """Read the record of an embedding; None where there is none."""
        values, genes = record.get("input"), record.get("genes")
        if not values or not genes:
            return None
        # Records of old have the layer in words only.
        layer = values.get("layer") or re.sub(r"""^layers\[(['"])(.*)\1\]$""", r"\2", str(values["source"]))
        column = str(genes["source"]) if genes["source"] in adata.var else None
        return cls(str(layer), column, values["kind"] == "counts", int(genes["n_matched"]), int(genes["n_encoder"]))


def measured_genes(adata: AnnData, reference: Reference, embedded: Embedded, *, use_rep: str) -> np.ndarray | None:
    """Genes of the encoder that cells were embedded with, bool (n_genes,); None where all, unknown, or of no use."""
    made = _Input.of(embedded.info or _record_of(adata, use_rep), adata)
    if reference.landmarks is None or made is None or made.n_matched == made.n_encoder:
        return None
    gene_map = reference.encoder.genes.match_adata(adata, gene_column=made.gene_column, use_raw=made.layer == "raw")
    # Genes that were dropped since then say nothing of the embedding.
    return np.asarray(gene_map.measured) if gene_map.n_matched == made.n_matched else None


@dataclass(frozen=True, eq=False)
class Expression:
    """Values of cells over the genes of an encoder: counts, or what log1p was taken of.

    Attributes
    ----------
    read
        Gives those of some cells, whose positions ascend, float32 CSR (n, n_genes).
    n_cells
        Cells in all.
    is_counts
        They are known to be counts.
    """

    read: Callable[[np.ndarray], csr_matrix]
    n_cells: int
    is_counts: bool

    @classmethod
    def of(cls, adata: AnnData, reference: Reference, embedded: Embedded, *, use_rep: str) -> Expression | None:
        """Find what the cells were embedded from; None where that, or landmarks to compare it with, are not there."""
        if reference.landmarks is None or not adata.n_obs:
            return None
        # Without a record, the values are taken from where they would be to embed the cells.
        made = _Input.of(embedded.info or _record_of(adata, use_rep), adata)
        layer, column = (None, None) if made is None else (made.layer, made.gene_column)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of few genes was warned when they were embedded
                read = values_of(reference.encoder, adata, layer=layer, gene_column=column)
            read(np.arange(1))
        except (ValueError, KeyError):  # what the embedding was made of is not here any more
            return None
        return cls(read, adata.n_obs, made is not None and made.is_counts)

    def blocks(self, desc: str) -> Iterator[csr_matrix]:
        """Yield the values of all cells, some at a time, beside a progress bar."""
        with progress_bar(self.n_cells, desc=desc) as bar:
            for start in range(0, self.n_cells, _CELLS):
                rows = np.arange(start, min(start + _CELLS, self.n_cells))
                yield self.read(rows)
                bar.update(len(rows))

    def novelty(self, reference: Reference, measured: np.ndarray | None) -> np.ndarray | None:
        """P-values of novelty by expression, (n_cells,); None where the landmarks have no two studies to compare."""
        sample = self.read(np.unique(np.linspace(0, self.n_cells - 1, _DEPTH_SAMPLE).astype(int)))
        known = np.ones(sample.shape[1], dtype=bool) if measured is None else measured
        depth = float(np.median(np.asarray(sample[:, known].sum(axis=1)))) if self.is_counts else None
        profiles = reference.profiles(measured, depth=depth)
        if profiles is None:
            return None
        return np.concatenate([profiles.pvalues(block) for block in self.blocks("Comparing expression")])

    def embed(self, encoder: Encoder, genes: np.ndarray) -> np.ndarray:
        """Embed the cells with some of their genes, bool (n_genes,) -> unit vectors, float32 (n_cells, d)."""
        blocks = self.blocks("Embedding with the genes of all labels")
        return np.concatenate([embed_with(encoder, block, genes) for block in blocks])


def recorded_encoder(adata: AnnData, use_rep: str) -> str | None:
    """Id of the encoder that made ``obsm[use_rep]``, if scim wrote it."""
    made_by = _record_of(adata, use_rep).get("encoder_id")
    return None if made_by is None else str(made_by)


def recorded_genes(adata: AnnData, use_rep: str) -> str | None:
    """Column of ``var`` that the genes of ``obsm[use_rep]`` were found in; None for ``var_names``, or if unknown."""
    made = _Input.of(_record_of(adata, use_rep), adata)
    return None if made is None else made.gene_column


def _record_of(adata: AnnData, use_rep: str) -> Mapping[str, Any]:
    """Return what :func:`scim.tl.embed` noted of ``obsm[use_rep]``; empty where there is nothing."""
    found: Any = adata.uns
    for part in (use_rep.removeprefix("X_"), "embed"):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


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
    for name, values in results.get("obsm", {}).items():
        adata.obsm[name] = values
    for name, values in results.get("obs", {}).items():
        if values is not None:
            adata.obs[name] = values
        elif name in adata.obs:
            del adata.obs[name]
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
