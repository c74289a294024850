"""Run an encoder over the values of cells, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._progress import progress_bar
from .._validate import check_option, check_positive_int
from .._version import scim_version
from ..counts import InputKind, Values, input_kind, organism_facts, place_name, read_ahead, refuse_mixed
from ..genes import GeneSpace
from ._normalized import OtherScale, UnusableValues, to_blocked_lognormal

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from ._forward import Forward


def values_of_matrix(X: Any, genes: GeneSpace, kind: InputKind | Literal["auto", "counts", "log1p"]) -> Values:
    """Check a matrix whose columns are the genes of an encoder, and recognise its values if ``kind`` is ``"auto"``."""
    if not hasattr(X, "shape"):
        raise TypeError(f"X must be an array or a sparse matrix, got {type(X).__name__}.")
    if len(X.shape) != 2 or X.shape[1] != len(genes):
        raise ValueError(
            f"X must be (n_cells, {len(genes)}), a column for each gene of the encoder, got {X.shape}. "
            "Use embed(adata), which puts the genes in order."
        )
    if isinstance(kind, str):
        check_option(kind, ("auto", "counts", "log1p"), argument="kind")
        kind = input_kind(X) if kind == "auto" else InputKind(kind, None, "as given")
    elif not isinstance(kind, InputKind):
        raise TypeError(f'kind must be "auto", "counts", "log1p" or an InputKind, got {type(kind).__name__}.')
    return Values("X", X, kind, genes.match(list(genes.names), organism=genes.organism))


def embed_blocks(
    forward: Forward, values: Values, *, chunk_size: int, start: int = 0
) -> Iterator[tuple[slice, np.ndarray]]:
    """Embed cells from position ``start`` on: yield the positions of each block and its vectors.

    A value that is negative, NaN or infinite is a ValueError, whose message says in which cells.
    """
    check_positive_int(chunk_size, argument="chunk_size")
    check = True
    rows = slice(start, None) if start else None
    for within, block in read_ahead(values.blocks(rows, chunk_size=chunk_size), values.X):
        span = slice(within.start + start, within.stop + start)
        try:
            normalized = to_blocked_lognormal(block, values.genes, values.kind, check=check)
        except UnusableValues as error:  # the kind of values was judged by a sample of the cells
            raise ValueError(
                f"Cells {span.start} to {span.stop - 1} hold {error}. Give raw counts or log1p values: name the "
                "layer that holds them with layer=."
            ) from error
        except OtherScale:
            _refuse_other_scale(values)
            check = False
            normalized = to_blocked_lognormal(block, values.genes, values.kind)
        del block  # frees memory before the next block is read
        vectors = forward(normalized)
        del normalized
        yield span, vectors


def _refuse_other_scale(values: Values) -> None:
    """Raise if cells are certainly on several scales."""
    where, base = place_name(values.place), values.kind.base
    refuse_mixed(values.X, where=where, base=base, columns=values.genes.target >= 0, obs=values.obs)


def embed_all(forward: Forward, values: Values, *, n_latent: int, chunk_size: int) -> np.ndarray:
    """Embed all cells behind a progress bar: float32 (n_cells, n_latent)."""
    vectors = np.empty((values.X.shape[0], n_latent), dtype=np.float32)
    with progress_bar(len(vectors), desc="Embedding") as bar:
        for span, part in embed_blocks(forward, values, chunk_size=chunk_size):
            vectors[span] = part
            bar.update(len(part))
    return vectors


def embedding_info(values: Values, vectors: np.ndarray, *, encoder_id: str) -> dict[str, Any]:
    """Describe what ``vectors`` were made from, as plain values."""
    from importlib.metadata import version

    genes = values.genes
    return {
        "encoder_id": encoder_id,
        "input": {"layer": values.place, "source": place_name(values.place), **values.kind.to_dict()},
        "genes": {
            "source": genes.source,
            "n_matched": genes.n_matched,
            "n_encoder": len(genes.space),
            "fraction": genes.fraction,
            "via": dict(genes.via),
            **organism_facts(values),
        },
        "n_cells_without_counts": int((~vectors.any(axis=1)).sum()),
        "versions": {"scim": scim_version(), "torch": version("torch"), "numpy": np.__version__},
    }


def lognormal_profiles(values: Values, rows: np.ndarray) -> np.ndarray:
    """Profiles of cells over the encoder's genes as log1p of 1e4 per cell, float32 (n, n_genes)."""
    blocks = [to_blocked_lognormal(block, values.genes, values.kind) for _, block in values.blocks(rows)]
    return np.concatenate([block.toarray() for block in blocks])


def embed_with(encoder: Callable[..., np.ndarray], linear: csr_matrix, measured: np.ndarray) -> np.ndarray:
    """Embed cells with a subset of their genes, normalised over this subset: unit vectors, float32 (n, d).

    ``linear`` are counts, or what log1p was taken of, over the encoder's genes, (n, n_genes). ``measured`` are the
    genes to use, bool (n_genes,).
    """
    matrix = linear.copy()
    matrix.data = np.where(measured[matrix.indices], matrix.data, np.float32(0))
    matrix.eliminate_zeros()
    return encoder(matrix, kind="counts")
