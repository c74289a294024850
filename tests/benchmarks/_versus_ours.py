"""scim's side of versus_scimilarity.py: the inputs of both, and its own tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from _versus_inputs import (
    HIDDEN,
    LATENT,
    N_GENES,
    batch,
    clock,
    clustered,
    import_time,
    install_size,
    peak,
    random_weights,
    sparse_counts,
    steps,
)


def prepare(folder: Path, arguments: dict[str, Any]) -> None:
    """Model, cells, vectors and labels."""
    import anndata as ad
    import pandas as pd

    import scim
    from scim.genes import GeneSpace
    from scim.genes._names import gene_table

    rng = np.random.default_rng(0)
    genes = list(gene_table().approved.values())[:N_GENES]
    sizes = [N_GENES, *HIDDEN, LATENT]
    encoder = scim.Encoder(
        GeneSpace(genes, aliases=False),
        random_weights(rng, sizes),
        decoder=random_weights(rng, sizes[::-1]),
        provenance={"labels": ["T cell", "B cell"]},
    )
    encoder.save(folder / "encoder")
    encoder.to_scimilarity(folder / "model")
    names = [*rng.choice(genes, 26_000, replace=False), *(f"OTHER{i}" for i in range(10_601))]
    X = sparse_counts(rng, arguments["cells"], len(names))
    cells = ad.AnnData(
        X,
        obs=pd.DataFrame(index=[f"c{i}" for i in range(len(X.indptr) - 1)]),
        var=pd.DataFrame(index=[names[i] for i in rng.permutation(len(names))]),
    )
    cells.layers["counts"] = cells.X.copy()  # where the peer looks for them
    cells.write_h5ad(folder / "cells.h5ad")
    vectors, labels = clustered(rng, arguments["reference_cells"] + arguments["cells"])
    np.save(folder / "reference.npy", vectors[arguments["cells"] :])
    np.save(folder / "labels.npy", labels[arguments["cells"] :])
    np.save(folder / "queries.npy", vectors[: arguments["cells"]])
    build_reference(folder, encoder, vectors[arguments["cells"] :], labels[arguments["cells"] :])
    warm_up(folder, cells[:50])


def build_reference(folder: Path, encoder: Any, vectors: np.ndarray, labels: np.ndarray) -> None:
    """A reference of vectors that no counts belong to."""
    import pandas as pd

    from scim.index import IndexPlan
    from scim.ontology import CellOntology
    from scim.reference.build._recipe import Recipe
    from scim.reference.build._segment import write_blocks
    from scim.reference.versions._create import create

    ontology = CellOntology.bundled()
    terms = sorted(t for t in ontology.ids if t.startswith("CL:") and ontology.depth(t) > 4)
    terms = np.random.default_rng(1).choice(terms, labels.max() + 1, replace=False)
    (folder / "names.json").write_text(json.dumps([ontology.name(t) for t in terms]))
    obs = pd.DataFrame(
        {"label": terms[labels], "study": [f"study {i % 20}" for i in range(len(labels))], "tissue": "blood"},
        index=[f"r{i}" for i in range(len(labels))],
    )
    source = Recipe("label", "study", ["tissue"], None, None, None, ontology)
    create(
        folder / "reference.scim",
        encoder,
        ontology,
        IndexPlan(),
        lambda to: write_blocks(to.segment, [(source.cells(obs, ""), [vectors])], n_cells=len(obs)),
        source={"labels_key": "label", "study_key": "study", "obs_columns": ["tissue"]},
        overwrite=False,
    )
    stanzas = [
        "\n".join(["[Term]", f"id: {t}", f"name: {ontology.name(t)}", *(f"is_a: {p}" for p in ontology.parents(t))])
        for t in ontology.ids
    ]
    (folder / "cl.obo").write_text("format-version: 1.2\n\n" + "\n\n".join(stanzas) + "\n")


def warm_up(folder: Path, cells: Any) -> None:
    """Compile what is compiled once per installation."""
    import scim

    scim.tl.annotate(cells.copy(), folder / "reference.scim")


def embed(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Counts of a file to vectors."""
    import anndata as ad

    import scim

    encoder, load_s = clock(lambda: scim.Encoder.load(folder / "encoder"))
    cells = ad.read_h5ad(folder / "cells.h5ad")
    vectors, seconds = clock(lambda: encoder.embed(cells))
    np.save(folder / "vectors.npy", vectors)
    difference = float(np.abs(vectors - np.load(folder / "peer_vectors.npy")).max())
    rate = len(vectors) / seconds
    return {"seconds": seconds, "per_s": rate, "load_s": load_s, "peak_gib": peak(), "difference": difference}


def backed(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The same from the file, beside the same from memory."""
    import anndata as ad

    import scim

    encoder = scim.Encoder.load(folder / "encoder")
    cells = ad.read_h5ad(folder / "cells.h5ad", backed="r")
    encoder.embed(ad.AnnData(cells.X[:200], var=cells.var))
    _, from_file = clock(lambda: encoder.embed(cells))
    memory = peak()
    loaded = cells.to_memory()
    _, from_memory = clock(lambda: encoder.embed(loaded))
    n = cells.n_obs
    return {"per_s": n / from_file, "memory_per_s": n / from_memory, "peak_gib": memory}


def annotate(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Open the reference and label embedded cells by a vote of 50 neighbours, as the peer does; both have warmed up."""
    import anndata as ad

    import scim

    queries = np.load(folder / "queries.npy")
    cells = ad.AnnData(np.zeros((len(queries), 1), dtype=np.float32))
    cells.obsm["X_scim"] = queries
    cells.uns["scim"] = {"embed": {"encoder_id": scim.Reference.open(folder / "reference.scim").encoder_id}}
    scim.tl.annotate(cells[:50].copy(), folder / "reference.scim", vote="ontology")
    reference, load_s = clock(lambda: scim.Reference.open(folder / "reference.scim"))
    _, seconds = clock(lambda: scim.tl.annotate(cells, reference, vote="ontology"))
    total = load_s + seconds
    return {"seconds": total, "per_s": len(queries) / total, "load_s": load_s, "peak_gib": peak()}


def query(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """A thousand neighbours of a hundred queries, with metadata."""
    import anndata as ad

    import scim

    cells = ad.AnnData(np.ones((1, 1), dtype=np.float32))
    reference, load_s = clock(lambda: scim.Reference.open(folder / "reference.scim"))
    vectors = np.load(folder / "queries.npy")[:100]
    scim.tl.query(cells, reference, vectors=vectors[:1], k=10)  # imports what is needed; the peer did so before
    _, seconds = clock(lambda: scim.tl.query(cells, reference, vectors=vectors, k=1_000))
    return {"seconds": seconds, "load_s": load_s, "peak_gib": peak()}


def train(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """One step on 1,000 cells, augmentation and mining included."""
    import torch

    from scim.model._augment import Augmentation
    from scim.model._module import SCIMModule

    torch.manual_seed(0)
    X, labels, studies = batch()
    module = SCIMModule(
        N_GENES,
        HIDDEN,
        LATENT,
        dropout_input=0.4,
        dropout_hidden=0.5,
        comparable=np.eye(50, dtype=bool),
        descends=np.eye(50, dtype=bool),
    )
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, fused=True)
    tensors = {
        "values": torch.from_numpy(X.data),
        "rows": torch.from_numpy(np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))),
        "genes": torch.from_numpy(X.indices.astype(np.int64)),
        "totals": torch.full((X.shape[0],), 1e4),
        "labels": torch.from_numpy(labels),
        "batch": torch.from_numpy(studies),
    }
    module.train()

    def step() -> None:
        _, _, output = module(tensors, inference_kwargs={"augmentation": Augmentation()})
        optimizer.zero_grad()
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 10.0)
        optimizer.step()

    return {"seconds": steps(step), "peak_gib": peak()}


def imports(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Import time, and the size of the installation."""
    ready = "import scim; scim.tl.embed, scim.tl.annotate, scim.tl.query, scim.Encoder, scim.Reference"
    return {
        "seconds": import_time("import scim"),
        "ready_s": import_time(ready),
        "install_mb": install_size("scim-tools"),
    }
