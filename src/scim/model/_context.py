"""Seed, silenced warnings and provenance record of a training run."""

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
from ._splits import Split
from ._training_data import TrainingData


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random numbers from ``seed`` inside, and restore the caller's random state afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Silence messages of Lightning about settings that are intended here."""
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
    split: Split,
    *,
    epochs: int,
    best_epoch: int | None,
    seed: int,
    n_doubted: int,
) -> dict[str, Any]:
    """Provenance of the weights, in plain values.

    ``epochs`` counts those of earlier trainings, too. ``best_epoch`` is the epoch of the last training whose weights
    were kept; None for its end. ``n_doubted`` labels were not trained on, since they contradict their neighbours.
    """
    return {
        "scim_version": scim_version(),
        "torch_version": str(torch.__version__),
        "studies": list(inputs.study_names),
        "held_out_studies": split.held_out,
        "n_cells": len(inputs.labels),
        "n_train_cells": len(split.train),
        "n_labelled_cells": int((inputs.labels >= 0).sum()),
        "labels": [str(i) for i in inputs.terms.label_ids],
        "label_names": inputs.label_names,
        "ontology_version": inputs.ontology_version,
        "input": inputs.kind.to_dict(),
        "seed": seed,
        "epochs": epochs,
        "best_epoch": best_epoch,
        "triplet_weight": options.triplet_weight,
        "margin": options.margin,
        "strategy": options.strategy,
        "loss": loss_name(options.loss),
        "n_doubtful_labels": n_doubted,
    }
