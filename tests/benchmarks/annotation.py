"""Leave one study out: how well does scim label a blood study that it never saw, beside two plain baselines?

Real studies (pbmc3k, the two Zheng sets as one study, three chemistries of symphony, lung lavage) are reduced to
the coarse blood labels that at least two of them share. Each is held out in turn; every method is trained on the
same cells of the others:

- ``scim``: merge, train with the defaults, build a reference, :func:`scim.tl.annotate`. The label scored is the
  coarse label with the highest summed votes; beside it stands how the label that scim itself would give fares,
  which may back off to an ancestor or to "unassigned".
- ``logistic regression`` on the log-normalised genes that the held-out study measured (refitted for that panel, an
  advantage that a trained encoder does not have).
- ``PCA + kNN``: 50 components of the same genes, 15 neighbours.

Run ``python tests/benchmarks/annotation.py`` with the studies in ``SCIM_DATA`` or in ``../shared/data``. Prints a
Markdown table on standard error and one JSON line on standard output.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd

import scim

if TYPE_CHECKING:
    from collections.abc import Callable

    from scipy.sparse import csr_matrix

STUDIES = {
    "pbmc3k": ["pbmc3k_10x"],
    "zheng": ["zheng2017_sorted_pbmc", "zheng2017_facs_garnett"],
    "symphony": ["pbmc_3tech_symphony"],
    "lavage": ["liao2020_covid_balf"],
}
#: Coarse blood labels; a cell gets the first whose term is its own or an ancestor of it.
COARSE = {
    "T cell": "CL:0000084",
    "B cell": "CL:0000236",
    "natural killer cell": "CL:0000623",
    "CD16 monocyte": "CL:0002396",
    "CD14 monocyte": "CL:0001054",
    "plasmacytoid dendritic cell": "CL:0000784",
    "dendritic cell": "CL:0000451",
    "platelet": "CL:0000233",
    "megakaryocyte": "CL:0000556",
}
MERGED = {"platelet": "megakaryocyte"}
LABEL, STUDY = "coarse_term", "study"


def data_folder() -> Path:
    """Folder of the real studies, or a clear end."""
    folder = Path(os.environ.get("SCIM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not folder.is_dir():
        sys.exit("This benchmark needs the real studies: set SCIM_DATA to their folder.")
    return folder


def load_studies(folder: Path) -> dict[str, ad.AnnData]:
    """Studies with ``obs["coarse_term"]``, reduced to the coarse labels that two studies share."""
    ontology = scim.CellOntology.bundled()

    def coarse(term: object) -> str | None:
        known = ontology.resolve(str(term))
        if known is None:
            return None
        for name, root in COARSE.items():
            if known == root or root in ontology.ancestors(known):
                return COARSE[MERGED.get(name, name)]
        return None

    studies = {}
    for study, files in STUDIES.items():
        parts = {f: ad.read_h5ad(folder / f"{f}.h5ad") for f in files}
        adata = scim.pp.merge_studies(parts, study_key="file") if len(parts) > 1 else next(iter(parts.values()))
        terms = adata.obs["cell_type_ontology_term_id"].astype(str)
        adata.obs[LABEL] = terms.map({t: coarse(t) for t in terms.unique()}).astype(object)
        studies[study] = adata
    seen = pd.Series([t for a in studies.values() for t in a.obs[LABEL].dropna().unique()]).value_counts()
    shared = set(seen.index[seen >= 2])
    return {name: a[a.obs[LABEL].isin(shared).to_numpy()].copy() for name, a in studies.items()}


def lognorm(adata: ad.AnnData, genes: scim.genes.GeneSpace) -> csr_matrix:
    """Log-normalised cells x genes, as the encoder sees them."""
    from scim._counts import find_counts, normalize_rows

    _, matrix, kind, _ = find_counts(adata)
    return normalize_rows(genes.match_adata(adata).align(matrix), kind)


def run_logistic(train: csr_matrix, labels: np.ndarray, test: csr_matrix) -> np.ndarray:
    """Multinomial logistic regression with scikit-learn's default penalty."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500).fit(train, labels).predict(test)


def run_pca_knn(train: csr_matrix, labels: np.ndarray, test: csr_matrix) -> np.ndarray:
    """50 principal components of the training cells, then 15 nearest neighbours."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsClassifier

    pca = PCA(50, random_state=0, svd_solver="randomized").fit(train.toarray())
    knn = KNeighborsClassifier(15).fit(pca.transform(train.toarray()), labels)
    return knn.predict(pca.transform(test.toarray()))


def run_scim(studies: dict[str, ad.AnnData], held_out: ad.AnnData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Forced coarse label and scim's own label (term ids) of every held-out cell."""
    merged = scim.pp.merge_studies(studies, study_key=STUDY)
    scim.SCIM.setup_anndata(merged, labels_key=LABEL, batch_key=STUDY)
    model = scim.SCIM(merged)
    model.train(seed=seed, enable_progress_bar=False)
    with tempfile.TemporaryDirectory() as folder:
        reference = scim.Reference.build(
            Path(folder) / "train.scim", merged, model.to_encoder(), labels_key=LABEL, study_key=STUDY
        )
        query = held_out.copy()
        scim.tl.annotate(query, reference)
        scores = scim.get.scores(query)
    ontology = scim.CellOntology.bundled()
    names = {ontology.name(term): term for term in merged.obs[LABEL].astype(str).unique()}
    forced = scores[list(names)].idxmax(axis=1).map(names).to_numpy()
    return forced, query.obs["scim_term_id"].astype(str).to_numpy()


def scores_of(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Accuracy, balanced accuracy and macro-F1 over the labels that occur in the truth."""
    from sklearn.metrics import f1_score, recall_score

    labels = np.unique(truth)
    return {
        "accuracy": float(np.mean(truth == predicted)),
        "balanced_accuracy": float(recall_score(truth, predicted, labels=labels, average="macro", zero_division=0)),
        "macro_f1": float(f1_score(truth, predicted, labels=labels, average="macro", zero_division=0)),
    }


def own_label_scores(truth: np.ndarray, own: np.ndarray) -> dict[str, float]:
    """How scim's own labels fare: the same term, an honest ancestor, a wrong one, or none."""
    ontology = scim.CellOntology.bundled()
    above = {t: ontology.ancestors(t) for t in np.unique(truth)}
    none = np.isin(own, ["", "nan", "unassigned"])
    same = truth == own
    ancestor = np.array([o in above[t] for t, o in zip(truth, own, strict=True)])
    return {
        "same": float(same.mean()),
        "ancestor": float(ancestor.mean()),
        "unassigned": float(none.mean()),
        "wrong": float((~same & ~ancestor & ~none).mean()),
    }


def hold_out(name: str, studies: dict[str, ad.AnnData], seed: int) -> dict[str, dict[str, float]]:
    """Every method's scores on one held-out study."""
    test = studies[name]
    others = {k: v for k, v in studies.items() if k != name}
    trained = set().union(*(set(a.obs[LABEL]) for a in others.values()))
    test = test[test.obs[LABEL].isin(trained).to_numpy()].copy()
    truth = test.obs[LABEL].astype(str).to_numpy()

    merged = scim.pp.merge_studies(others, study_key=STUDY)
    union = scim.genes.GeneSpace.from_adata(merged)
    columns = np.flatnonzero(union.match_adata(test).measured)
    train_x, test_x = lognorm(merged, union)[:, columns], lognorm(test, union)[:, columns]
    train_y = merged.obs[LABEL].astype(str).to_numpy()

    rows: dict[str, dict[str, float]] = {}
    plain: dict[str, Callable[[csr_matrix, np.ndarray, csr_matrix], np.ndarray]] = {
        "logistic regression": run_logistic,
        "PCA + kNN": run_pca_knn,
    }
    for method, run in plain.items():
        start = time.perf_counter()
        rows[method] = scores_of(truth, run(train_x, train_y, test_x)) | {"seconds": time.perf_counter() - start}
    start = time.perf_counter()
    forced, own = run_scim(others, test, seed)
    seconds = time.perf_counter() - start
    rows["scim"] = scores_of(truth, forced) | {"seconds": seconds} | own_label_scores(truth, own)
    return rows


def main() -> None:
    """Run every held-out study and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--studies", nargs="*", choices=list(STUDIES), default=list(STUDIES), help="held out in turn")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    studies = load_studies(data_folder())
    result = {name: hold_out(name, studies, options.seed) for name in options.studies}

    table = pd.DataFrame({(study, method): row for study, rows in result.items() for method, row in rows.items()}).T
    mean = table.groupby(level=1, sort=False).mean()
    mean.index = pd.MultiIndex.from_tuples([("mean", method) for method in mean.index])
    print(pd.concat([table, mean]).round(3).to_string(na_rep=""), file=sys.stderr)
    cells = {name: a.n_obs for name, a in studies.items()}
    print(json.dumps({"benchmark": "annotation", "seed": options.seed, "cells": cells, "held_out": result}))


if __name__ == "__main__":
    main()
