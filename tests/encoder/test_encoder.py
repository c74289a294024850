from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scim import Encoder
from scim.counts._kinds import InputKind
from scim.genes import GeneSpace

Weights = dict[str, np.ndarray]


def plain_forward(X: np.ndarray, weights: Weights) -> np.ndarray:
    """The network written out in float64, layer by layer, nothing folded."""
    hidden = X.astype(np.float64)
    i = 0
    while f"layers.{i}.weight" in weights:
        w = {name: weights[f"layers.{i}.{name}"].astype(np.float64) for name in ("weight", "bias", "prelu")}
        bn = {name: weights[f"layers.{i}.bn.{name}"].astype(np.float64) for name in ("weight", "bias", "mean", "var")}
        hidden = hidden @ w["weight"].T + w["bias"]
        hidden = (hidden - bn["mean"]) / np.sqrt(bn["var"] + 1e-5) * bn["weight"] + bn["bias"]
        hidden = np.where(hidden > 0, hidden, hidden * w["prelu"])
        i += 1
    z = hidden @ weights["output.weight"].astype(np.float64).T + weights["output.bias"]
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_embeds_as_the_network_written_out(encoder: Encoder, weights: Weights, pbmc: AnnData) -> None:
    vectors = encoder(pbmc.X, kind="log1p", precision="fp32")
    linear = np.expm1(pbmc.X.toarray().astype(np.float64))
    expected = plain_forward(np.log1p(linear / linear.sum(axis=1, keepdims=True) * 1e4), weights)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert vectors.dtype == np.float32
    assert vectors.shape == (700, encoder.n_latent) == (700, 16)


def test_normalises_counts(encoder: Encoder, weights: Weights, counts: AnnData) -> None:
    dense = counts.X.toarray().astype(np.float64)
    expected = plain_forward(np.log1p(dense / dense.sum(axis=1, keepdims=True) * 1e4), weights)
    np.testing.assert_allclose(encoder.embed(counts, precision="fp32"), expected, atol=1e-5)


def test_gene_order_missing_and_duplicate_genes(encoder: Encoder, counts: AnnData) -> None:
    rng = np.random.default_rng(1)
    expected = encoder.embed(counts)
    shuffled = counts[:, rng.permutation(counts.n_vars)].copy()
    np.testing.assert_allclose(encoder.embed(shuffled), expected, atol=1e-6)
    # Counts of a gene that are split over two columns of its name add up.
    half = counts.X.copy()
    half.data = np.floor(half.data / 2)
    double = anndata.AnnData(sp.hstack([half, counts.X - half]).tocsr())
    double.var_names = [*counts.var_names, *counts.var_names]
    np.testing.assert_allclose(encoder.embed(double), expected, atol=1e-6)
    # Genes that are not measured count as zero.
    part = counts[:, :500].copy()
    zeroed = counts.copy()
    zeroed.X = sp.hstack([part.X, sp.csr_matrix((700, counts.n_vars - 500))]).tocsr()
    np.testing.assert_allclose(encoder.embed(part), encoder.embed(zeroed), atol=1e-6)


@pytest.mark.parametrize("chunk_size", [1, 97, 5000])
def test_result_does_not_depend_on_chunks(encoder: Encoder, pbmc: AnnData, chunk_size: int) -> None:
    np.testing.assert_allclose(encoder.embed(pbmc, chunk_size=chunk_size), encoder.embed(pbmc), atol=1e-5)


def test_result_does_not_depend_on_threads(encoder: Encoder, pbmc: AnnData) -> None:
    import torch

    expected, threads = encoder.embed(pbmc), torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        np.testing.assert_allclose(encoder.embed(pbmc), expected, atol=1e-5)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("convert", [sp.csr_matrix, sp.csr_array, sp.csc_matrix, sp.csc_array, lambda X: X.toarray()])
def test_any_form_of_matrix(encoder: Encoder, pbmc: AnnData, convert: Callable[..., object]) -> None:
    expected = encoder.embed(pbmc)
    pbmc.X = convert(pbmc.X)
    np.testing.assert_allclose(encoder.embed(pbmc), expected, atol=1e-6)
    np.testing.assert_allclose(encoder(pbmc.X), expected, atol=1e-6)


def test_backed_view_and_dask(encoder: Encoder, pbmc: AnnData, tmp_path: Path) -> None:
    da = pytest.importorskip("dask.array")
    expected = encoder.embed(pbmc)
    pbmc.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    np.testing.assert_allclose(encoder.embed(backed), expected, atol=1e-6)
    backed.file.close()
    np.testing.assert_allclose(encoder.embed(pbmc[100:300]), expected[100:300], atol=1e-6)
    pbmc.X = da.from_array(pbmc.X.toarray(), chunks=(200, -1))
    np.testing.assert_allclose(encoder.embed(pbmc), expected, atol=1e-6)


def test_mudata_and_layers(encoder: Encoder, pbmc: AnnData, counts: AnnData) -> None:
    mudata = pytest.importorskip("mudata")
    expected = encoder.embed(pbmc)
    protein = anndata.AnnData(np.ones((700, 3), dtype=np.float32), obs=pbmc.obs[[]])
    both = mudata.MuData({"rna": pbmc, "adt": protein})
    np.testing.assert_array_equal(encoder.embed(both, mod="rna"), expected)
    with pytest.raises(ValueError, match="mod="):
        encoder.embed(both)
    pbmc.layers["mine"] = pbmc.X.copy()
    pbmc.X = pbmc.X.toarray() - 1
    np.testing.assert_array_equal(encoder.embed(pbmc, layer="mine"), expected)
    with pytest.raises(ValueError, match="negative"):
        encoder.embed(pbmc, layer="X")
    with pytest.raises(KeyError, match="mine"):
        encoder.embed(pbmc, layer="mien")


def test_cell_without_counts_is_zero(encoder: Encoder, pbmc: AnnData) -> None:
    X = pbmc.X.tolil()
    X[[3, 699]] = 0
    pbmc.X = X.tocsr()
    vectors, info = encoder.embed(pbmc, return_info=True)
    norm = np.linalg.norm(vectors, axis=1)
    assert np.flatnonzero(norm == 0).tolist() == [3, 699]
    np.testing.assert_allclose(np.delete(norm, [3, 699]), 1, atol=1e-6)
    assert np.isfinite(vectors).all()
    assert info["n_cells_without_counts"] == 2


def test_info_is_plain_and_storable(encoder: Encoder, pbmc: AnnData, tmp_path: Path) -> None:
    _, info = encoder.embed(pbmc, return_info=True)
    assert info["encoder_id"] == encoder.id
    assert info["genes"]["n_matched"] == 765
    assert info["input"]["kind"] == "log1p"
    assert json.loads(json.dumps(info)) == info
    pbmc.uns["scim"] = info
    pbmc.write_h5ad(tmp_path / "with_info.h5ad")
    assert anndata.read_h5ad(tmp_path / "with_info.h5ad").uns["scim"]["encoder_id"] == encoder.id


def test_bf16_is_near(encoder: Encoder, pbmc: AnnData) -> None:
    fine, coarse = encoder.embed(pbmc, precision="fp32"), encoder.embed(pbmc, precision="bf16")
    assert not np.array_equal(fine, coarse)
    assert (fine * coarse).sum(axis=1).min() > 0.99
    np.testing.assert_array_equal(encoder.embed(pbmc, precision="auto"), fine)


def test_chunks_are_those_of_embed(encoder: Encoder, pbmc: AnnData) -> None:
    parts = list(encoder.embed_chunks(pbmc, chunk_size=300))
    assert [span.start for span, _ in parts] == [0, 300, 600]
    np.testing.assert_allclose(np.vstack([part for _, part in parts]), encoder.embed(pbmc), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"precision": "fp16"}, ValueError, "precision='fp16'"),
        ({"device": "tpu"}, ValueError, "device='tpu'"),
        ({"device": 0}, TypeError, "device"),
        ({"chunk_size": 0}, ValueError, "chunk_size"),
        ({"gene_column": "symbol"}, KeyError, "gene_column='symbol'"),
    ],
)
def test_wrong_options(encoder: Encoder, pbmc: AnnData, options: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        encoder.embed(pbmc, **options)


def test_matrix_must_fit(encoder: Encoder, pbmc: AnnData) -> None:
    with pytest.raises(ValueError, match=r"\(n_cells, 765\).*\(700, 10\)"):
        encoder(pbmc.X[:, :10])
    with pytest.raises(TypeError, match="list"):
        encoder([[1, 2]])
    with pytest.raises(ValueError, match="kind='log'"):
        encoder(pbmc.X, kind="log")
    with pytest.raises(TypeError, match="int"):
        encoder(pbmc.X, kind=3)
    same = encoder(pbmc.X, kind=InputKind("log1p", None, "told"))
    np.testing.assert_array_equal(same, encoder(pbmc.X))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -2.0])
def test_bad_value_that_a_sample_misses(encoder: Encoder, pbmc: AnnData, bad: float) -> None:
    X = pbmc.X.copy()
    X.data[X.indptr[650]] = bad
    with pytest.raises(ValueError, match="Cells 600 to 699 .*layer="):
        encoder(X, kind="log1p", chunk_size=100)


def test_other_data_are_refused(encoder: Encoder, pbmc: AnnData) -> None:
    with pytest.raises(ValueError, match="3 of the encoder's 765 genes"):
        encoder.embed(pbmc[:, :3].copy())
    with pytest.warns(UserWarning, match="150 of the encoder's 765"):
        encoder.embed(pbmc[:, :150].copy())
    with pytest.raises(ValueError, match="0 cells"):
        encoder.embed(pbmc[:0].copy())
    with pytest.raises(TypeError, match="AnnData"):
        encoder.embed(pbmc.X)


def test_id_follows_from_genes_and_weights(encoder: Encoder, weights: Weights) -> None:
    again = Encoder(GeneSpace(list(encoder.genes.names)), weights)
    assert again.id == encoder.id
    assert len(encoder.id) == 16
    changed = {**weights, "output.bias": weights["output.bias"] + np.float32(1e-6)}
    assert Encoder(encoder.genes, changed).id != encoder.id
    assert Encoder(GeneSpace(list(encoder.genes.names[::-1])), weights).id != encoder.id


def test_weights_cannot_change_behind_the_id(encoder: Encoder, weights: Weights, pbmc: AnnData) -> None:
    before = encoder.embed(pbmc)
    weights["output.bias"] += 1
    np.testing.assert_array_equal(Encoder(encoder.genes, encoder.weights).embed(pbmc), before)
    with pytest.raises(ValueError, match="read-only"):
        encoder.weights["output.bias"][:] = 0


def test_survives_pickling_after_use(encoder: Encoder, pbmc: AnnData) -> None:
    # What Dask does to send it to a worker.
    vectors = encoder.embed(pbmc)
    copy = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(copy.embed(pbmc), vectors)


def test_repr(encoder: Encoder) -> None:
    assert repr(encoder) == f"Encoder {encoder.id}: 765 genes -> 32-24-16"


@pytest.mark.parametrize("base", [None, 2, 10])
def test_logarithms_over_other_features_give_what_counts_give(
    encoder: Encoder, counts: AnnData, base: int | None
) -> None:
    spikes = sp.csr_matrix(np.random.default_rng(0).poisson(40, (counts.n_obs, 30)).astype("float32"))
    both = sp.hstack([counts.X, spikes], format="csr")
    both.data = np.log1p(both.data * np.repeat(3e3 / np.asarray(both.sum(axis=1)).ravel(), np.diff(both.indptr)))
    both.data /= 1 if base is None else np.log(base)
    logged = AnnData(
        both.astype("float32"), obs=counts.obs, var=pd.DataFrame(index=[*counts.var_names, *map(str, range(30))])
    )
    if base is not None:
        logged.uns["log1p"] = {"base": base}
    vectors, info = encoder.embed(logged, return_info=True)
    np.testing.assert_allclose(vectors, encoder.embed(counts), atol=1e-5)
    assert info["input"].get("base") == base


def test_a_study_on_another_scale_that_the_sample_missed_is_refused(encoder: Encoder, counts: AnnData) -> None:
    few = counts[:40].copy()
    few.X.data = np.log1p(few.X.data * np.repeat(1e4 / np.asarray(few.X.sum(axis=1)).ravel(), np.diff(few.X.indptr)))
    many = sp.vstack([counts.X] * 8, format="csr")
    X = sp.vstack([many[:1_000], few.X, many[1_000:]], format="csr")
    obs = pd.DataFrame({"study": ["old"] * 1_000 + ["new"] * 40 + ["old"] * (X.shape[0] - 1_040)})
    obs.index = obs.index.astype(str)
    mixed = AnnData(X, obs=obs, var=counts.var)
    with pytest.raises(ValueError, match=r"X holds cells on several scales: .*study old.*40 cells of log1p.*study new"):
        encoder.embed(mixed)
    with pytest.raises(ValueError, match="cells on several scales"):
        list(encoder.embed_chunks(mixed))


def test_the_same_matrix_in_any_form_gives_the_same_vectors(encoder: Encoder, counts: AnnData) -> None:
    X, rng = counts.X.tocsr(), np.random.default_rng(0)
    expected = encoder.embed(counts)
    order = np.concatenate([rng.permutation(np.arange(a, b)) for a, b in zip(X.indptr[:-1], X.indptr[1:], strict=True)])
    half = np.floor(X.data / 2)
    zeros = sp.coo_matrix((np.zeros(50), (rng.integers(0, X.shape[0], 50), rng.integers(0, X.shape[1], 50))), X.shape)
    forms = {
        "unsorted": sp.csr_matrix((X.data[order], X.indices[order], X.indptr), X.shape),
        "split": sp.csr_matrix(
            (np.stack([half, X.data - half], 1).ravel(), np.repeat(X.indices, 2), X.indptr * 2), X.shape
        ),
        "wide": sp.csr_array((X.data, X.indices.astype(np.int64), X.indptr.astype(np.int64)), X.shape),
        "explicit zeros": sp.csr_matrix(
            (np.r_[X.data, zeros.data], (np.r_[X.tocoo().row, zeros.row], np.r_[X.tocoo().col, zeros.col])), X.shape
        ),
        "by columns": X.tocsc(),
        "16 bits": X.astype(np.uint16),
        "64 bits": X.astype(np.float64),
        "dense": X.toarray(),
    }
    for name, form in forms.items():
        found = encoder.embed(AnnData(form, obs=counts.obs, var=counts.var))
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)
