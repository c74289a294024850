"""Sizes and schedules that follow from the size of the data, so that ``SCIM(adata).train()`` does well unaided."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from ..encoder import has_amx


@dataclass(frozen=True)
class Architecture:
    """Shape of encoder and mirrored decoder.

    Attributes
    ----------
    n_hidden
        Width of each hidden layer, from the genes inwards.
    n_latent
        Dimensions of the embedding.
    dropout_input, dropout_hidden
        Share of inputs that each block drops while training.
    """

    n_hidden: tuple[int, ...]
    n_latent: int
    dropout_input: float
    dropout_hidden: float


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Attributes
    ----------
    batch_size
        Cells in a batch.
    lr
        Peak learning rate of AdamW.
    max_epochs
        Epochs over which the learning rate warms up and falls to zero.
    patience
        Epochs without a better validation loss after which training stops.
    """

    batch_size: int
    lr: float
    max_epochs: int
    patience: int


def architecture(n_cells: int, n_genes: int) -> Architecture:
    """Choose layer sizes for ``n_cells`` training cells of ``n_genes`` genes.

    Examples
    --------
    >>> architecture(6_000, 8_000).n_hidden
    (256, 256)
    >>> architecture(5_000_000, 28_231).n_latent
    128
    """
    # A few thousand cells of a handful of studies carry too little to fill wide layers: these memorise the
    # studies. SCimilarity's 1024 x 3 -> 128 is for millions of cells.
    if n_cells < 2_000 or n_genes < 1_000:
        return Architecture((128,), 32, 0.1, 0.1)
    if n_cells < 50_000:
        return Architecture((256, 256), 64, 0.2, 0.2)
    if n_cells < 500_000:
        return Architecture((512, 512), 64, 0.3, 0.3)
    return Architecture((1024, 1024, 1024), 128, 0.4, 0.5)


def schedule(n_cells: int, batch_size: int | None = None) -> Schedule:
    """Choose batch size, learning rate and number of epochs for ``n_cells`` training cells.

    Examples
    --------
    >>> schedule(6_000).batch_size
    256
    """
    # Batches must hold several cells of several terms from several studies, and small data enough steps an epoch.
    if batch_size is None:
        batch_size = 128 if n_cells < 2_000 else 256 if n_cells < 20_000 else 512 if n_cells < 500_000 else 1_000
    steps_per_epoch = max(1, ceil(n_cells / batch_size))
    # What training needs is a number of steps rather than of passes: some hundreds for small data; more steps, but
    # fewer passes, as data grow. Twice as many label studies left out no better, and are surer of what is wrong.
    steps = 400 if n_cells < 20_000 else 1_000 if n_cells < 200_000 else 5_000
    max_epochs = min(100, max(10, round(steps / steps_per_epoch)))
    return Schedule(batch_size, 2e-3, max_epochs, max(6, max_epochs // 4))


def choose_precision(accelerator: str) -> str:
    """Choose in what numbers layers work, as Lightning's ``precision``: bf16 where hardware multiplies it itself.

    Weights, lengths, distances and losses are float32 in either case.
    """
    import torch

    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if on_gpu
        else accelerator in ("auto", "cpu") and has_amx()
    ):
        return "bf16-mixed"
    return "32-true"
