"""The forward pass of an encoder: with NumPy in fp32 on a CPU, with torch otherwise."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .._threads import in_threads, one_thread_of_blas
from .._validate import check_option
from ._blocked import BlockedRows
from ._weights import fold_batch_norm, matrices_of, scales_of

if TYPE_CHECKING:
    import torch

PRECISIONS = ("auto", "fp32", "bf16")


class Forward(Protocol):
    """The network of an encoder on a device."""

    def __call__(self, rows: BlockedRows) -> np.ndarray:
        """Embed log-normalised rows (n, n_genes): unit vectors, float32 (n, n_latent); 0 for a row of zeros."""
        ...


def make_forward(weights: Mapping[str, np.ndarray], *, precision: str = "auto", device: str = "auto") -> Forward:
    """Put the network of an encoder on a device.

    The precision is ``"fp32"``, or ``"bf16"``: products of matrices in bfloat16. ``"auto"`` is fp32 on every machine,
    so that neighbours and labels do not depend on the processor. The device is ``"cpu"``, ``"cuda"``, ``"mps"`` or
    ``"auto"``: the first of cuda, mps and cpu that this machine has.
    """
    check_option(precision, PRECISIONS, argument="precision")
    if not isinstance(device, str):
        raise TypeError(f'device must be "auto", "cpu", "cuda", "cuda:1" or "mps", got {device!r}.')
    on_cpu = device == "cpu" or (device == "auto" and not _may_have_gpu())
    if not on_cpu:
        chosen = pick_device(device)
        on_cpu = chosen.type == "cpu"
    if on_cpu and precision != "bf16":
        return SparseForward(weights)
    return DenseForward(weights, precision=precision, device=pick_device("cpu") if on_cpu else chosen)


class SparseForward:
    """The network on a CPU, in float32: the first layer multiplies sparse rows, and torch is not imported.

    Matrices of the weights are not copied.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.matrices = matrices_of(weights)
        self.layers = scales_of(weights)

    def __call__(self, rows: BlockedRows) -> np.ndarray:
        """Embed rows, see :class:`Forward`."""
        vectors = np.empty((rows.n_rows, len(self.matrices[-1])), dtype=np.float32)
        # Each thread takes its cells through all layers. BLAS's own threads would spin between products, on cores that
        # the sparse products need.
        with one_thread_of_blas():
            in_threads(rows.n_rows, lambda first, last: self._embed(rows, first, last, vectors))
        return _without_empty(vectors, rows)

    def _embed(self, rows: BlockedRows, first: int, last: int, vectors: np.ndarray) -> None:
        hidden = np.zeros((rows.n_rows, len(self.matrices[0])), dtype=np.float32)
        rows.add_product(self.matrices[0].T, hidden, first, last)
        hidden = hidden[first:last]
        for i, (matrix, (scale, bias, slope)) in enumerate(zip(self.matrices, self.layers, strict=True)):
            if i > 0:
                hidden = hidden @ matrix.T
            if scale is not None:
                hidden *= scale
            hidden += bias
            if slope is not None:
                np.multiply(hidden, np.float32(slope), out=hidden, where=hidden < 0)
        length = np.sqrt(np.einsum("nd,nd->n", hidden, hidden))
        np.divide(hidden, np.maximum(length, 1e-12)[:, None], out=vectors[first:last])


class DenseForward:
    """The network with torch, on dense rows, BatchNorm folded in: GPUs multiply zeros faster than they skip them."""

    def __init__(self, weights: Mapping[str, np.ndarray], *, precision: str, device: torch.device) -> None:
        import torch

        self.device = device
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.layers = [
            (torch.from_numpy(matrix).to(device, self.dtype), torch.from_numpy(bias).to(device), slope)
            for matrix, bias, slope in fold_batch_norm(weights)
        ]

    def __call__(self, rows: BlockedRows) -> np.ndarray:
        """Embed rows, see :class:`Forward`."""
        import torch

        with torch.inference_mode():
            hidden = self._spread(rows)
            for matrix, bias, slope in self.layers:
                hidden = (hidden.to(self.dtype) @ matrix.T).float() + bias
                if slope is not None:
                    hidden = torch.nn.functional.leaky_relu_(hidden, slope)
            return _without_empty(torch.nn.functional.normalize(hidden, dim=1).cpu().numpy(), rows)

    def _spread(self, rows: BlockedRows) -> torch.Tensor:
        """Make a dense tensor on the device of rows that are sent there sparse."""
        import torch

        dense = torch.zeros(rows.n_rows * rows.n_columns, dtype=self.dtype, device=self.device)
        place = np.repeat(np.arange(rows.n_rows) * rows.n_columns, rows.lengths) + rows.columns
        dense[torch.from_numpy(place).to(self.device)] = torch.from_numpy(rows.values).to(self.device, self.dtype)
        return dense.view(rows.n_rows, rows.n_columns)


def _without_empty(vectors: np.ndarray, rows: BlockedRows) -> np.ndarray:
    # A cell without counts has no direction: the vector that the biases alone give would have neighbours.
    vectors[rows.lengths == 0] = 0
    return vectors


def _may_have_gpu() -> bool:
    """Whether there may be a GPU: only then torch is imported, which takes a second and 200 MB."""
    if "torch" in sys.modules or sys.platform != "linux":
        return True
    return Path("/dev/kfd").exists() or any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()


#: Kinds of devices.
_KINDS = ("cuda", "mps", "cpu")


def pick_device(device: str) -> Any:
    """Return the torch device named ``device``; raise with a list of this machine's devices if it has none of it."""
    import torch

    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if device == "auto":
        return torch.device(available[0])
    kind, _, number = device.partition(":")
    if kind not in available and kind in _KINDS:
        raise ValueError(f"device={device!r} is not on this machine, which has {', '.join(available)}.")
    check_option(kind, available, argument="device")
    n_there = torch.cuda.device_count() if kind == "cuda" else 1
    if number and not (number.isdecimal() and int(number) < n_there):
        raise ValueError(f"device={device!r} is not on this machine: there are {n_there} of {kind!r}, counted from 0.")
    return torch.device(device)
