"""scim.tl.embed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _keys
from .._validate import get_adata
from ._cells import resolve_encoder
from ._results import check_writable, copy_of, write_results

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from ..encoder import Encoder
    from ..reference import Reference


def embed(
    adata: AnnData | Any,
    reference: Reference | str | Path | None = None,
    *,
    encoder: Encoder | str | Path | None = None,
    layer: str | None = None,
    gene_column: str | None = None,
    mod: str | None = None,
    key_added: str = _keys.DEFAULT,
    precision: str = "auto",
    device: str = "auto",
    copy: bool = False,
) -> AnnData | Any | None:
    """Place cells in the space of an encoder, where near means alike.

    Parameters
    ----------
    adata
        AnnData, or MuData with ``mod``; counts or log1p values, in memory, backed or Dask.
    reference
        A reference, its path or its name: its encoder is used. The bundled reference of blood by default.
    encoder
        An encoder, or its path, instead of a reference.
    layer
        Where the values are: a layer, ``"X"`` or ``"raw"``. None finds them, counts first.
    gene_column
        Column of ``var`` with gene symbols or Ensembl ids. None finds them.
    mod
        Modality of a MuData.
    key_added
        Name under which results are written.
    precision
        ``"fp32"``, ``"bf16"`` or ``"auto"``.
    device
        ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
    copy
        Return a copy instead of writing to ``adata``.

    Returns
    -------
    None, or the copy. Writes ``obsm[f"X_{key_added}"]``, float32 (n_cells, d), rows of length 1 (0 for a cell without
    counts), and ``uns[key_added]["embed"]``: the encoder, genes found, kind of input and versions.

    Raises
    ------
    ValueError
        Both ``reference`` and ``encoder`` are given; too few genes are shared; the values are neither
        counts nor log1p.
    KeyError
        There is no such layer, column or modality.

    Examples
    --------
    >>> import numpy as np
    >>> import scim
    >>> from scim.genes._space import GeneSpace
    >>> adata = scim.datasets.pbmc68k()
    >>> genes = GeneSpace.from_adata(adata)
    >>> matrix = np.random.default_rng(0).normal(size=(16, len(genes)))
    >>> encoder = scim.Encoder(
    ...     genes, {"output.weight": matrix, "output.bias": np.zeros(16)}
    ... )  # stands for a trained one
    >>> scim.tl.embed(adata, encoder=encoder)
    >>> adata.obsm["X_scim"].shape
    (700, 16)
    """
    chosen = resolve_encoder(reference, encoder)
    data = get_adata(adata, mod=mod)
    check_writable(data, key_added, copy=copy)
    vectors, info = chosen.embed(
        data, layer=layer, gene_column=gene_column, precision=precision, device=device, return_info=True
    )
    out = copy_of(adata) if copy else adata
    write_results(
        get_adata(out, mod=mod),
        {"obsm": {_keys.obsm_embedding(key_added): vectors}, "uns": {key_added: {"embed": info}}},
    )
    return out if copy else None
