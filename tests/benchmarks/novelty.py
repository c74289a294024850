"""Cells outside the world of the bundled reference of blood: are they told, and how often is blood taken for them?

Blood that the reference never saw (three chemistries of 10x PBMC, a frozen donor) against brain, pancreas, breast, cell
lines and others, whose own leukocytes are left out. The reference knows one kind beside leukocytes, the epithelium of
the lung: "known" is the share of cells that get a label which is right for them, such as "epithelial cell". Sets that
scim refuses (their values are neither counts nor log1p) are listed.

Run ``python tests/benchmarks/novelty.py`` with the studies in ``SCIM_DATA`` or in ``../shared/data``; prints one JSON
line, and with ``--out`` writes a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from _annotation_page import to_markdown
from _annotation_tasks import data_folder

import scim

BLOOD = ["10x_pbmc1k_v2", "10x_pbmc1k_v3", "10x_pbmc5p_1k", "frozen_pbmc_donorA_unlabelled"]
OTHERS = [
    "darmanis2015_brain",
    "baron2016_pancreas_175",
    "pancreas_3study_cepo_1403g",
    "moncada2020_pdac_7000g",
    "breast_komen_140",
    "cell_lines_sc_mixology",
    "pollen2014_11pop",
    "puram2017_hnscc_tme",
]
TERM = "cell_type_ontology_term_id"


def below(terms: pd.Series, root: str) -> np.ndarray:
    """Cells of a term or its descendants, bool (n,)."""
    ontology = scim.CellOntology.bundled()
    wanted = ontology.resolve(root)
    known = {str(t): ontology.resolve(str(t)) for t in terms.unique()}
    inside = {t for t, k in known.items() if k and (k == wanted or wanted in ontology.ancestors(k))}
    return terms.astype(str).isin(inside).to_numpy()


def main() -> None:
    """Annotate every set with the bundled reference, and compare the p-values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the Markdown table")
    parser.add_argument("--reference", default="blood")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    folder, reference = data_folder(), scim.Reference.open(options.reference)
    found, refused = [], []
    for name in [*BLOOD, *OTHERS]:
        adata = ad.read_h5ad(folder / f"{name}.h5ad")
        if name in OTHERS:
            adata = adata[~below(adata.obs[TERM].astype(str), "leukocyte")].copy()
        try:
            scim.tl.annotate(adata, reference)
        except ValueError as error:
            refused.append({"set": name, "why": str(error)[:120]})
            continue
        none = (adata.obs["scim_label"] == "unassigned").to_numpy()
        one = {"set": name, "blood": name in BLOOD, "pvalues": adata.obs["scim_novelty"].to_numpy(), "unassigned": none}
        if name in OTHERS:
            ontology = scim.CellOntology.bundled()
            pairs = zip(adata.obs[TERM].astype(str), adata.obs["scim_term_id"].astype(str), strict=True)
            one["known"] = np.array(
                [given != "" and given in {t, *ontology.ancestors(t)} if t in ontology else False for t, given in pairs]
            )
        found.append(one)
    from sklearn.metrics import roc_auc_score

    blood = np.concatenate([f["pvalues"] for f in found if f["blood"]])
    rows = []
    for one in found:
        row = {"set": one["set"], "cells": len(one["pvalues"]), "p < 0.05": float((one["pvalues"] < 0.05).mean())}
        row["unassigned"] = float(one["unassigned"].mean())
        if not one["blood"]:
            truth = np.r_[np.zeros(len(blood)), np.ones(len(one["pvalues"]))]
            row["known"] = float(one["known"].mean())
            row["AUROC against blood"] = float(roc_auc_score(truth, -np.r_[blood, one["pvalues"]]))
        rows.append(row)
    others = np.concatenate([f["pvalues"] for f in found if not f["blood"]])
    none = np.concatenate([f["unassigned"] for f in found if f["blood"]])
    auroc = float(roc_auc_score(np.r_[np.zeros(len(blood)), np.ones(len(others))], -np.r_[blood, others]))
    mean = float(np.mean([row["AUROC against blood"] for row in rows if "AUROC against blood" in row]))
    summary = {"auroc": auroc, "mean_auroc": mean, "false_alarms": float(none.mean())}
    summary["blood_p_below_0.05"] = float((blood < 0.05).mean())
    table = pd.DataFrame(rows).set_index("set").round(3)
    print(table.to_string(na_rep=""), summary, refused, file=sys.stderr)
    if options.out:
        options.out.write_text(to_markdown(table) + "\n", encoding="utf-8")
    print(json.dumps({"benchmark": "novelty", **summary, "sets": rows, "refused": refused}))


if __name__ == "__main__":
    main()
