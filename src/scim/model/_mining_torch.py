"""The miner of :mod:`scim.model._mining` on tensors of any device: same arguments, same triplets."""

from __future__ import annotations

import torch
from torch import Tensor

from ._mining import MAX_PAIRS, Positives, Strategy, Triplets, check_settings, keep_threshold

#: Entries of pairs x cells that are held at a time.
_BLOCK = 16_000_000
_MASK31 = 0x7FFFFFFF


def mine_triplets_torch(
    z: Tensor,
    labels: Tensor,
    studies: Tensor,
    comparable: Tensor,
    *,
    margin: float = 0.05,
    strategy: Strategy = "semihard",
    positives: Positives = "prefer_cross_study",
    seed: int = 0,
    max_pairs: int = MAX_PAIRS,
) -> Triplets:
    """Find at most one negative for each pair of anchor and positive, on the tensors' device.

    Parameters, errors and result are those of :func:`scim.model._mining.mine_triplets`, the positions being int64
    tensors. The two agree exactly where their distances do.

    Examples
    --------
    >>> import torch
    >>> z = torch.tensor([[1, 0], [0.8, 0.6], [0.6, 0.8]])
    >>> labels, studies, comparable = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]), torch.eye(2, dtype=torch.bool)
    >>> mine_triplets_torch(z, labels, studies, comparable, margin=0.5).negative.tolist()
    [2]
    """
    check_settings(margin, strategy, positives, max_pairs)
    if z.ndim != 2 or labels.shape != z.shape[:1] or studies.shape != z.shape[:1]:
        raise ValueError(
            f"z must be (n_cells, n_latent) with a label and a study for each cell, got z {tuple(z.shape)}, labels "
            f"{tuple(labels.shape)}, studies {tuple(studies.shape)}."
        )
    if comparable.ndim != 2 or comparable.shape[0] != comparable.shape[1]:
        raise ValueError(f"comparable must be (n_labels, n_labels), got {tuple(comparable.shape)}.")
    if len(labels) and int(labels.max()) >= len(comparable):  # on a GPU, indexing with it would end the process
        raise ValueError(f"labels go up to {int(labels.max())}, but comparable has {len(comparable)} labels.")
    if not bool(torch.isfinite(z).all()):
        raise ValueError("z holds NaN or infinite values: the training has diverged. Lower lr.")
    z = z.float()
    d = (2.0 - 2.0 * (z @ z.T)).clamp_min_(0.0).sqrt_().fill_diagonal_(0.0)
    return mine_from_distances_torch(
        d,
        labels,
        studies,
        comparable,
        margin=margin,
        strategy=strategy,
        positives=positives,
        seed=seed,
        max_pairs=max_pairs,
    )


def mine_from_distances_torch(
    d: Tensor,
    labels: Tensor,
    studies: Tensor,
    comparable: Tensor,
    *,
    margin: float,
    strategy: Strategy,
    positives: Positives,
    seed: int,
    max_pairs: int = MAX_PAIRS,
) -> Triplets:
    """Mine on given distances, float32 (n_cells, n_cells)."""
    same, excludes = pair_masks(labels, studies, comparable.to(d.device), positives)
    pairs = same.nonzero()
    keep = keep_threshold(len(pairs), max_pairs)
    if keep < 2**31:
        pairs = pairs[_bits(seed % 2**63 + 1, pairs) < keep]
    limit = torch.tensor(margin, dtype=torch.float32, device=d.device)
    step = max(1, _BLOCK // max(1, len(labels)))
    negative = torch.cat(
        [torch.empty(0, dtype=torch.long, device=d.device)]
        + [_choose(d, excludes, part, limit, strategy, _bits(seed % 2**63, part)) for part in torch.split(pairs, step)]
    )
    found = negative >= 0
    anchor, positive = pairs[found].T
    return Triplets(anchor, positive, negative[found], len(pairs), int((~found).sum()))


def pair_masks(labels: Tensor, studies: Tensor, comparable: Tensor, positives: str) -> tuple[Tensor, Tensor]:
    """Pairs that belong together, and pairs that exclude one another, bool (n_cells, n_cells) each.

    Labels and studies are codes (n_cells,), ``comparable`` is bool (n_labels, n_labels); for ``positives`` see
    :func:`scim.model._mining.mine_triplets`.
    """
    labels, studies = labels.long(), studies.long()
    known, codes = labels >= 0, labels.clamp_min(0)
    same = (labels[:, None] == labels) & known
    same.fill_diagonal_(False)
    other_study = studies[:, None] != studies
    if positives == "cross_study":
        same &= other_study
    elif positives == "prefer_cross_study":
        has_other = (same & other_study).any(dim=1)
        across = torch.zeros(len(comparable) + 1, dtype=torch.bool, device=labels.device)
        across[labels[has_other]] = True
        # Unlabelled cells fall on the spare place at the end, and are in no pair anyway.
        same &= other_study | ~across[labels][:, None]
    excludes = ~comparable[codes][:, codes] & known & known[:, None]
    return same, excludes


def _choose(d: Tensor, excludes: Tensor, pairs: Tensor, margin: Tensor, strategy: Strategy, bits: Tensor) -> Tensor:
    """Position of each pair's negative, -1 for none."""
    if not len(pairs):
        return pairs.new_empty(0)
    anchor, positive = pairs.T
    low = d[anchor, positive]
    high = low + margin
    row, fits = d[anchor], excludes[anchor]
    if strategy == "hardest":
        nearest = torch.where(fits, row, torch.inf).min(dim=1)
        # min() may return any of several equal ones; the first True of the mask is the lowest position.
        first = (fits & (row == nearest.values[:, None])).int().argmax(dim=1)
        return torch.where(nearest.values < high, first, -1)
    if strategy == "semihard":
        fits = fits & (row > low[:, None]) & (row < high[:, None])
    count = fits.sum(dim=1)
    wanted = torch.where(count > 0, bits % count.clamp_min(1), -1)
    rank = fits.cumsum(dim=1, dtype=torch.int32) - 1
    chosen = (fits & (rank == wanted[:, None])).int().argmax(dim=1)
    ok = (count > 0) & (row.gather(1, chosen[:, None]).squeeze(1) < high)
    return torch.where(ok, chosen, -1)


def _bits(seed: int, pairs: Tensor) -> Tensor:
    """31 random bits for each pair, those of the numba miner: 64-bit products wrap alike in both."""
    a, b = pairs.T
    h = a * _signed(0xBF58476D1CE4E5B9) + b * _signed(0x94D049BB133111EB) + _signed(seed * 0x9E3779B97F4A7C15)
    h = (h ^ _shift(h, 30)) * _signed(0xBF58476D1CE4E5B9)
    h = (h ^ _shift(h, 27)) * _signed(0x94D049BB133111EB)
    return _shift(h ^ _shift(h, 31), 33) & _MASK31


def _signed(value: int) -> int:
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value


def _shift(h: Tensor, n: int) -> Tensor:
    """Shift right without the sign that int64 drags along."""
    return (h >> n) & (2 ** (64 - n) - 1)
