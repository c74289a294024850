"""Losses between cells of a batch: triplets, pairs, and two augmentations of the same cell."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from .._validate import check_option
from ._mining import MiningOptions, Positives, Triplets, mine_triplets
from ._mining_torch import mine_triplets_torch, pair_masks

Loss = Literal["triplet", "contrastive", "multi_similarity", "supcon"]

LOSSES: tuple[Loss, ...] = get_args(Loss)
#: Classes of pytorch-metric-learning; its default settings are those of the papers.
_LIBRARY = {"contrastive": "ContrastiveLoss", "multi_similarity": "MultiSimilarityLoss", "supcon": "SupConLoss"}


def pair_loss(loss: str | nn.Module) -> nn.Module | None:
    """Return the loss over pairs of this name, or the loss itself; None for triplets, which scim mines itself.

    Parameters
    ----------
    loss
        ``"triplet"``; ``"contrastive"`` (Hadsell et al., CVPR 2006), ``"multi_similarity"`` (Wang et al., CVPR 2019)
        or ``"supcon"`` (Khosla et al., NeurIPS 2020), taken from pytorch-metric-learning; or any loss over pairs of
        that package, with any settings.

    Raises
    ------
    ValueError
        The name is not known, or the loss has weights that would have to be trained.
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
                f"{type(loss).__name__} has weights of its own, which would not be trained. Give a loss over pairs "
                "without weights, or raise class_weight, the weight of scim's loss with a prototype for each label."
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
    """Name of a loss in the record of a training."""
    return loss if isinstance(loss, str) else type(loss).__name__


def triplet_term(
    z: Tensor, labels: Tensor, studies: Tensor, comparable: np.ndarray, mining: MiningOptions, *, per_pair: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Triplet loss of a batch of unit vectors (n_cells, n_latent), and the number of triplets.

    Labels and studies are codes (n_cells,), -1 for no label. ``comparable`` are pairs of labels that are the same term,
    or ancestor and descendant, bool (n_labels, n_labels). With ``per_pair``, the loss is divided by the number of pairs
    for which a negative was looked for, not by the number of triplets with a loss.
    """
    triplets = _mine(z, labels, studies, comparable, mining)
    # Not z[anchor]: the order in which threads add up its gradient varies, and with it the rounding.
    anchor, positive, negative = (
        z.index_select(0, torch.as_tensor(cells, device=z.device).long())
        for cells in (triplets.anchor, triplets.positive, triplets.negative)
    )
    violation = torch.relu((anchor - positive).norm(dim=1) - (anchor - negative).norm(dim=1) + mining.margin)
    n_active = (violation.detach() > 0).sum()
    divisor = max(triplets.n_candidates, 1) if per_pair else n_active.clamp_min(1)
    # Without triplets the sum is zero, but still part of the graph.
    return violation.sum() / divisor, {
        "triplets_mined": torch.tensor(float(len(anchor))),
        "triplets_active": n_active.float(),
    }


def pair_term(
    function: nn.Module, z: Tensor, labels: Tensor, studies: Tensor, comparable: np.ndarray, *, positives: Positives
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of a batch over pairs, and the number of pairs.

    Positives share a term and, depending on ``positives``, come from different studies; negatives have terms that
    exclude each other. Ancestor and descendant are neither, and cells without a label are left out.
    """
    known = torch.nonzero(labels >= 0)[:, 0]
    z, labels, studies = (cells.index_select(0, known) for cells in (z, labels, studies))
    same, apart = pair_masks(labels, studies, torch.as_tensor(comparable, device=z.device), positives)
    pairs = (*same.nonzero(as_tuple=True), *apart.nonzero(as_tuple=True))
    value: Tensor = function(z, indices_tuple=pairs)
    return value, {"positive_pairs": same.sum().float(), "negative_pairs": apart.sum().float()}


def twin_term(one: Tensor, other: Tensor, labels: Tensor, comparable: np.ndarray, temperature: float) -> Tensor:
    """Contrast two augmentations of each cell with those of all other cells (NT-Xent; Chen et al., ICML 2020).

    Other cells whose labels do not exclude the cell's own are left out. A cell without a label is contrasted with all.
    pytorch-metric-learning has this loss, too, but compares every positive pair with every negative pair: half a
    gigabyte for a batch of 256 cells.

    ``one`` and ``other`` are the unit vectors of the cells, augmented twice, (n_cells, n_latent). Cosines are divided
    by ``temperature``. See :func:`triplet_term` for the others.
    """
    n = len(one)
    z = torch.cat([one, other])
    known, codes = labels >= 0, labels.clamp_min(0)
    related = torch.as_tensor(comparable, device=z.device)[codes][:, codes] & known & known[:, None]
    left_out = related.fill_diagonal_(False).repeat(2, 2).fill_diagonal_(True)
    cosines = (z @ z.T).masked_fill(left_out, -torch.inf)
    twin = torch.arange(2 * n, device=z.device).roll(n)
    return nn.functional.cross_entropy(cosines / temperature, twin)


def _mine(z: Tensor, labels: Tensor, studies: Tensor, comparable: np.ndarray, mining: MiningOptions) -> Triplets:
    if z.device.type == "cpu":
        return mine_triplets(z.detach().numpy(), labels.numpy(), studies.numpy(), comparable, mining)
    return mine_triplets_torch(z.detach(), labels, studies, torch.as_tensor(comparable, device=z.device), mining)
