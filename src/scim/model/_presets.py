"""Sizes of the network and schedules of training, chosen by the size of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from .._validate import check_fraction, check_positive_int


@dataclass(frozen=True)
class Architecture:
    """Shape of encoder and mirrored decoder: width of each hidden layer, and dimensions of the embedding.

    The first hidden layer is next to the genes. Dropouts are the shares of genes, and of hidden units, dropped in
    training.
    """

    n_hidden: Sequence[int]
    n_latent: int
    dropout_input: float
    dropout_hidden: float

    def __post_init__(self) -> None:
        for width in self.n_hidden:
            check_positive_int(width, argument="n_hidden")
        check_positive_int(self.n_latent, argument="n_latent", minimum=2)
        if not self.n_hidden:
            raise ValueError("n_hidden is empty. Give the width of at least one hidden layer, such as n_hidden=[256].")
        for name in ("dropout_input", "dropout_hidden"):
            check_fraction(getattr(self, name), argument=name, high=0.95)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train: cells in a batch, and peak learning rate of AdamW.

    The learning rate rises, and falls to zero, over ``max_epochs``. If training may stop early, it does so after
    ``patience`` epochs without a lower validation loss.
    """

    batch_size: int
    lr: float
    max_epochs: int
    patience: int


def architecture(n_cells: int, n_genes: int, **given: Sequence[int] | float | None) -> Architecture:
    """Choose the layers for ``n_cells`` training cells of ``n_genes`` genes; ``given`` values replace the chosen ones.

    Examples
    --------
    >>> architecture(6_000, 8_000).n_hidden
    (256, 256)
    >>> architecture(5_000_000, 28_231).n_latent
    128
    """
    # Wide layers memorise the studies if these are few and small. SCimilarity's 1024 x 3 -> 128 is for millions of
    # cells.
    if n_cells < 2_000 or n_genes < 1_000:
        chosen = Architecture((128,), 32, 0.1, 0.1)
    elif n_cells < 50_000:
        chosen = Architecture((256, 256), 64, 0.2, 0.2)
    elif n_cells < 500_000:
        chosen = Architecture((512, 512), 64, 0.3, 0.3)
    else:
        chosen = Architecture((1024, 1024, 1024), 128, 0.4, 0.5)
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(chosen, **values)


def schedule(n_cells: int, batch_size: int | None = None, max_epochs: int | None = None) -> Schedule:
    """Choose batch size, learning rate and number of epochs for ``n_cells`` training cells, unless they are given.

    Examples
    --------
    >>> schedule(6_000).batch_size
    256
    """
    # Batches must hold several cells of several terms from several studies, and small data need enough steps per epoch.
    if batch_size is None:
        batch_size = 128 if n_cells < 2_000 else 256 if n_cells < 20_000 else 512 if n_cells < 500_000 else 1_000
    batch_size = check_positive_int(batch_size, argument="batch_size", minimum=2)
    steps_per_epoch = max(1, ceil(n_cells / batch_size))
    # Training needs a number of steps rather than of epochs: more steps, but fewer epochs, the larger the data. With
    # twice as many steps, held-out studies are labelled no better, and wrong labels get higher scores.
    steps = 400 if n_cells < 20_000 else 1_000 if n_cells < 200_000 else 5_000
    epochs = min(100, max(10, round(steps / steps_per_epoch)))
    patience = max(6, epochs // 4)
    if max_epochs is not None:
        epochs = check_positive_int(max_epochs, argument="max_epochs")
    return Schedule(batch_size, 2e-3, epochs, patience)
