"""Run an encoder on blocks of cells: with NumPy on a CPU, with torch elsewhere."""

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
    """Weights where they are multiplied."""

    def __call__(self, rows: BlockedRows) -> np.ndarray:
        """Embed log-normalised rows (n, n_genes) -> float32 unit vectors (n, n_latent), zero for a row of zeros."""
        ...


def make_forward(weights: Mapping[str, np.ndarray], *, precision: str = "auto", device: str = "auto") -> Forward:
    """Choose how to run an encoder.

    Parameters
    ----------
    weights
        Canonical weights of an encoder.
    precision
        ``"fp32"``; ``"bf16"``, products of matrices in bfloat16; ``"auto"`` is bf16 on a CPU with AMX, and else fp32.
    device
        ``"cpu"``, ``"cuda"``, ``"mps"``, or ``"auto"``: the first of cuda, mps, cpu that is there.
    """
    check_option(precision, PRECISIONS, argument="precision")
    if not isinstance(device, str):
        raise TypeError(f'device must be "auto", "cpu", "cuda", "cuda:1" or "mps", got {device!r}.')
    on_cpu = device == "cpu" or (device == "auto" and not _may_have_gpu())
    if not on_cpu:
        chosen = pick_device(device)
        on_cpu = chosen.type == "cpu"
    if precision == "auto":
        precision = "bf16" if on_cpu and has_amx() else "fp32"
    if on_cpu and precision == "fp32":
        return SparseForward(weights)
    return DenseForward(weights, precision=precision, device=pick_device("cpu") if on_cpu else chosen)


class SparseForward:
    """On a CPU, in float32: the first layer takes the cells as they are stored, and nothing imports torch.

    Parameters
    ----------
    weights
        Canonical weights of an encoder; no matrix is copied.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.matrices = matrices_of(weights)
        self.layers = scales_of(weights)

    def __call__(self, rows: BlockedRows) -> np.ndarray:
        """Embed rows, see :class:`Forward`."""
        vectors = np.empty((rows.n_rows, len(self.matrices[-1])), dtype=np.float32)
        # Each thread takes some cells all the way: BLAS's own threads go on spinning between products, on a core that
        # the sparse ones need.
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
    """With torch, BatchNorm folded in: hardware that multiplies matrices does zeros faster than it leaves them out.

    Parameters
    ----------
    weights
        Canonical weights of an encoder.
    precision
        ``"fp32"`` or ``"bf16"``.
    device
        Of torch.
    """

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
        """Rows as a dense tensor on the device; what travels there is sparse."""
        import torch

        dense = torch.zeros(rows.n_rows * rows.n_columns, dtype=self.dtype, device=self.device)
        place = np.repeat(np.arange(rows.n_rows) * rows.n_columns, rows.lengths) + rows.columns
        dense[torch.from_numpy(place).to(self.device)] = torch.from_numpy(rows.values).to(self.device, self.dtype)
        return dense.view(rows.n_rows, rows.n_columns)


def _without_empty(vectors: np.ndarray, rows: BlockedRows) -> np.ndarray:
    # A cell without counts has no direction: what the biases alone give would be a neighbour of something.
    vectors[rows.lengths == 0] = 0
    return vectors


def has_amx() -> bool:
    """Whether the CPU multiplies matrices in bf16 itself; without that, sparse rows in fp32 are faster."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:  # no Linux
        return False


def _may_have_gpu() -> bool:
    """Whether it is worth asking torch, whose import takes a second and 200 MB."""
    if "torch" in sys.modules or sys.platform != "linux":
        return True
    return Path("/dev/kfd").exists() or any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()


#: Kinds of devices that are tried.
_KINDS = ("cuda", "mps", "cpu")


def pick_device(device: str) -> Any:
    """Torch device for ``device``, or an error that lists those that are here."""
    import torch

    there = ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    if torch.cuda.is_available():
        there.insert(0, "cuda")
    if device == "auto":
        return torch.device(there[0])
    kind, _, number = device.partition(":")
    if kind not in there and kind in _KINDS:
        raise ValueError(f"device={device!r} is not on this machine, which has {', '.join(there)}.")
    check_option(kind, there, argument="device")
    n_there = torch.cuda.device_count() if kind == "cuda" else 1
    if number and not (number.isdecimal() and int(number) < n_there):
        raise ValueError(f"device={device!r} is not on this machine: there are {n_there} of {kind!r}, counted from 0.")
    return torch.device(device)
