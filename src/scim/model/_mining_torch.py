"""The miner of :mod:`scim.model._mining` on tensors of any device: same arguments, same triplets."""

from __future__ import annotations

import torch
from torch import Tensor

from ._mining import MiningOptions, Positives, Strategy, Triplets, check_batch

#: Most entries of (pairs, cells) tensors that are held at a time.
_BLOCK_ENTRIES = 16_000_000
_MASK_31_BITS = 0x7FFFFFFF


def mine_triplets_torch(
    z: Tensor, labels: Tensor, studies: Tensor, comparable: Tensor, options: MiningOptions
) -> Triplets:
    """Find at most one negative for each pair of anchor and positive, on the tensors' device.

    Parameters, errors and result are those of :func:`scim.model._mining.mine_triplets`, with positions as int64
    tensors. The two agree exactly where their distances do.

    Examples
    --------
    >>> import torch
    >>> z = torch.tensor([[1, 0], [0.8, 0.6], [0.6, 0.8]])
    >>> labels, studies, comparable = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]), torch.eye(2, dtype=torch.bool)
    >>> mine_triplets_torch(z, labels, studies, comparable, MiningOptions(margin=0.5)).negative.tolist()
    [2]
    """
    check_batch(z, labels, studies, comparable)
    z = z.float()
    d = (2.0 - 2.0 * (z @ z.T)).clamp_min_(0.0).sqrt_().fill_diagonal_(0.0)
    return mine_from_distances_torch(d, labels, studies, comparable, options)


def mine_from_distances_torch(
    d: Tensor, labels: Tensor, studies: Tensor, comparable: Tensor, options: MiningOptions
) -> Triplets:
    """Mine on given distances, float32 (n_cells, n_cells)."""
    same, excludes = pair_masks(labels, studies, comparable.to(d.device), options.positives)
    pairs = same.nonzero()
    keep, seed = options.keep_threshold(len(pairs)), options.seed % 2**63
    if keep < 2**31:
        pairs = pairs[_bits(seed + 1, pairs) < keep]
    margin = torch.tensor(options.margin, dtype=torch.float32, device=d.device)
    step = max(1, _BLOCK_ENTRIES // max(1, len(labels)))
    negative = torch.cat(
        [torch.empty(0, dtype=torch.long, device=d.device)]
        + [_choose(d, excludes, p, margin, options.strategy, _bits(seed, p)) for p in torch.split(pairs, step)]
    )
    found = negative >= 0
    anchor, positive = pairs[found].T
    return Triplets(anchor, positive, negative[found], len(pairs), int((~found).sum()))


def pair_masks(labels: Tensor, studies: Tensor, comparable: Tensor, positives: Positives) -> tuple[Tensor, Tensor]:
    """Pairs of cells that are positives, and pairs that are negatives, bool (n_cells, n_cells) each.

    Labels and studies are codes (n_cells,), ``comparable`` is bool (n_labels, n_labels); for ``positives`` see
    :class:`scim.model._mining.MiningOptions`.
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
        # A label of -1 reads the extra entry at the end; cells without a label are in no pair anyway.
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
        # min() may return any of several equal distances; argmax of the mask returns the first.
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
    """31 random bits for each pair, the same as in the numba miner: 64-bit products overflow alike in both."""
    a, b = pairs.T
    h = a * _signed(0xBF58476D1CE4E5B9) + b * _signed(0x94D049BB133111EB) + _signed(seed * 0x9E3779B97F4A7C15)
    h = (h ^ _shift(h, 30)) * _signed(0xBF58476D1CE4E5B9)
    h = (h ^ _shift(h, 27)) * _signed(0x94D049BB133111EB)
    return _shift(h ^ _shift(h, 31), 33) & _MASK_31_BITS


def _signed(value: int) -> int:
    """Read the lower 64 bits of ``value`` as a signed integer."""
    value %= 2**64
    return value - 2**64 if value >= 2**63 else value


def _shift(h: Tensor, n: int) -> Tensor:
    """Shift right and fill with zeros; ``>>`` of int64 fills with the sign."""
    return (h >> n) & (2 ** (64 - n) - 1)
