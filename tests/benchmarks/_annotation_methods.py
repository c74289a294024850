"""Methods that annotation.py compares: each is trained on the same cells, and labels the same held-out ones."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable
from importlib.util import find_spec

import anndata as ad
import numpy as np
from _annotation_deep import run_scanvi, run_scimilarity, run_scvi_knn
from _annotation_scim import SCIM_METHODS, TRAININGS
from _annotation_scores import Answer
from _annotation_tasks import Task
from scipy import sparse

#: Neighbours that vote, of the methods that have no number of their own.
NEIGHBOURS = 15


def run_logistic(task: Task, seed: int) -> Answer:
    """Multinomial logistic regression with scikit-learn's default penalty."""
    return _logistic(task)


def run_logistic_balanced(task: Task, seed: int) -> Answer:
    """The same with labels weighed alike and a tenth of C, which is the best of what was tried on these studies."""
    return _logistic(task, C=0.1, class_weight="balanced")


def _logistic(task: Task, **options: object) -> Answer:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=500, **options).fit(task.train_x, task.labels)
    probabilities = model.predict_proba(task.test_x)
    return Answer(model.classes_[probabilities.argmax(axis=1)], probabilities.max(axis=1))


def run_pca_knn(task: Task, seed: int) -> Answer:
    """50 principal components of the training cells, then 15 nearest neighbours."""
    pca = _components(task, seed).fit(task.train_x.toarray())
    return neighbours(pca.transform(task.train_x.toarray()), task.labels, pca.transform(task.test_x.toarray()))


def run_harmony_knn(task: Task, seed: int) -> Answer:
    """The same components of all cells, studies integrated by Harmony, then 15 nearest neighbours."""
    import harmonypy
    import pandas as pd

    both = sparse.vstack([task.train_x, task.test_x]).toarray()
    components = _components(task, seed).fit_transform(both)
    studies = pd.DataFrame({"study": np.concatenate(task.batches)})
    found = np.asarray(harmonypy.run_harmony(components, studies, "study", random_state=seed, verbose=False).Z_corr)
    found = found if len(found) == len(both) else found.T
    n = len(task.labels)
    return neighbours(found[:n], task.labels, found[n:])


def _components(task: Task, seed: int):
    from sklearn.decomposition import PCA

    return PCA(min(50, *task.train_x.shape), random_state=seed, svd_solver="randomized")


def neighbours(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> Answer:
    """A vote of the 15 nearest training cells."""
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(NEIGHBOURS).fit(train, labels)
    probabilities = model.predict_proba(test)
    return Answer(model.classes_[probabilities.argmax(axis=1)], probabilities.max(axis=1), embedding=test)


def run_celltypist(task: Task, seed: int) -> Answer:
    """CellTypist's own trainer by stochastic gradient descent (its default fails with scikit-learn 1.8), no voting."""
    import celltypist

    train = ad.AnnData(task.train_x, var={"gene": task.genes})
    test = ad.AnnData(task.test_x, var={"gene": task.genes})
    for adata in (train, test):
        adata.var_names = task.genes
    np.random.seed(seed)  # its descent has no seed of its own
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        model = celltypist.train(train, labels=task.labels, check_expression=False, use_SGD=True, n_jobs=2)
        found = celltypist.annotate(test, model=model)
    scores = found.probability_matrix
    return Answer(found.predicted_labels["predicted_labels"].astype(str).to_numpy(), scores.max(axis=1).to_numpy())


def run_scvi(task: Task, seed: int) -> Answer:
    """scVI and scArches, then the same neighbours."""
    train, test = run_scvi_knn(task, seed)
    return neighbours(train, task.labels, test)


#: In the order in which they are run: quick ones first.
METHODS: dict[str, Callable[[Task, int], Answer]] = {
    "logistic regression": run_logistic,
    "logistic regression, balanced": run_logistic_balanced,
    "PCA + kNN": run_pca_knn,
    "Harmony + kNN": run_harmony_knn,
    "CellTypist": run_celltypist,
    "scVI + scArches + kNN": run_scvi,
    "scANVI + scArches": run_scanvi,
    "SCimilarity, retrained": run_scimilarity,
    **SCIM_METHODS,
}
#: Packages that methods need and scim does not.
NEEDS = {"CellTypist": "celltypist", "Harmony + kNN": "harmonypy"}
NEEDS |= {name: "pytorch_metric_learning" for name, options in TRAININGS.items() if "loss" in options.get("train", {})}


def missing(method: str) -> str | None:
    """What a method needs and is not there."""
    if method in NEEDS and find_spec(NEEDS[method]) is None:
        return f"{NEEDS[method]} is not installed"
    if method == "SCimilarity, retrained" and not os.environ.get("SCIM_PEER_PYTHON"):
        return "--peer-python or SCIM_PEER_PYTHON must name a Python that has scimilarity"
    return None
