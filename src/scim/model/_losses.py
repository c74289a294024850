"""Losses between cells of a batch: which pairs belong together, and how that pulls at their embedding."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from .._validate import check_option
from ._mining_torch import mine_triplets_torch, pair_masks

Loss = Literal["triplet", "contrastive", "multi_similarity", "supcon"]

LOSSES: tuple[Loss, ...] = get_args(Loss)
#: Losses of pytorch-metric-learning, with the settings that it gives them, which are those of the papers.
_LIBRARY = {"contrastive": "ContrastiveLoss", "multi_similarity": "MultiSimilarityLoss", "supcon": "SupConLoss"}


def pair_loss(loss: str | nn.Module) -> nn.Module | None:
    """Loss over pairs of a name, or the one given; None for triplets, which are scim's own.

    Parameters
    ----------
    loss
        ``"triplet"``; ``"contrastive"`` (Hadsell et al., CVPR 2006), ``"multi_similarity"`` (Wang et al., CVPR 2019)
        or ``"supcon"`` (Khosla et al., NeurIPS 2020), taken from pytorch-metric-learning; or a loss of that package,
        for others and for other settings.

    Raises
    ------
    ValueError
        The name is not known, or the loss has weights of its own to learn.
    ImportError
        pytorch-metric-learning is not installed.

    Examples
    --------
    >>> pair_loss("triplet") is None
    True
    """
    if isinstance(loss, nn.Module):
        if any(True for _ in loss.parameters()):
            raise ValueError(
                f"{type(loss).__name__} has weights of its own, which would not be trained. Give a loss over pairs, or "
                "raise class_weight: that is scim's loss with a prototype for each label."
            )
        return loss
    check_option(loss, LOSSES, argument="loss")
    if loss == "triplet":
        return None
    try:
        from pytorch_metric_learning import losses
    except ImportError as error:
        raise ImportError(
            f"loss={loss!r} needs pytorch-metric-learning: pip install 'scim-tools[losses]'. "
            "loss='triplet' works without."
        ) from error
    function: nn.Module = getattr(losses, _LIBRARY[loss])()
    return function


def loss_name(loss: str | nn.Module) -> str:
    """Call a loss by a name, for the record of a training."""
    return loss if isinstance(loss, str) else type(loss).__name__


def triplet_term(
    z: Tensor,
    labels: Tensor,
    studies: Tensor,
    comparable: np.ndarray,
    *,
    margin: float,
    per_pair: bool,
    **mining: Any,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Triplet loss of a batch, and how many triplets there were.

    Parameters
    ----------
    z
        Unit vectors (n_cells, n_latent).
    labels, studies
        Codes (n_cells,), -1 for no label.
    comparable
        Labels that are the same term, or ancestor and descendant, bool (n_labels, n_labels).
    margin
        By how much farther than a positive a negative has to be, as a distance on the unit sphere.
    per_pair
        Divide by all pairs that could have given a triplet, and not by the triplets that cost something.
    **mining
        For :func:`scim.model._mining.mine_triplets`.
    """
    triplets = _mine(z, labels, studies, comparable, margin=margin, **mining)
    anchor, positive, negative = (torch.as_tensor(t, device=z.device).long() for t in triplets[:3])
    n_candidates = triplets[3]
    # Not z[anchor]: its gradient is summed by several threads in any order, and rounds differently every time.
    one, near, far = (z.index_select(0, rows) for rows in (anchor, positive, negative))
    violation = torch.relu((one - near).norm(dim=1) - (one - far).norm(dim=1) + margin)
    n_active = (violation.detach() > 0).sum()
    divisor = max(n_candidates, 1) if per_pair else n_active.clamp_min(1)
    # The sum over no triplet is a zero that still hangs on the graph.
    return violation.sum() / divisor, {
        "triplets_mined": torch.tensor(float(len(anchor))),
        "triplets_active": n_active.float(),
    }


def pair_term(
    function: nn.Module, z: Tensor, labels: Tensor, studies: Tensor, comparable: np.ndarray, *, positives: str
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a batch over pairs, and how many pairs there were.

    Positives share a term and, by ``positives``, come from different studies; negatives have terms that exclude one
    another. Ancestor and descendant are neither, and cells without a label take no part.
    """
    known = torch.nonzero(labels >= 0)[:, 0]
    z, labels, studies = (cells.index_select(0, known) for cells in (z, labels, studies))
    same, apart = pair_masks(labels, studies, torch.as_tensor(comparable, device=z.device), positives)
    pairs = (*same.nonzero(as_tuple=True), *apart.nonzero(as_tuple=True))
    value: Tensor = function(z, indices_tuple=pairs)
    return value, {"positive_pairs": same.sum().float(), "negative_pairs": apart.sum().float()}


def twin_term(one: Tensor, other: Tensor, labels: Tensor, comparable: np.ndarray, temperature: float) -> Tensor:
    """Contrast of two augmentations of each cell with those of all other cells (NT-Xent; Chen et al., ICML 2020).

    Cells whose labels do not exclude one another are left out: they are no strangers. A cell without a label is
    contrasted with all. pytorch-metric-learning has this loss, too, but compares every positive pair with every
    negative one: half a gigabyte for a batch of 256 cells.

    Parameters
    ----------
    one, other
        Unit vectors of the cells, augmented twice, (n_cells, n_latent).
    labels
        Codes (n_cells,), -1 for no label.
    comparable
        Labels that are the same term, or ancestor and descendant, bool (n_labels, n_labels).
    temperature
        What cosines are divided by.
    """
    n = len(one)
    z = torch.cat([one, other])
    known, codes = labels >= 0, labels.clamp_min(0)
    related = torch.as_tensor(comparable, device=z.device)[codes][:, codes] & known & known[:, None]
    left_out = related.fill_diagonal_(False).repeat(2, 2).fill_diagonal_(True)
    cosines = (z @ z.T).masked_fill(left_out, -torch.inf)
    twin = torch.arange(2 * n, device=z.device).roll(n)
    return nn.functional.cross_entropy(cosines / temperature, twin)


def _mine(
    z: Tensor, labels: Tensor, studies: Tensor, comparable: np.ndarray, **options: Any
) -> tuple[Any, Any, Any, int]:
    if z.device.type == "cpu":
        from ._mining import mine_triplets

        found = mine_triplets(
            z.detach().numpy(), labels.numpy().astype(np.int32), studies.numpy().astype(np.int32), comparable, **options
        )
    else:
        found = mine_triplets_torch(
            z.detach(), labels, studies, torch.as_tensor(comparable, device=z.device), **options
        )
    return found.anchor, found.positive, found.negative, found.n_candidates
