"""scVI, scANVI and SCimilarity in annotation.py, each small enough to end in minutes on two cores."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
from _annotation_scores import Answer
from _annotation_tasks import LABEL, STUDY, Task

import scim

#: Genes, cells in a batch, and steps (of scVI, of scANVI after it, of surgery) that scVI and scANVI get, in 400 passes
#: at most. Their own defaults, up to 400 passes in batches of 128, take ten times as long.
SCVI_GENES, SCVI_BATCH, SCVI_STEPS, SCANVI_STEPS, QUERY_STEPS, MOST_EPOCHS = 2_000, 256, 1_000, 300, 300, 400
_LAYERS: dict[str, Any] = {
    "n_layers": 2,
    "use_layer_norm": "both",
    "use_batch_norm": "none",
    "encode_covariates": True,
}
#: What SCimilarity gets: layers as scim has for data of this size, its own loss weights, and steps instead of its
#: 500 passes. It takes the training cells' most variable genes.
SCIMILARITY: dict[str, Any] = {"genes": 5_000, "hidden": [256, 256], "latent": 64, "batch": 500, "steps": 400}
_UNKNOWN = "unknown"


def run_scvi_knn(task: Task, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Train scVI on the training cells, and map the held-out ones by scArches surgery: vectors of both."""
    import scvi

    train, test = _scvi_data(task, seed)
    scvi.model.SCVI.setup_anndata(train, batch_key=STUDY)
    model = scvi.model.SCVI(train, **_LAYERS)
    _train(model, SCVI_STEPS)
    query = scvi.model.SCVI.load_query_data(test, model)
    _train(query, QUERY_STEPS, plan_kwargs={"weight_decay": 0.0})
    return model.get_latent_representation(), query.get_latent_representation()


def run_scanvi(task: Task, seed: int) -> Answer:
    """Train scVI and from it scANVI, map the held-out cells by scArches surgery, and take its classifier's labels."""
    import scvi

    train, test = _scvi_data(task, seed)
    scvi.model.SCVI.setup_anndata(train, batch_key=STUDY)
    first = scvi.model.SCVI(train, **_LAYERS)
    _train(first, SCVI_STEPS)
    model = scvi.model.SCANVI.from_scvi_model(first, unlabeled_category=_UNKNOWN, labels_key=LABEL)
    _train(model, SCANVI_STEPS, n_samples_per_label=100)
    query = scvi.model.SCANVI.load_query_data(test, model)
    _train(query, QUERY_STEPS, plan_kwargs={"weight_decay": 0.0})
    scores = query.predict(soft=True)
    return Answer(
        scores.idxmax(axis=1).astype(str).to_numpy(),
        scores.max(axis=1).to_numpy(),
        embedding=query.get_latent_representation(),
    )


def _train(model: Any, steps: int, **options: Any) -> None:
    n = model.adata.n_obs
    # A last batch of one cell fails.
    batch = SCVI_BATCH + (n % SCVI_BATCH == 1)
    epochs = min(MOST_EPOCHS, math.ceil(steps / math.ceil(0.9 * n / batch)))
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    model.train(max_epochs=epochs, batch_size=batch, enable_progress_bar=False, accelerator="cpu", **options)


def _scvi_data(task: Task, seed: int) -> tuple[ad.AnnData, ad.AnnData]:
    """Counts of the most variable genes."""
    import scvi

    scvi.settings.seed = seed
    genes = most_variable(task.train_x, SCVI_GENES)
    data = []
    for counts, obs in zip(task.counts(), (task.merged.obs, task.test.obs), strict=True):
        adata = ad.AnnData(counts[:, genes].copy(), obs=obs[[LABEL]].astype(str))
        adata.var_names = [task.genes[i] for i in genes]
        adata.obs[STUDY] = obs[STUDY].astype(str).to_numpy()
        # A cell without any of these genes has no library size.
        empty = np.flatnonzero(np.asarray(adata.X.sum(axis=1)).ravel() == 0)
        if len(empty):
            filled = adata.X.tolil()
            filled[empty, 0] = 1
            adata.X = filled.tocsr().astype(np.float32)
        data.append(adata)
    data[1].obs[LABEL] = _UNKNOWN
    return data[0], data[1]


def most_variable(logged: Any, n: int) -> np.ndarray:
    """Positions of the genes with the greatest variance of log values, in their order."""
    mean = np.asarray(logged.mean(axis=0)).ravel()
    variance = np.asarray(logged.multiply(logged).mean(axis=0)).ravel() - mean**2
    return np.sort(np.argsort(-variance, kind="stable")[:n])


def run_scimilarity(task: Task, seed: int) -> Answer:
    """Train SCimilarity by its own package in its own environment, and label by its vote of 50 neighbours."""
    ontology = scim.CellOntology.bundled()
    genes = most_variable(task.train_x, SCIMILARITY["genes"])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, matrix, obs in (
            ("train", task.train_x, task.merged.obs),
            ("test", task.test_x, task.test.obs),
        ):
            adata = ad.AnnData(matrix[:, genes].copy())
            adata.var_names = [task.genes[i] for i in genes]
            adata.obs_names = [f"{name} {i}" for i in range(adata.n_obs)]
            adata.obs["celltype_name"] = [ontology.name(str(term)) for term in obs[LABEL]]
            adata.obs["study"] = obs[STUDY].astype(str).to_numpy()
            adata.write_h5ad(folder / f"{name}.h5ad")
        write_obo(folder / "cl.obo", ontology)
        options = json.dumps(SCIMILARITY | {"seed": seed})
        command = [
            os.environ["SCIM_PEER_PYTHON"],
            str(Path(__file__).with_name("_annotation_peer.py")),
            scratch,
            options,
        ]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONHASHSEED": "0"}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        labels = json.loads((folder / "labels.json").read_text())
        confidence, vectors = np.load(folder / "confidence.npy"), np.load(folder / "test.npy")
    return Answer(np.array([ontology.resolve(name) for name in labels]), confidence, embedding=vectors)


def write_obo(path: Path, ontology: scim.CellOntology) -> None:
    """The ontology as a file, for a package that would download one."""
    stanzas = [
        "\n".join(["[Term]", f"id: {t}", f"name: {ontology.name(t)}", *(f"is_a: {p}" for p in ontology.parents(t))])
        for t in ontology.ids
    ]
    path.write_text("format-version: 1.2\n\n" + "\n\n".join(stanzas) + "\n", encoding="utf-8")
