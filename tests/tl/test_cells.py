"""Cells of the user: their embedding, its record, and their expression."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pytest

import scim
from scim.tl import _cells
from scim.tl._cells import NewCells
from scim.tl._embedding import EmbeddedFrom, record_of, recorded_genes, resolve_encoder


def read(adata: anndata.AnnData, reference: scim.Reference, use_rep: str = "X_scim") -> NewCells:
    return NewCells.read(adata, reference, use_rep=use_rep, key="scim", layer=None)


def test_cells_are_embedded_once(new: anndata.AnnData, reference: scim.Reference) -> None:
    cells = read(new, reference)
    assert "X_scim" not in new.obsm and cells.info is not None
    np.testing.assert_array_equal(cells.vectors, reference.encoder.embed(new))
    results = cells.results()
    new.obsm["X_scim"], new.uns["scim"] = results["obsm"]["X_scim"], results["uns"]["scim"]
    again = read(new, reference)
    assert again.info is None and again.results() == {}
    np.testing.assert_array_equal(again.vectors, cells.vectors)
    assert again.source == cells.source == EmbeddedFrom("X", None, new.n_vars, len(reference.encoder.genes))


def test_only_names_that_scim_writes_are_embedded(new: anndata.AnnData, reference: scim.Reference) -> None:
    mine = NewCells.read(new, reference, use_rep="X_mine", key="mine", layer=None)
    assert set(mine.results()["uns"]) == {"mine"}
    with pytest.raises(KeyError, match="use_rep='X_mine' is not in adata.obsm.*X_umap"):
        read(new, reference, use_rep="X_mine")


def test_record_of_an_embedding(new: anndata.AnnData, reference: scim.Reference) -> None:
    assert record_of(new, "X_scim") == {}
    assert recorded_genes(new, "X_scim", "mouse") == {"gene_column": None, "organism": "mouse"}
    new.var["symbol"] = new.var_names
    new.layers["mine"] = new.X.copy()
    scim.tl.embed(new, reference, layer="mine", gene_column="symbol", key_added="other")
    assert record_of(new, "X_other")["encoder_id"] == reference.encoder_id
    assert recorded_genes(new, "X_other", "auto") == {"gene_column": "symbol", "organism": "human"}
    source = EmbeddedFrom.of(record_of(new, "X_other"), new)
    assert source is not None
    assert source.places() == [(layer, "symbol") for layer in ("mine", "counts", "raw", "X")]
    del new.var["symbol"]
    assert recorded_genes(new, "X_other", "auto")["gene_column"] is None
    for broken in ("text", {"embed": "text"}, {"embed": {"input": {}, "genes": {}}}):
        new.uns["other"] = broken
        assert EmbeddedFrom.of(record_of(new, "X_other"), new) is None


def test_values_with_most_genes_of_the_embedding_are_found(new: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.embed(new, reference)
    whole = read(new, reference).expression
    assert whole is not None and whole.n_matched == new.n_vars and whole.n_cells == new.n_obs
    new.raw = new.copy()
    few = new[:, :200].copy()
    from_raw = read(few, reference).expression
    assert from_raw is not None and from_raw.values.place == "raw" and from_raw.n_matched == whole.n_matched
    del few.raw
    rest = read(few, reference)
    assert rest.expression is not None and rest.expression.n_matched == 200
    assert rest.measured is None  # the genes of the embedding are unknown
    few.X = few.X.toarray() - 1
    assert read(few, reference).expression is None


def test_genes_of_the_embedding_are_measured(new: anndata.AnnData, reference: scim.Reference) -> None:
    assert read(new, reference).measured is None  # all
    half = read(new[:, ::2].copy(), reference)
    names = np.asarray(reference.encoder.genes.names).astype(str)
    assert half.measured is not None
    np.testing.assert_array_equal(half.measured[np.isin(names, new.var_names[::2])], True)
    assert half.measured.sum() < 0.7 * len(names)


def test_blocks_hold_all_cells_in_order(
    new: anndata.AnnData, reference: scim.Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    expression = read(new, reference).expression
    assert expression is not None
    whole = expression.values.linear(np.arange(new.n_obs)).toarray()
    monkeypatch.setattr(_cells, "_BLOCK_CELLS", 33)
    blocks = list(expression.blocks("test"))
    assert [block.shape[0] for block in blocks] == [33, 33, 33, 1]
    np.testing.assert_array_equal(np.vstack([block.toarray() for block in blocks]), whole)
    every = np.ones(len(reference.encoder.genes), dtype=bool)
    expected = reference.encoder(whole, kind="counts")
    np.testing.assert_allclose(expression.embed(reference.encoder, every), expected, atol=1e-5)


def test_an_encoder_or_that_of_a_reference(reference: scim.Reference, tmp_path: Path) -> None:
    encoder = reference.encoder
    assert resolve_encoder(None, encoder) is encoder
    assert resolve_encoder(reference, None).id == encoder.id
    encoder.save(tmp_path / "encoder")
    assert resolve_encoder(None, tmp_path / "encoder").id == encoder.id
    with pytest.raises(ValueError, match="Give a reference or an encoder, not both"):
        resolve_encoder(reference, encoder)
    with pytest.raises(TypeError, match="got Reference. Pass it as reference="):
        resolve_encoder(None, reference)  # type: ignore[arg-type]
