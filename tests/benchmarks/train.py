"""Train the default model on 6,000 real cells of 8,000 genes, and say how long it takes to converge.

The cells are those of pbmc3k, the two Zheng sets and lung lavage (folder ``SCIM_DATA`` or ``../shared/data``): the
8,000 genes that most cells express, all labelled cells up to 6,000. Without these data the cells of
``scim.datasets.pbmc68k`` stand in, and the line says so. Prints one JSON line: seconds of training, epochs, steps,
cells per second, the training loss at the end, and how many labels were not trained on.

Run ``python tests/benchmarks/train.py [--cells 6000] [--genes 8000] [--threads 2] [--seed 0]``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np

import scim

FILES = ("pbmc3k_10x", "zheng2017_sorted_pbmc", "zheng2017_facs_garnett", "liao2020_covid_balf")
LABEL, STUDY = "cell_type_ontology_term_id", "training_study"


def load(n_cells: int, n_genes: int, seed: int) -> tuple[ad.AnnData, str]:
    """Merged real cells, and where they come from."""
    folder = Path(os.environ.get("SCIM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not folder.is_dir():
        adata = scim.datasets.pbmc68k()
        adata.obs[LABEL], adata.obs[STUDY] = adata.obs["cell_type_ontology_term_id"], "pbmc68k"
        return adata, "pbmc68k_reduced"
    studies = {name: ad.read_h5ad(folder / f"{name}.h5ad") for name in FILES}
    merged = scim.pp.merge_studies(studies, study_key="file")
    # The two Zheng sets are one experiment.
    merged.obs[STUDY] = [name.split("_")[0] for name in merged.obs["file"].astype(str)]
    expressing = np.asarray((merged.X > 0).sum(axis=0)).ravel()
    genes = np.sort(np.argsort(-expressing, kind="stable")[:n_genes])
    labelled = np.flatnonzero(merged.obs[LABEL].notna())
    cells = np.sort(np.random.default_rng(seed).permutation(labelled)[:n_cells])
    return merged[cells, genes].copy(), "pbmc3k + zheng + lavage"


def main() -> None:
    """Train once and print the line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=6_000)
    parser.add_argument("--genes", type=int, default=8_000)
    parser.add_argument("--threads", type=int, default=None, help="of torch")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    adata, source = load(options.cells, options.genes, options.seed)
    scim.SCIM.setup_anndata(adata, labels_key=LABEL, batch_key=STUDY)
    model = scim.SCIM(adata, seed=options.seed)
    cpu, start = time.process_time(), time.perf_counter()
    model.train(accelerator="cpu", enable_progress_bar=False)
    seconds = time.perf_counter() - start
    cpu_seconds = time.process_time() - cpu
    epochs = len(model.history["train_loss"])
    last = {name: float(table.iloc[-1, 0]) for name, table in model.history.items()}
    line = {
        "benchmark": "train",
        "data": source,
        "cells": adata.n_obs,
        "genes": len(model.inputs.genes),
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "epochs": epochs,
        "cells_per_second": round(epochs * adata.n_obs / seconds),
        "train_loss": last["train_loss"],
        "doubtful_labels": model.training_["n_doubtful_labels"],
        "under_3_minutes": seconds <= 180,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
