"""Precision and device of the forward pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from anndata import AnnData

from scim import Encoder
from scim._counts import InputKind
from scim.encoder._forward import Forward, choose_device, choose_precision
from scim.encoder._rows import normalized_rows


def test_auto_is_bf16_only_where_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert choose_precision(cpu) == "fp32"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert choose_precision(cpu) == "bf16"
    assert choose_precision(torch.device("cuda")) == "fp32"
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert choose_precision(cpu) == "fp32"


def test_dense_and_sparse_first_layers_agree(encoder: Encoder, pbmc: AnnData) -> None:
    gene_map = encoder.genes.match(list(pbmc.var_names))
    rows = normalized_rows(pbmc.X, gene_map, InputKind("log1p", 1e4, ""))
    sparse = Forward(encoder.weights, precision="fp32", device="cpu")
    dense = Forward(encoder.weights, precision="bf16", device="cpu")
    assert sparse.is_sparse and not dense.is_sparse
    expected = sparse(rows)
    assert ((dense(rows) * expected).sum(axis=1) > 0.9995).mean() > 0.999
    # The path of a GPU: dense, in fp32.
    dense.dtype, dense._tensors = torch.float32, [torch.from_numpy(matrix) for matrix in dense.matrices]
    np.testing.assert_allclose(dense(rows), expected, atol=1e-5)


def test_weights_are_shared_not_copied(encoder: Encoder, recwarn: pytest.WarningsRecorder) -> None:
    forward = Forward(encoder.weights, precision="fp32", device="cpu")
    assert all(np.shares_memory(m, encoder.weights[f"layers.{i}.weight"]) for i, m in enumerate(forward.matrices[:2]))
    assert forward.matrices[0].T.flags.c_contiguous
    assert len(recwarn) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("precision", "atol"), [("fp32", 1e-3), ("bf16", 2e-2)])
def test_a_gpu_gives_the_same(encoder: Encoder, pbmc: AnnData, precision: str, atol: float) -> None:
    expected = encoder.embed(pbmc, device="cpu", precision="fp32")
    np.testing.assert_allclose(encoder.embed(pbmc, device="cuda", precision=precision), expected, atol=atol)


def test_devices_that_are_not_there() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(TypeError, match="device"):
        choose_device(0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="device"):
        choose_device("tpu")
