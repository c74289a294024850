"""Precision and device of the forward pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from anndata import AnnData

from scim import Encoder
from scim.counts._kinds import InputKind
from scim.encoder._forward import DenseForward, SparseForward, make_forward, pick_device
from scim.encoder._normalized import to_blocked_lognormal


def test_half_precision_is_used_only_if_asked_for(encoder: Encoder) -> None:
    for precision in ("auto", "fp32"):
        assert isinstance(make_forward(encoder.weights, precision=precision, device="cpu"), SparseForward)
    asked = make_forward(encoder.weights, precision="bf16", device="cpu")
    assert isinstance(asked, DenseForward) and asked.dtype == torch.bfloat16


@pytest.mark.parametrize("flags", ["flags : fpu avx2", "flags : fpu avx512_bf16 amx_bf16 amx_tile"])
def test_default_embedding_does_not_depend_on_the_processor(
    encoder: Encoder, pbmc: AnnData, monkeypatch: pytest.MonkeyPatch, flags: str
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self, *args, **kwargs: flags)  # of /proc/cpuinfo, if it is looked at
    found = Encoder(encoder.genes, encoder.weights).embed(pbmc, device="cpu")
    monkeypatch.undo()
    np.testing.assert_array_equal(found, encoder.embed(pbmc, device="cpu", precision="fp32"))


def test_dense_and_sparse_first_layers_agree(encoder: Encoder, pbmc: AnnData) -> None:
    gene_map = encoder.genes.match(list(pbmc.var_names))
    rows = to_blocked_lognormal(pbmc.X, gene_map, InputKind("log1p", 1e4, ""))
    expected = SparseForward(encoder.weights)(rows)
    cpu = torch.device("cpu")
    half = DenseForward(encoder.weights, precision="bf16", device=cpu)(rows)
    assert ((half * expected).sum(axis=1) > 0.9995).mean() > 0.999
    # The path of a GPU: dense, in fp32.
    np.testing.assert_allclose(DenseForward(encoder.weights, precision="fp32", device=cpu)(rows), expected, atol=1e-5)


def test_weights_are_shared_not_copied(encoder: Encoder) -> None:
    forward = SparseForward(encoder.weights)
    assert all(np.shares_memory(m, encoder.weights[f"layers.{i}.weight"]) for i, m in enumerate(forward.matrices[:2]))
    assert forward.matrices[0].T.flags.c_contiguous


@pytest.mark.slow
def test_a_cpu_needs_no_torch(encoder: Encoder, pbmc: AnnData, tmp_path: Path) -> None:
    if sys.platform != "linux" or torch.cuda.is_available():
        pytest.skip("this machine embeds with torch")
    encoder.save(tmp_path / "enc")
    pbmc.write_h5ad(tmp_path / "x.h5ad")
    code = (
        "import sys, anndata, scim\n"
        f"cells = anndata.read_h5ad({str(tmp_path / 'x.h5ad')!r})\n"
        f"scim.tl.embed(cells, encoder={str(tmp_path / 'enc')!r})\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "print(cells.obsm['X_scim'].shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(700, 16)", done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("precision", "atol"), [("fp32", 1e-3), ("bf16", 2e-2)])
def test_a_gpu_gives_the_same(encoder: Encoder, pbmc: AnnData, precision: str, atol: float) -> None:
    expected = encoder.embed(pbmc, device="cpu", precision="fp32")
    np.testing.assert_allclose(encoder.embed(pbmc, device="cuda", precision=precision), expected, atol=atol)


def test_devices_that_are_not_there() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(TypeError, match="device"):
        make_forward({}, device=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="device"):
        pick_device("tpu")


def test_devices_that_are_not_here_are_no_typos(encoder: Encoder) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device='cuda:1' is not on this machine, which has .*cpu"):
            pick_device("cuda:1")
    with pytest.raises(ValueError, match="device='cpu:zzz' is not on this machine"):
        pick_device("cpu:zzz")
    with pytest.raises(ValueError, match="device='gpu' is not known"):
        pick_device("gpu")
    assert pick_device("cpu:0").type == "cpu"
