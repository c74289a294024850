"""Which genes set cells apart in the space of an encoder: integrated gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._progress import progress_bar
from ..counts import check_values
from ._weights import fold_batch_norm

if TYPE_CHECKING:
    from torch import Tensor

#: Pairs at a time: 50 points on each path, and the gradients at them, are held in memory.
_PAIRS = 4


def check_pairs(anchors: Any, negatives: Any, *, n_genes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of profiles, arrays or sparse matrices, as float32 (n, n_genes); raises if they do not fit."""
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
    """Say how much each gene of an anchor adds to its distance from a negative.

    Integrated gradients (Sundararajan et al., ICML 2017) of ``|f(x) - f(negative)|^2`` along the straight line from the
    negative to the anchor; only genes that are higher in the anchor, without sign (SCimilarity, Heimberg et al. 2025).

    Parameters
    ----------
    weights
        Canonical weights of an encoder.
    anchors, negatives
        Pairs of log-normalised profiles, float32 (n, n_genes).
    n_steps
        Points on the line.

    Returns
    -------
    float32 (n, n_genes), 0 or more.

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
        for start in range(0, len(anchors), _PAIRS):
            part = slice(start, start + _PAIRS)
            one, other = torch.from_numpy(anchors[part]), torch.from_numpy(negatives[part])
            found = method.attribute(one, baselines=other, additional_forward_args=other, n_steps=n_steps)
            result[part] = (found * (one > other)).abs().detach().numpy()
            bar.update(len(one))
    return result


def _network(weights: Mapping[str, np.ndarray]) -> Callable[[Tensor], Tensor]:
    """Make the encoder a function of dense profiles that gradients flow through."""
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
