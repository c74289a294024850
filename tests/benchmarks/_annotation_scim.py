"""scim in annotation.py: with its defaults, and with parts of its training and labelling switched off."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _annotation_scores import ALPHAS, Answer
from _annotation_tasks import LABEL, STUDY, Task

import scim

#: What an ablation does to training: arguments of :func:`run_scim`.
TRAININGS: dict[str, dict[str, Any]] = {
    "scim": {},
    "scim, no count thinning": {"plan": {"thinning": 0.0}},
    "scim, no gene panels": {"plan": {"panels": 0.0}},
    "scim, no augmentation": {"plan": {"thinning": 0.0, "panels": 0.0}},
    "scim, no class loss": {"plan": {"class_weight": 0.0}},
    "scim, no class loss, triplet weight 0.001": {"plan": {"class_weight": 0.0, "triplet_weight": 0.001}},
    "scim, no triplet loss": {"plan": {"triplet_weight": 0.0}},
    "scim, no reconstruction": {"plan": {"triplet_weight": 1.0}},
    "scim, triplet loss alone": {"plan": {"triplet_weight": 1.0, "class_weight": 0.0}},
    "scim, hardest negatives": {"plan": {"strategy": "hardest"}},
    "scim, positives of any study": {"plan": {"positives": "any"}},
    "scim, no ontology in training": {"model": {"ontology": "flat"}},
    "scim, doubtful labels kept": {"train": {"check_labels": False}},
    "scim, contrastive loss": {"train": {"loss": "contrastive"}},
    "scim, multi-similarity loss": {"train": {"loss": "multi_similarity"}},
    "scim, supervised contrastive loss": {"train": {"loss": "supcon"}},
    "scim, self-supervised contrast besides": {"plan": {"self_supervised_weight": 0.2}},
    "scim, weights averaged": {"averaged": 0.98},
    "scim, 9 of 10 labels hidden": {"hidden": 0.9},
    "scim, 9 of 10 labels hidden, self-supervised contrast": {"hidden": 0.9, "plan": {"self_supervised_weight": 0.2}},
}
#: What labels the cells by the model that "scim" trained; its rows come with that one's.
LABELLINGS: dict[str, dict[str, Mapping[str, Any]]] = {
    "scim, min_probability 0.7": {"annotate": {"min_probability": 0.7}},
    "scim, min_probability 0.9": {"annotate": {"min_probability": 0.9}},
    "scim, consensus of 15 cells": {"annotate": {"consensus": 15}},
    "scim, vote on the ontology": {"annotate": {"vote": "ontology"}},
    "scim, majority vote": {"annotate": {"vote": "majority"}},
    "scim, weighted vote": {"annotate": {"vote": "weighted"}},
    "scim, no landmarks": {"build": {"landmarks": "none"}},
    "scim, simulated landmarks": {"build": {"landmarks": "simulated"}},
}
#: Rooms of the package that a row of scim hangs on.
_ROOMS = ("model", "encoder", "reference", "index", "labels", "ontology", "tl", "genes", "counts", "pp")


def run_scim(
    task: Task,
    seed: int,
    *,
    model: Mapping[str, Any] | None = None,
    plan: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    averaged: float = 0.0,
    hidden: float = 0.0,
) -> Answer:
    """Train with the defaults (but for ``model``, ``plan`` and ``train``), build a reference, annotate.

    ``averaged`` is the decay of a running average of the weights, by Lightning's own callback; ``hidden`` the share of
    cells of which training does not learn the label. The reference knows all labels.
    """
    merged = task.merged.copy()
    if hidden:
        merged.obs.loc[np.random.default_rng(seed).random(merged.n_obs) < hidden, LABEL] = None
    callbacks = []
    if averaged:
        from lightning.pytorch.callbacks import EMAWeightAveraging

        callbacks = [EMAWeightAveraging(decay=averaged)]
    scim.SCIM.setup_anndata(merged, labels_key=LABEL, batch_key=STUDY)
    trained = scim.SCIM(merged, seed=seed, **(model or {}))
    options = {"plan_kwargs": dict(plan or {}), "callbacks": callbacks} | dict(train or {})
    trained.train(seed=seed, enable_progress_bar=False, **options)
    encoder = trained.to_encoder()
    default = not (model or plan or train or averaged or hidden)
    answer = label(task, encoder, seed, plain=not default)
    if default:
        answer.more = lambda: {k: label(task, encoder, seed, plain=True, **v) for k, v in LABELLINGS.items()}
    return answer


def label(
    task: Task,
    encoder: scim.Encoder,
    seed: int,
    *,
    build: Mapping[str, Any] | None = None,
    annotate: Mapping[str, Any] | None = None,
    plain: bool = False,
) -> Answer:
    """Build a reference of the training cells, and annotate the held-out ones at each alpha, or once if ``plain``."""
    query = task.test.copy()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.scim"
        reference = scim.Reference.build(path, task.studies, encoder, labels_key=LABEL, seed=seed, **(build or {}))
        terms = reference.terms
        ids = dict(zip(map(str, terms.term_names), map(str, terms.terms), strict=True)) | {"": ""}
        sets: dict[float, list[set[str]]] = {}
        for alpha in () if plain else [a for a in ALPHAS if a != 0.1]:
            scim.tl.annotate(query, reference, alpha=alpha)
            sets[alpha] = _sets(query, ids)
        scim.tl.annotate(query, reference, **(annotate or {}))
    if not plain:
        sets[0.1] = _sets(query, ids)
    written, sure = query.obs["scim_term_id"].astype(str).to_numpy(), query.obs["scim_confidence"].to_numpy()
    return Answer(written, sure, sets, np.asarray(query.obsm["X_scim"]))


def _sets(query: Any, ids: Mapping[str, str]) -> list[set[str]]:
    return [{ids[name] for name in text.split(";")} - {""} for text in query.obs["scim_set"].astype(str)]


def fingerprint() -> str:
    """What tells one state of the package's training and labelling from another."""
    root = Path(scim.__file__).parent
    digest = hashlib.sha256()
    for room in _ROOMS:
        for path in sorted([root / room] if room.endswith(".py") else (root / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


SCIM_METHODS: dict[str, Callable[[Task, int], Answer]] = {
    name: partial(run_scim, **options) for name, options in TRAININGS.items()
}
