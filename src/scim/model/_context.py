"""Around a training: its seed, what is not worth saying while it runs, and its record."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .._version import scim_version
from ._losses import loss_name
from ._plan import PlanOptions
from ._training_data import TrainingData


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from ``seed`` inside, and leave the caller's random state as it was."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what Lightning has to say about things that are as they should be here."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers.*",
                ".*The number of training batches.*",
                ".*`max_epochs` was not set.*",
                ".*Starting from v.*",
                ".*isinstance.treespec, LeafSpec.*",
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        log.setLevel(level)


def record(
    inputs: TrainingData,
    options: PlanOptions,
    *,
    epochs: int,
    best: int | None,
    seed: int,
    held_out: list[str],
    n_train: int,
    n_doubted: int,
) -> dict[str, Any]:
    """Say what the weights come from, in plain values.

    Parameters
    ----------
    inputs, options, seed
        What was trained on, and how.
    epochs, best
        Passes over the data, all in all, and after which of the last training the weights were kept; None: at its end.
    held_out
        Studies that were held out.
    n_train, n_doubted
        Cells that were trained on, and labels that were not.
    """
    return {
        "scim_version": scim_version(),
        "torch_version": str(torch.__version__),
        "studies": list(inputs.study_names),
        "held_out_studies": held_out,
        "n_cells": len(inputs.labels),
        "n_train_cells": n_train,
        "n_labelled_cells": int((inputs.labels >= 0).sum()),
        "labels": [str(i) for i in inputs.terms.label_ids],
        "label_names": inputs.label_names,
        "ontology_version": inputs.ontology_version,
        "input": inputs.kind.to_dict(),
        "seed": seed,
        "epochs": epochs,
        "best_epoch": best,
        "triplet_weight": options.triplet_weight,
        "margin": options.margin,
        "strategy": options.strategy,
        "loss": loss_name(options.loss),
        "n_doubtful_labels": n_doubted,
    }
