"""Methods that annotation.py compares: each is trained on the same cells, and labels the same held-out ones."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse

import scim

LABEL, STUDY = "coarse_term", "study"
#: Genes and passes that scVI and scANVI get, to end in minutes on two cores.
SCVI_GENES, SCVI_EPOCHS, SCANVI_EPOCHS, QUERY_EPOCHS = 4_000, 60, 20, 40


@dataclass
class Task:
    """Training cells and held-out ones, and what of both every method shares.

    ``train_x`` and ``test_x`` are log-normalised over the genes that the held-out study measured: methods other than
    scim are fitted anew for these genes.
    """

    studies: dict[str, ad.AnnData]
    merged: ad.AnnData
    test: ad.AnnData
    train_x: sparse.csr_matrix
    test_x: sparse.csr_matrix
    genes: list[str]

    @property
    def labels(self) -> np.ndarray:
        """Labels of the training cells."""
        return self.merged.obs[LABEL].astype(str).to_numpy()


@dataclass
class Answer:
    """Term id of each cell; the probability of it, where there is one; and what only scim gives."""

    labels: np.ndarray
    confidence: np.ndarray | None = None
    own: np.ndarray | None = None
    sets: dict[float, list[set[str]]] = field(default_factory=dict)


def lognorm(adata: ad.AnnData, genes: scim.genes.GeneSpace) -> sparse.csr_matrix:
    """Log-normalised cells x genes, as the encoder sees them."""
    from scim._counts import find_counts, normalize_rows

    _, matrix, kind, _ = find_counts(adata)
    return normalize_rows(genes.match_adata(adata).align(matrix), kind)


def run_scim(task: Task, seed: int) -> Answer:
    """Train with the defaults, build a reference, annotate."""
    merged = task.merged.copy()
    scim.SCIM.setup_anndata(merged, labels_key=LABEL, batch_key=STUDY)
    model = scim.SCIM(merged, seed=seed)
    model.train(seed=seed, enable_progress_bar=False)
    ontology = scim.CellOntology.bundled()
    with tempfile.TemporaryDirectory() as folder:
        reference = scim.Reference.build(
            Path(folder) / "train.scim", task.studies, model.to_encoder(), labels_key=LABEL, seed=seed
        )
        ids = {ontology.name(str(term)): str(term) for term in reference.terms.label_ids}
        sets: dict[float, list[set[str]]] = {}
        query = task.test.copy()
        for alpha in (0.05, 0.2, 0.1):
            scim.tl.annotate(query, reference, alpha=alpha)
            sets[alpha] = [{ids[name] for name in text.split(";")} for text in query.obs["scim_set"].astype(str)]
    first = np.array([ids[text.split(";")[0]] for text in query.obs["scim_set"].astype(str)])
    own = query.obs["scim_term_id"].astype(str).to_numpy()
    return Answer(first, query.obs["scim_confidence"].to_numpy(), own, sets)


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
    from sklearn.decomposition import PCA

    pca = PCA(50, random_state=seed, svd_solver="randomized").fit(task.train_x.toarray())
    return _neighbours(pca.transform(task.train_x.toarray()), task.labels, pca.transform(task.test_x.toarray()))


def run_harmony_knn(task: Task, seed: int) -> Answer:
    """The same components of all cells, studies integrated by Harmony, then 15 nearest neighbours."""
    import harmonypy
    import pandas as pd
    from sklearn.decomposition import PCA

    both = sparse.vstack([task.train_x, task.test_x]).toarray()
    components = PCA(50, random_state=seed, svd_solver="randomized").fit_transform(both)
    studies = pd.DataFrame({"study": [*task.merged.obs[STUDY].astype(str), *["held out"] * task.test.n_obs]})
    found = np.asarray(harmonypy.run_harmony(components, studies, "study", random_state=seed, verbose=False).Z_corr)
    found = found if len(found) == len(both) else found.T
    n = len(task.labels)
    return _neighbours(found[:n], task.labels, found[n:])


def _neighbours(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> Answer:
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(15).fit(train, labels)
    probabilities = model.predict_proba(test)
    return Answer(model.classes_[probabilities.argmax(axis=1)], probabilities.max(axis=1))


def run_celltypist(task: Task, seed: int) -> Answer:
    """CellTypist's own trainer by stochastic gradient descent (its default fails with scikit-learn 1.8), no voting."""
    import celltypist

    train = ad.AnnData(task.train_x, var={"gene": task.genes})
    test = ad.AnnData(task.test_x, var={"gene": task.genes})
    for adata in (train, test):
        adata.var_names = task.genes
    with contextlib.redirect_stdout(io.StringIO()):
        model = celltypist.train(train, labels=task.labels, check_expression=False, use_SGD=True, n_jobs=2)
        found = celltypist.annotate(test, model=model)
    scores = found.probability_matrix
    return Answer(found.predicted_labels["predicted_labels"].astype(str).to_numpy(), scores.max(axis=1).to_numpy())


def run_scvi_knn(task: Task, seed: int) -> Answer:
    """Train scVI on the training cells, map the held-out ones by scArches surgery, then 15 nearest neighbours."""
    import scvi

    train, test = _scvi_data(task, seed)
    scvi.model.SCVI.setup_anndata(train, batch_key=STUDY)
    model = scvi.model.SCVI(train, n_layers=2, use_layer_norm="both", use_batch_norm="none", encode_covariates=True)
    model.train(max_epochs=SCVI_EPOCHS, enable_progress_bar=False)
    query = scvi.model.SCVI.load_query_data(test, model)
    query.train(max_epochs=QUERY_EPOCHS, plan_kwargs={"weight_decay": 0.0}, enable_progress_bar=False)
    return _neighbours(model.get_latent_representation(), task.labels, query.get_latent_representation())


def run_scanvi(task: Task, seed: int) -> Answer:
    """Train scVI and from it scANVI, map the held-out cells by scArches surgery, and take its classifier's labels."""
    import scvi

    train, test = _scvi_data(task, seed)
    scvi.model.SCVI.setup_anndata(train, batch_key=STUDY)
    first = scvi.model.SCVI(train, n_layers=2, use_layer_norm="both", use_batch_norm="none", encode_covariates=True)
    first.train(max_epochs=SCVI_EPOCHS, enable_progress_bar=False)
    model = scvi.model.SCANVI.from_scvi_model(first, unlabeled_category="unknown", labels_key=LABEL)
    model.train(max_epochs=SCANVI_EPOCHS, n_samples_per_label=100, enable_progress_bar=False)
    query = scvi.model.SCANVI.load_query_data(test, model)
    query.train(max_epochs=QUERY_EPOCHS, plan_kwargs={"weight_decay": 0.0}, enable_progress_bar=False)
    scores = query.predict(soft=True)
    return Answer(scores.idxmax(axis=1).astype(str).to_numpy(), scores.max(axis=1).to_numpy())


def _scvi_data(task: Task, seed: int) -> tuple[ad.AnnData, ad.AnnData]:
    """Counts of the most variable genes; where a study has log1p values only, whole numbers of 1e4 a cell."""
    import scvi

    scvi.settings.seed = seed
    logged = task.train_x
    mean = np.asarray(logged.mean(axis=0)).ravel()
    variance = np.asarray(logged.multiply(logged).mean(axis=0)).ravel() - mean**2
    genes = np.sort(np.argsort(-variance)[:SCVI_GENES])
    data = []
    for matrix, obs in ((task.train_x, task.merged.obs), (task.test_x, task.test.obs)):
        counts = matrix[:, genes].copy()
        counts.data = np.round(np.expm1(counts.data)).astype(np.float32)
        adata = ad.AnnData(counts, obs=obs[[LABEL]].astype(str))
        adata.var_names = [task.genes[i] for i in genes]
        adata.obs[STUDY] = obs[STUDY].astype(str).to_numpy() if obs is task.merged.obs else "held out"
        data.append(adata)
    data[1].obs[LABEL] = "unknown"
    return data[0], data[1]


METHODS: dict[str, Callable[[Task, int], Answer]] = {
    "scim": run_scim,
    "logistic regression": run_logistic,
    "logistic regression, balanced": run_logistic_balanced,
    "PCA + kNN": run_pca_knn,
    "Harmony + kNN": run_harmony_knn,
    "CellTypist": run_celltypist,
    "scVI + scArches + kNN": run_scvi_knn,
    "scANVI + scArches": run_scanvi,
}
