"""The first layer of the network, on sparse cells, with its gradient."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..encoder import blocked_rows
from ._augment import SparseBatch


class GeneLinear(nn.Module):
    """A linear layer on genes, with weights (n_genes, n_out).

    On a CPU, output and gradient are products of sparse matrices: after dropout, a cell has a few hundred of 28,000
    genes. On other devices they are dense products.
    """

    def __init__(self, n_genes: int, n_out: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(n_genes)  # as in nn.Linear
        self.weight = nn.Parameter(torch.empty(n_genes, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_out).uniform_(-bound, bound))

    def forward(self, cells: SparseBatch, values: Tensor) -> Tensor:
        """Apply the layer to the log-normalised ``values`` (nnz,) of a batch -> (n, n_out)."""
        if values.device.type == "cpu" and self.weight.dtype == torch.float32:
            product: Tensor = _Product.apply(self.weight, cells, values)
            return product + self.bias
        return cells.dense(values) @ self.weight + self.bias


class _Product(torch.autograd.Function):
    """Product of sparse cells and the weights, with a gradient for the weights only."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, cells: SparseBatch, values: Tensor) -> Tensor:
        lengths = torch.bincount(cells.rows, minlength=cells.n_cells).numpy()
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        genes = cells.genes.numpy().astype(np.int32)
        ctx.cells = blocked_rows(indptr, genes, values.detach().numpy(), cells.n_genes)
        return torch.from_numpy(ctx.cells.times(weight.detach().numpy()))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return torch.from_numpy(ctx.cells.transposed().times(gradient.contiguous().numpy())), None, None
