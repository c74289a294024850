"""The first layer against a dense one of torch."""

from __future__ import annotations

import pytest
import torch

from scim.model._augment import SparseBatch
from scim.model._sparse_linear import GeneLinear


def batch(n_cells: int, n_genes: int, seed: int = 0) -> tuple[SparseBatch, torch.Tensor]:
    """Cells of which one is empty, with some values that dropout has set to zero."""
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(n_cells, n_genes, generator=generator) * (
        torch.rand(n_cells, n_genes, generator=generator) < 0.2
    )
    dense[1] = 0
    rows, genes = dense.nonzero(as_tuple=True)
    values = dense[rows, genes]
    dropped = torch.where(torch.rand(len(values), generator=generator) < 0.4, torch.zeros(()), values)
    return SparseBatch(values, rows, genes, dense.sum(dim=1), n_genes), dropped


@pytest.mark.parametrize(("n_cells", "n_genes", "n_out"), [(3, 5, 2), (300, 700, 33), (2, 257, 600)])
def test_same_output_and_gradient_as_a_dense_layer(n_cells: int, n_genes: int, n_out: int) -> None:
    cells, values = batch(n_cells, n_genes)
    layer = GeneLinear(n_genes, n_out)
    dense = torch.nn.Linear(n_genes, n_out)
    dense.load_state_dict({"weight": layer.weight.detach().T, "bias": layer.bias.detach()})
    expected, found = dense(cells.dense(values)), layer(cells, values)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    push = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    (expected * push).sum().backward()
    (found * push).sum().backward()
    assert dense.weight.grad is not None and layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad.T, dense.weight.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(layer.bias.grad, dense.bias.grad)


def test_other_types_go_the_dense_way() -> None:
    cells, values = batch(20, 30)
    layer = GeneLinear(30, 4)
    expected = layer(cells, values)
    double = layer.double()(cells, values.double())
    torch.testing.assert_close(double.float(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same() -> None:
    cells, values = batch(20, 30)
    layer = GeneLinear(30, 4)
    there = SparseBatch(*(t.cuda() for t in (cells.values, cells.rows, cells.genes, cells.totals)), 30)
    torch.testing.assert_close(
        layer.cuda()(there, values.cuda()).cpu(), layer.cpu()(cells, values), atol=1e-4, rtol=1e-4
    )
