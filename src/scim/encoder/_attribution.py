"""Attribute the distance between cells in the embedding to genes, by integrated gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._progress import progress_bar
from ..counts import check_values
from ._weights import fold_batch_norm

if TYPE_CHECKING:
    from torch import Tensor

#: Pairs of cells at a time: 50 profiles on each path, and their gradients, are in memory at once.
_PAIRS_AT_ONCE = 4


def check_pairs(anchors: Any, negatives: Any, *, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of profiles, arrays or sparse matrices, as float32 (n, n_genes); raise if their shapes differ."""
    one, other = (
        np.ascontiguousarray(x.toarray() if hasattr(x, "toarray") else x, dtype=np.float32)
        for x in (anchors, negatives)
    )
    if one.shape != other.shape or one.ndim != 2 or one.shape[1] != n_genes:
        raise ValueError(f"anchors and negatives must both be (n, {n_genes}), got {one.shape} and {other.shape}.")
    for name, profiles in (("anchors", one), ("negatives", other)):
        check_values(profiles, where=name)
    return one, other


def attribute(
    weights: Mapping[str, np.ndarray], anchors: np.ndarray, negatives: np.ndarray, *, n_steps: int = 50
) -> np.ndarray:
    """Compute how much each gene of an anchor adds to its distance from a negative, float32 (n, n_genes), 0 or more.

    Integrated gradients (Sundararajan et al., ICML 2017) of ``|f(x) - f(negative)|^2`` along the straight line from the
    negative to the anchor, at ``n_steps`` points: their absolute values, for genes that are higher in the anchor
    (SCimilarity, Heimberg et al. 2025). Anchors and negatives are log-normalised profiles, float32 (n, n_genes).

    Raises
    ------
    ImportError
        captum is not installed.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise ImportError("Attributions need captum: pip install 'scim-tools[captum]'.") from error
    import torch

    network = _network(weights)

    def distance(x: Tensor, negative: Tensor) -> Tensor:
        result: Tensor = (network(x) - network(negative)).square().sum(dim=1)
        return result

    method = IntegratedGradients(distance)
    result = np.empty(anchors.shape, dtype=np.float32)
    with progress_bar(len(anchors), desc="Attributing") as bar:
        for start in range(0, len(anchors), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            one, other = torch.from_numpy(anchors[part]), torch.from_numpy(negatives[part])
            found = method.attribute(one, baselines=other, additional_forward_args=other, n_steps=n_steps)
            result[part] = (found * (one > other)).abs().detach().numpy()
            bar.update(len(one))
    return result


def _network(weights: Mapping[str, np.ndarray]) -> Callable[[Tensor], Tensor]:
    """Return the encoder as a differentiable function of dense profiles."""
    import torch

    layers = [
        (torch.from_numpy(matrix), torch.from_numpy(bias), slope) for matrix, bias, slope in fold_batch_norm(weights)
    ]

    def network(hidden: Tensor) -> Tensor:
        for matrix, bias, slope in layers:
            hidden = torch.nn.functional.linear(hidden, matrix, bias)
            if slope is not None:
                hidden = torch.where(hidden > 0, hidden, hidden * slope)
        return torch.nn.functional.normalize(hidden, dim=1)

    return network
