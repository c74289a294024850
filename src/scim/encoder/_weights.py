"""Weights of an encoder under canonical names: checks, the id of their content, and layers with BatchNorm."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

#: Names of the arrays of a hidden layer, after ``layers.{i}.``.
LAYER_NAMES = ("weight", "bias", "bn.weight", "bn.bias", "bn.mean", "bn.var", "prelu")
#: Names of the arrays of the last layer.
OUTPUT_NAMES = ("output.weight", "output.bias")
#: Constant that BatchNorm adds to the variance.
BN_EPS = 1e-5
#: Columns of a matrix to hash at a time.
_HASH_COLUMNS = 256
#: Rows of a matrix to transpose at a time.
_TRANSPOSE_ROWS = 64


def check_weights(weights: Mapping[str, np.ndarray], *, n_in: int, n_out: int | None = None) -> dict[str, np.ndarray]:
    """Copy weights to read-only float32 arrays, in the order of the layers, or raise a ValueError.

    They are ``layers.{i}.weight`` (n_out, n_in), ``layers.{i}.bias``, ``layers.{i}.bn.weight``, ``.bias``, ``.mean``,
    ``.var`` (n_out,), ``layers.{i}.prelu`` (1,), for i from 0; ``output.weight`` (n_latent, n_in), ``output.bias``.
    ``n_in`` and ``n_out`` are the lengths of the input and, if known, of the output. Arrays must not be missing,
    unknown, of the wrong shape, or not finite.
    """
    n_layers = count_layers(weights)
    names = [f"layers.{i}.{name}" for i in range(n_layers) for name in LAYER_NAMES] + list(OUTPUT_NAMES)
    if missing := [name for name in names if name not in weights]:
        raise ValueError(f"weights lacks {missing[0]!r}. An encoder of {n_layers} layers needs: {', '.join(names)}.")
    if unknown := sorted(set(weights) - set(names)):
        raise ValueError(f"weights holds {unknown[0]!r}, which an encoder of {n_layers} layers does not have.")
    # The first matrix is stored by columns: the order in which a product with sparse rows reads it, without a copy.
    checked = {
        name: _by_column(weights[name]) if i == 0 else np.array(weights[name], dtype=np.float32, order="C")
        for i, name in enumerate(names)
    }
    width = n_in
    for prefix in [*(f"layers.{i}." for i in range(n_layers)), "output."]:
        matrix = checked[f"{prefix}weight"]
        if matrix.ndim != 2 or matrix.shape[1] != width:
            raise ValueError(f"{prefix}weight must be (n_out, {width}), got {matrix.shape}.")
        width = len(matrix)
        for name, array in checked.items():
            if name.startswith(prefix) and not name.endswith((f"{prefix}weight", ".prelu")) and array.shape != (width,):
                raise ValueError(f"{name} must be ({width},), got {array.shape}.")
    if n_out is not None and width != n_out:
        raise ValueError(f"output.weight must be ({n_out}, n_in), got {checked['output.weight'].shape}.")
    for name, array in checked.items():
        if name.endswith(".prelu") and array.shape != (1,):
            raise ValueError(f"{name} must be (1,): one slope for the layer, got {array.shape}.")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinite values: the training has diverged.")
        if name.endswith(".bn.var") and array.min(initial=0) < 0:
            raise ValueError(f"{name} holds negative values, but a variance cannot be negative.")
        array.flags.writeable = False  # the encoder's id is computed from them
    return checked


def _by_column(matrix: np.ndarray) -> np.ndarray:
    """Copy a matrix to float32, stored by columns; 64 rows at a time, to stay in the cache."""
    if np.ndim(matrix) != 2 or np.asarray(matrix).flags.f_contiguous:
        return np.array(matrix, dtype=np.float32, order="F")
    transposed = np.empty(matrix.shape[::-1], dtype=np.float32)
    for start in range(0, len(matrix), _TRANSPOSE_ROWS):
        transposed[:, start : start + _TRANSPOSE_ROWS] = matrix[start : start + _TRANSPOSE_ROWS].T
    return transposed.T


def count_layers(weights: Mapping[str, np.ndarray]) -> int:
    """Count the hidden layers."""
    return len({name.split(".")[1] for name in weights if name.startswith("layers.")})


def hidden_widths(weights: Mapping[str, np.ndarray]) -> list[int]:
    """Return the width of each hidden layer."""
    return [len(weights[f"layers.{i}.bias"]) for i in range(count_layers(weights))]


def widths_text(weights: Mapping[str, np.ndarray], arrow: str) -> str:
    """Write the widths of all layers, with arrows between them."""
    return arrow.join(map(str, [*hidden_widths(weights), len(weights["output.bias"])]))


def content_id(weights: Mapping[str, np.ndarray], genes_hash: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of the genes and of the weights with their names and shapes."""
    digest = hashlib.sha256(genes_hash.encode())
    for name in sorted(weights):
        digest.update(f"{name}{weights[name].shape}".encode())
        # By columns, the order of the largest matrix in memory.
        columns = np.asarray(weights[name]).T
        for start in range(0, len(columns), _HASH_COLUMNS):
            digest.update(np.ascontiguousarray(columns[start : start + _HASH_COLUMNS], dtype="<f4").data)
    return digest.hexdigest()[:16]


def scales_of(weights: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray | None, np.ndarray, float | None]]:
    """Return the scale (n_out,), bias (n_out,) and PReLU slope that follow each layer's matrix.

    BatchNorm after a linear layer is linear: ``s (W x + b - mean) + beta`` with ``s = gamma / sqrt(var + eps)``. The
    last layer has neither scale nor slope.
    """
    layers: list[tuple[np.ndarray | None, np.ndarray, float | None]] = []
    for i in range(count_layers(weights)):
        w = {name: weights[f"layers.{i}.{name}"].astype(np.float64) for name in LAYER_NAMES if name != "weight"}
        scale = w["bn.weight"] / np.sqrt(w["bn.var"] + BN_EPS)
        bias = (w["bias"] - w["bn.mean"]) * scale + w["bn.bias"]
        layers.append((scale.astype(np.float32), bias.astype(np.float32), float(w["prelu"][0])))
    # A copy: torch warns of read-only arrays.
    layers.append((None, weights["output.bias"].copy(), None))
    return layers


def matrices_of(weights: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return each layer's matrix (n_out, n_in), not copied; the first is stored by columns."""
    return [weights[name] for name in (*(f"layers.{i}.weight" for i in range(count_layers(weights))), "output.weight")]


def fold_batch_norm(weights: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray, float | None]]:
    """Return each layer as (matrix (n_out, n_in), bias (n_out,), PReLU slope), with BatchNorm folded in."""
    return [
        (matrix.copy() if scale is None else matrix * scale[:, None], bias, slope)
        for matrix, (scale, bias, slope) in zip(matrices_of(weights), scales_of(weights), strict=True)
    ]
