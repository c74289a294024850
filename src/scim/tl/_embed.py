"""scim.tl.embed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _keys
from .._validate import get_adata
from ._embedding import resolve_encoder
from ._results import check_writable, copy_of, write_results

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from ..encoder import Encoder
    from ..genes import OrganismChoice
    from ..reference import Reference


def embed(
    adata: AnnData | Any,
    reference: Reference | str | Path | None = None,
    *,
    encoder: Encoder | str | Path | None = None,
    layer: str | None = None,
    gene_column: str | None = None,
    organism: OrganismChoice = "auto",
    mod: str | None = None,
    key_added: str = _keys.DEFAULT,
    precision: str = "auto",
    device: str = "auto",
    copy: bool = False,
) -> AnnData | Any | None:
    """Embed cells with an encoder: similar cells get similar vectors.

    Parameters
    ----------
    adata
        AnnData, or MuData with ``mod``, with counts or log1p values; in memory, backed or Dask.
    reference
        Reference, or its path or name, whose encoder is used. The default is the bundled reference of the human body,
        ``"human"``; ``"blood"`` is a smaller one.
    encoder
        Encoder, or its path, instead of a reference.
    layer
        Layer with the values, ``"X"`` or ``"raw"``. None finds them automatically, counts first.
    gene_column
        Column of ``var`` with gene symbols or Ensembl ids. None finds it automatically.
    organism
        ``"human"`` or ``"mouse"``; ``"auto"`` recognises it by the names of the genes. Genes of mouse are mapped to
        their human orthologues, and the counts of several genes with the same orthologue are summed.
    mod
        Modality of a MuData.
    key_added
        Name of the results.
    precision
        ``"fp32"`` or ``"bf16"``; ``"auto"`` is fp32 on every machine.
    device
        ``"cpu"``, ``"cuda"``, ``"mps"`` or ``"auto"``.
    copy
        Return a copy instead of writing to ``adata``.

    Returns
    -------
    None, or the copy. Writes ``obsm[f"X_{key_added}"]``, float32 (n_cells, d), rows of length 1 (0 for a cell without
    counts), and ``uns[key_added]["embed"]``: encoder, number of genes found, kind of values and versions. Of mouse
    cells, ``uns[key_added]["embed"]["genes"]`` also has ``n_mapped`` and ``share_mapped`` (genes of the data with a
    human orthologue), and ``share_expression_mapped`` (share of the counts that are of these genes).

    Raises
    ------
    ValueError
        Both ``reference`` and ``encoder`` are given; too few genes are shared; genes are of human and of mouse; the
        values are neither counts nor log1p values.
    KeyError
        The layer, column or modality is not there.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc10k_protein()
    >>> scim.tl.embed(adata)
    >>> adata.obsm["X_scim"].shape
    (200, 64)
    """
    chosen = resolve_encoder(reference, encoder)
    data = get_adata(adata, mod=mod)
    check_writable(data, key_added, copy=copy)
    where: dict[str, Any] = {"layer": layer, "gene_column": gene_column, "organism": organism}
    vectors, info = chosen.embed(data, **where, precision=precision, device=device, return_info=True)
    out = copy_of(adata) if copy else adata
    write_results(
        get_adata(out, mod=mod),
        {"obsm": {_keys.obsm_embedding(key_added): vectors}, "uns": {key_added: {"embed": info}}},
    )
    return out if copy else None
