"""Run an encoder on blocks of cells with torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import check_option
from ._weights import fold_batch_norm

if TYPE_CHECKING:
    import torch
    from scipy.sparse import csr_matrix

PRECISIONS = ("auto", "fp32", "bf16")


class Forward:
    """Weights on a device, BatchNorm folded in.

    Parameters
    ----------
    weights
        Canonical weights of an encoder.
    precision
        ``"fp32"``; ``"bf16"``, products of matrices in bfloat16; ``"auto"`` is fp32.
    device
        ``"cpu"``, ``"cuda"``, ``"mps"``, or ``"auto"``: the first of cuda, mps, cpu that is there.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], *, precision: str = "auto", device: str = "auto") -> None:
        import torch

        check_option(precision, PRECISIONS, argument="precision")
        self.device = choose_device(device)
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.layers = [
            (self._tensor(matrix), torch.from_numpy(bias).to(self.device), slope)
            for matrix, bias, slope in fold_batch_norm(weights)
        ]
        # Copies: torch wants arrays that it could write to.
        matrix, bias = weights["output.weight"].copy(), weights["output.bias"].copy()
        self.output = self._tensor(matrix), torch.from_numpy(bias).to(self.device)

    def __call__(self, rows: csr_matrix) -> np.ndarray:
        """Embed log-normalised rows (n, n_genes) -> float32 unit vectors (n, n_latent), zero for a row of zeros."""
        import torch

        with torch.inference_mode():
            hidden = torch.from_numpy(rows.toarray()).to(self.device)
            for matrix, bias, slope in self.layers:
                hidden = self._linear(hidden, matrix) + bias
                hidden = torch.where(hidden > 0, hidden, hidden * slope)
            z = self._linear(hidden, self.output[0]) + self.output[1]
            vectors = torch.nn.functional.normalize(z, dim=1).cpu().numpy()
        # A cell without counts has no direction: what the biases alone give would be a neighbour of something.
        vectors[np.diff(rows.indptr) == 0] = 0
        return vectors

    def _linear(self, x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
        return (x.to(self.dtype) @ matrix.T).float()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        import torch

        return torch.from_numpy(array).to(self.device, self.dtype)


def choose_device(device: str) -> Any:
    """Torch device for ``device``, or an error that lists those that are here."""
    import torch

    if not isinstance(device, str):
        raise TypeError(f'device must be "auto", "cpu", "cuda", "cuda:1" or "mps", got {device!r}.')
    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    if device == "auto":
        return torch.device(there[0])
    check_option(device.split(":")[0], there, argument="device")
    return torch.device(device)
