"""SCimilarity's side of versus_scimilarity.py; runs in its own environment, which has no scim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from _versus_inputs import HIDDEN, N_GENES, batch, clock, import_time, install_size, peak, steps


def prepare(folder: Path, arguments: dict[str, Any]) -> None:
    """Indexes in its format; built faster than it does (ef_construction 200, not 1,000), which searches do not show."""
    import hnswlib
    import pandas as pd
    import tiledb

    vectors, labels = np.load(folder / "reference.npy"), np.load(folder / "labels.npy")
    names = json.loads((folder / "names.json").read_text())
    index = hnswlib.Index(space="cosine", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=200, M=80)
    index.add_items(vectors, np.arange(len(vectors)))
    for part, name in (("annotation", "labelled_kNN.bin"), ("cellsearch", "full_kNN.bin")):
        (folder / "model" / part).mkdir()
        index.save_index(str(folder / "model" / part / name))
    lines = [f"{names[label]}\tstudy {i % 20}\n" for i, label in enumerate(labels)]
    (folder / "model" / "annotation" / "reference_labels.tsv").write_text("".join(lines))
    n, d = vectors.shape
    domain = tiledb.Domain(
        tiledb.Dim(name="x", domain=(0, n - 1), tile=min(n, 10_000), dtype=np.uint32),
        tiledb.Dim(name="y", domain=(0, d - 1), tile=d, dtype=np.uint32),
    )
    schema = tiledb.ArraySchema(domain=domain, sparse=False, attrs=[tiledb.Attr(name="data", dtype=np.float32)])
    tiledb.Array.create(str(folder / "model" / "cellsearch" / "cell_embedding"), schema)
    with tiledb.open(str(folder / "model" / "cellsearch" / "cell_embedding"), "w") as array:
        array[:] = vectors
    studies = [f"study {i % 20}" for i in range(n)]
    metadata = pd.DataFrame(
        {"index": np.arange(n), "study": studies, "sample": studies, "tissue": "blood", "disease": "healthy"}
        | {"prediction": [names[label] for label in labels], "data_type": "train"}
    )
    tiledb.from_pandas(str(folder / "model" / "cellsearch" / "cell_metadata"), metadata)


def embed(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """As its tutorial does."""
    import anndata as ad
    from scimilarity import CellEmbedding
    from scimilarity.utils import align_dataset, lognorm_counts

    encoder, load_s = clock(lambda: CellEmbedding(str(folder / "model")))
    cells = ad.read_h5ad(folder / "cells.h5ad")
    vectors, seconds = clock(lambda: encoder.get_embeddings(lognorm_counts(align_dataset(cells, encoder.gene_order)).X))
    np.save(folder / "peer_vectors.npy", vectors)
    return {"seconds": seconds, "per_s": len(vectors) / seconds, "load_s": load_s, "peak_gib": peak()}


def annotate(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Load and label embedded cells."""
    from scimilarity import CellAnnotation

    queries = np.load(folder / "queries.npy")
    CellAnnotation(str(folder / "model")).get_predictions_knn(queries[:50], disable_progress=True)
    annotation, load_s = clock(lambda: CellAnnotation(str(folder / "model")))
    _, seconds = clock(lambda: annotation.get_predictions_knn(queries, disable_progress=True))
    total = load_s + seconds
    return {"seconds": total, "per_s": len(queries) / total, "load_s": load_s, "peak_gib": peak()}


def query(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """A thousand neighbours of a hundred queries, with metadata."""
    from scimilarity import CellQuery

    search, load_s = clock(lambda: CellQuery(str(folder / "model")))
    queries = np.load(folder / "queries.npy")[:100]
    search.search_nearest(queries[:1], k=10)
    _, seconds = clock(lambda: search.search_nearest(queries, k=1_000))
    return {"seconds": seconds, "load_s": load_s, "peak_gib": peak()}


def train(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """One step of its training loop."""
    import obonet
    import torch

    read = obonet.read_obo
    obonet.read_obo = lambda *_, **__: read(str(folder / "cl.obo"))  # it always downloads
    from scimilarity.training_models import MetricLearning

    X, labels, studies = batch()
    X.data *= 1e4 / np.repeat(np.asarray(X.sum(axis=1)).ravel(), np.diff(X.indptr))
    cells = torch.from_numpy(np.log1p(X.toarray()).astype(np.float32))
    names = dict(enumerate(json.loads((folder / "names.json").read_text())[:50]))
    model = MetricLearning(N_GENES, hidden_dim=list(HIDDEN))
    optimizer = model.configure_optimizers()["optimizer"]
    study_names = np.array([f"s{i}" for i in studies])
    model.train()

    def step() -> None:
        z, profiles = model(cells)
        selector = model.triplet_loss_fn.triplet_selector
        triplets, _, _ = selector.get_triplets_idx(z, torch.from_numpy(labels).float(), names, study_names)
        anchor, positive, negative = (z[i] for i in triplets)
        loss = torch.nn.functional.triplet_margin_loss(anchor, positive, negative, margin=0.05)
        loss = model.get_mixed_loss(loss, model.mse_loss_fn(cells, profiles))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return {"seconds": steps(step), "peak_gib": peak()}


def imports(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Import time, and the size of the installation."""
    ready = import_time("from scimilarity import CellAnnotation, CellEmbedding, CellQuery")
    return {"seconds": ready, "ready_s": ready, "install_mb": install_size("scimilarity")}
