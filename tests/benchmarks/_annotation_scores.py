"""How annotation.py scores labels, their confidences, and embeddings."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from _annotation_tasks import BLOOD_LABELS, LABEL, Task

import scim

if TYPE_CHECKING:
    from collections.abc import Callable

ALPHAS = (0.05, 0.1, 0.2)
#: Cells of a label that both held-out studies need for its part in the scores of integration.
INTEGRATION_CELLS = 5


@dataclass
class Answer:
    """What a method says of the held-out cells.

    Attributes
    ----------
    labels
        Label that the default call writes for each cell: a term of the ontology or a label; ``""`` for none.
    confidence
        Probability of it.
    sets
        Prediction sets by alpha.
    embedding
        Vectors of the held-out cells.
    more
        Answers of other ways to label by the same trained model, by name; asked for after the clock has stopped.
    """

    labels: np.ndarray
    confidence: np.ndarray | None = None
    sets: dict[float, list[set[str]]] = field(default_factory=dict)
    embedding: np.ndarray | None = None
    more: Callable[[], dict[str, Answer]] | None = None


def rate(task: Task, answer: Answer) -> dict[str, float]:
    """All scores of one method on one task."""
    truth = task.test.obs[LABEL].astype(str).to_numpy()
    row = label_scores(truth, answer.labels)
    given = answer.labels != ""
    pairs = list(zip(truth, answer.labels, strict=True))
    fits = np.array([label in at_or_above(own) for own, label in pairs])
    broader = [len(at_or_above(own)) - len(at_or_above(label)) for own, label in pairs if label in at_or_above(own)]
    row |= {"unassigned": float(1 - given.mean()), "wrong": float((given & ~fits).mean())}
    row |= {"broader": float(np.mean([n > 0 for n in broader])) if broader else 0.0}
    row |= {"levels": float(np.mean([n for n in broader if n > 0])) if any(broader) else 0.0}
    if answer.confidence is not None and given.any():
        row["ece"] = calibration_error(fits[given], answer.confidence[given])
    for alpha, sets in answer.sets.items():
        row[f"coverage_{alpha:g}"] = float(np.mean([t in s for t, s in zip(truth, sets, strict=True)]))
        row[f"set_size_{alpha:g}"] = float(np.mean([len(s) for s in sets]))
    if task.condition.rare is not None:
        rare = BLOOD_LABELS[task.condition.rare]
        right = np.sum((truth == rare) & (answer.labels == rare))
        row["f1_rare"] = float(2 * right / max(np.sum(truth == rare) + np.sum(answer.labels == rare), 1))
    return row


def label_scores(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Share of equal labels, balanced accuracy, macro-F1 and hierarchical F over the labels that occur in the truth."""
    from sklearn.metrics import f1_score, recall_score

    labels = np.unique(truth)
    return {
        "same": float(np.mean(truth == predicted)),
        "balanced_accuracy": float(recall_score(truth, predicted, labels=labels, average="macro", zero_division=0)),
        "macro_f1": float(f1_score(truth, predicted, labels=labels, average="macro", zero_division=0)),
        "hierarchical_f": hierarchical_f(truth, predicted),
    }


@cache
def at_or_above(term: str) -> frozenset[str]:
    """A term and its ancestors; a label outside the ontology is alone, and no label is nothing."""
    ontology = scim.CellOntology.bundled()
    return frozenset({term, *(ontology.ancestors(term) if term in ontology else ())} if term else ())


def hierarchical_f(truth: np.ndarray, predicted: np.ndarray) -> float:
    """F score of the terms with all their ancestors (Kiritchenko et al., 2005), the mean over the true labels."""
    found = []
    for label in np.unique(truth):
        mine = [at_or_above(p) for p in predicted[truth == label]]
        shared = sum(len(at_or_above(label) & p) for p in mine)
        found.append(2 * shared / (len(mine) * len(at_or_above(label)) + sum(map(len, mine))))
    return float(np.mean(found))


def calibration_error(right: np.ndarray, confidence: np.ndarray) -> float:
    """Expected calibration error in ten bins of equal width."""
    bins = np.clip((confidence * 10).astype(int), 0, 9)
    parts = [(bins == b) for b in np.unique(bins)]
    return float(sum(part.mean() * abs(right[part].mean() - confidence[part].mean()) for part in parts))


def can_score_integration() -> bool:
    """Whether scib-metrics is installed."""
    return find_spec("scib_metrics") is not None


def integration(task: Task, embedding: np.ndarray) -> dict[str, float]:
    """Scores of scib-metrics (Luecken et al., 2022): two studies that no method trained on, joined by one embedding.

    Only labels that both studies have take part. Isolated labels are left out: with two batches, all are.
    """
    import anndata as ad
    import pandas as pd
    from scib_metrics.benchmark import Benchmarker, BioConservation
    from sklearn.decomposition import PCA

    truth, batches = task.test.obs[LABEL].astype(str).to_numpy(), task.batches[1]
    sizes = pd.crosstab(truth, batches).min(axis=1)
    kept = np.isin(truth, sizes.index[sizes >= INTEGRATION_CELLS])
    values = task.test_x[kept].toarray()
    cells = ad.AnnData(values, obs=pd.DataFrame({"batch": batches[kept], "label": truth[kept]}, dtype="category"))
    cells.obs.index = cells.obs.index.astype(str)
    cells.obsm["before"] = PCA(50, random_state=0, svd_solver="randomized").fit_transform(values)
    cells.obsm["after"] = np.ascontiguousarray(embedding[kept], dtype=np.float32)
    judge = Benchmarker(
        cells,
        batch_key="batch",
        label_key="label",
        embedding_obsm_keys=["after"],
        bio_conservation_metrics=BioConservation(isolated_labels=False),
        pre_integrated_embedding_obsm_key="before",
        progress_bar=False,
    )
    judge.benchmark()
    found = judge.get_results(min_max_scale=False).loc["after"]
    names = {"Bio conservation": "scib_bio", "Batch correction": "scib_batch", "Total": "scib_total"}
    return {names.get(str(k), f"scib: {k}"): float(v) for k, v in found.items()}
