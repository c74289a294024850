"""Run an encoder on blocks of cells."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import check_option
from ._weights import fold_batch_norm, matrices_of, scales_of

if TYPE_CHECKING:
    import torch

    from ._sparse import BlockedRows

PRECISIONS = ("auto", "fp32", "bf16")


class Forward:
    """Weights on a device, BatchNorm folded in.

    On a CPU in fp32 the first layer takes the cells as they are stored, sparse. Elsewhere, and in bf16, it is a dense
    product: hardware that multiplies matrices (a GPU, AMX) does the zeros faster than it could leave them out.

    Parameters
    ----------
    weights
        Canonical weights of an encoder.
    precision
        ``"fp32"``; ``"bf16"``, products of matrices in bfloat16; ``"auto"`` is bf16 on a CPU with AMX, and else fp32.
    device
        ``"cpu"``, ``"cuda"``, ``"mps"``, or ``"auto"``: the first of cuda, mps, cpu that is there.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], *, precision: str = "auto", device: str = "auto") -> None:
        import torch

        check_option(precision, PRECISIONS, argument="precision")
        self.device = choose_device(device)
        self.precision = choose_precision(self.device) if precision == "auto" else precision
        self.dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self.is_sparse = self.device.type == "cpu" and self.precision == "fp32"
        if self.is_sparse:
            # The encoder's own matrices, scaled when a batch has gone through: no copy of any.
            self.matrices, scales = matrices_of(weights), scales_of(weights)
        else:
            folded = fold_batch_norm(weights)
            self.matrices, scales = [m for m, _, _ in folded], [(None, bias, slope) for _, bias, slope in folded]
        self.layers = [
            (None if scale is None else self._tensor(scale), self._tensor(bias), slope) for scale, bias, slope in scales
        ]
        self._tensors = [self._tensor(matrix).to(self.dtype) for matrix in self.matrices]

    def __call__(self, rows: BlockedRows) -> np.ndarray:
        """Embed log-normalised rows (n, n_genes) -> float32 unit vectors (n, n_latent), zero for a row of zeros."""
        import torch

        with torch.inference_mode():
            first = self._tensors[0]
            if self.is_sparse:
                hidden = torch.from_numpy(rows.times(self.matrices[0].T))
            else:
                hidden = (self._dense(rows) @ first.T).float()
            for matrix, (scale, bias, slope) in zip(self._tensors, self.layers, strict=True):
                if matrix is not first:
                    hidden = (hidden.to(self.dtype) @ matrix.T).float()
                if scale is not None:
                    hidden *= scale
                hidden += bias
                if slope is not None:
                    hidden = torch.nn.functional.leaky_relu_(hidden, slope)
            vectors: np.ndarray = torch.nn.functional.normalize(hidden, dim=1).cpu().numpy()
        # A cell without counts has no direction: what the biases alone give would be a neighbour of something.
        vectors[rows.lengths == 0] = 0
        return vectors

    def _dense(self, rows: BlockedRows) -> torch.Tensor:
        """Rows as a dense tensor on the device; what travels there is sparse."""
        import torch

        dense = torch.zeros(rows.n_rows * rows.n_columns, dtype=self.dtype, device=self.device)
        place = np.repeat(np.arange(rows.n_rows) * rows.n_columns, rows.lengths) + rows.columns
        dense[torch.from_numpy(place).to(self.device)] = torch.from_numpy(rows.values).to(self.device, self.dtype)
        return dense.view(rows.n_rows, rows.n_columns)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        import torch

        with warnings.catch_warnings():
            # Weights are read-only, which torch warns of; nothing here writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(array).to(self.device)


def choose_precision(device: torch.device) -> str:
    """``"bf16"`` where a dense product in bf16 is faster than a sparse one in fp32: on a CPU with AMX."""
    import torch

    # Without AMX, bf16 on a CPU is emulated or halves the traffic at most; sparse rows have a tenth of the work.
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "bf16" if device.type == "cpu" and has_amx() else "fp32"


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
