"""Run an encoder on blocks of cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import check_option
from ._weights import fold_batch_norm

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
        layers = fold_batch_norm(weights)
        self.first: np.ndarray | None = None
        if self.device.type == "cpu" and self.precision == "fp32":
            self.first = np.ascontiguousarray(layers[0][0].T)
            layers[0] = (np.empty((0, 0), dtype=np.float32), *layers[0][1:])
        self.layers = [
            (self._tensor(matrix).to(self.dtype), self._tensor(bias), slope) for matrix, bias, slope in layers
        ]

    def __call__(self, rows: BlockedRows) -> np.ndarray:
        """Embed log-normalised rows (n, n_genes) -> float32 unit vectors (n, n_latent), zero for a row of zeros."""
        import torch

        with torch.inference_mode():
            hidden = self._dense(rows) if self.first is None else torch.from_numpy(rows.times(self.first))
            for i, (matrix, bias, slope) in enumerate(self.layers):
                if i > 0 or self.first is None:
                    hidden = (hidden.to(self.dtype) @ matrix.T).float()
                hidden += bias
                if slope is not None:
                    hidden = torch.where(hidden > 0, hidden, hidden * slope)
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
