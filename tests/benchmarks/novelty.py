"""Cells outside the world of the bundled reference of blood: are they told, and how often is blood taken for them?

Blood that the reference never saw, of 10x (three chemistries, a frozen donor) and of other platforms (inDrops,
Smart-seq2), against brain, pancreas, breast, cell lines and others. Sets are annotated whole, as users do, and then
split into leukocytes and others: what a p-value is depends on the other cells of its set. Values that were published as
log2 are made log1p first.

"right" is the share of cells with a published term that get it or one above it (the reference knows one kind beside
leukocytes, the epithelium of the lung: "epithelial cell" is right for a duct). "at fdr 0" is with ``novelty_fdr=0``,
where no cell is unassigned for being novel; "specific" leaves out what is right for nearly all of blood, "mononuclear
leukocyte" and the terms above it; "wrong" are labels that are not right.

Where nothing is novel: cells of one study are split at random, three parts become the studies of a reference by the
bundled encoder, and the fourth is annotated. Of p-values that hold, no larger a share is below a number than it says.

Run ``python tests/benchmarks/novelty.py`` with the studies in ``SCIM_DATA`` or in ``../shared/data``; prints one JSON
line, and with ``--out`` writes Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from _annotation_page import to_markdown
from _annotation_tasks import TERM, read
from sklearn.metrics import roc_auc_score

import scim

BLOOD_10X = ["10x_pbmc1k_v2", "10x_pbmc1k_v3", "10x_pbmc5p_1k", "frozen_pbmc_donorA_unlabelled"]
BLOOD = [*BLOOD_10X, "ding2020_pbmc_indrops_2000g", "villani2017_dc"]
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
#: Studies that are split, how often, and the p-values that are looked at.
SPLIT, SPLITS, LEVELS = ["pbmc3k_10x", "zheng2017_sorted_pbmc", "liao2020_covid_balf"], 4, (0.01, 0.05, 0.1)
#: What is reported of leukocytes, and of cells that the reference does not know but for some.
KNOWN, UNKNOWN = ("right", "right at fdr 0", "specific at fdr 0"), ("right", "wrong at fdr 0")


def upwards(term: str | None) -> frozenset[str]:
    """A term and those above it; none for none."""
    ontology = scim.CellOntology.bundled()
    known = None if term is None else ontology.resolve(term)
    return frozenset() if known is None else frozenset({known, *ontology.ancestors(known)})


def annotate(name: str, reference: scim.Reference) -> pd.DataFrame:
    """Annotate a whole set, and say of each cell what came out."""
    adata = read((name,))
    above = [upwards(str(term)) for term in adata.obs[TERM]]
    leukocyte, vague = scim.CellOntology.bundled().resolve("leukocyte"), upwards("mononuclear leukocyte")

    def given() -> tuple[np.ndarray, np.ndarray]:
        terms = adata.obs["scim_term_id"].astype(str).to_numpy()
        return terms, np.array([term in right for term, right in zip(terms, above, strict=True)])

    scim.tl.annotate(adata, reference)
    (terms, right), pvalues = given(), adata.obs["scim_novelty"].to_numpy()
    out = {"pvalue": pvalues, "p < 0.05": pvalues < 0.05, "unassigned": terms == "", "right": right}
    scim.tl.annotate(adata, reference, novelty_fdr=0)
    terms, right = given()
    out |= {"right at fdr 0": right, "specific at fdr 0": right & ~np.isin(terms, list(vague))}
    out |= {"unassigned at fdr 0": terms == ""}
    out |= {"wrong at fdr 0": ~right & (terms != ""), "published": [bool(up) for up in above]}
    return pd.DataFrame(out | {"leukocyte": [leukocyte in up for up in above]})


def row(cells: pd.DataFrame, shares: Sequence[str]) -> dict[str, float]:
    """How many cells these are, and shares of them; those in ``shares`` of the cells with a published term."""
    found = {"cells": len(cells)} | {k: cells[k].mean() for k in ("p < 0.05", "unassigned", "unassigned at fdr 0")}
    if cells["published"].any():
        found |= {name: cells.loc[cells["published"], name].mean() for name in shares}
    return {name: value if name == "cells" else float(value) for name, value in found.items()}


def where_nothing_is_novel(encoder: scim.Encoder) -> dict[str, dict[str, float]]:
    """Shares of p-values below some numbers, of cells of the very studies that a reference is made of."""
    found: dict[str, dict[str, float]] = {}
    for name in SPLIT:
        adata = read((name,))
        for landmarks in ("cells", "simulated"):
            pvalues = []
            for seed in range(SPLITS):
                part = np.random.default_rng(seed).integers(0, 4, adata.n_obs)
                studies, query = {f"part {i}": adata[part == i].copy() for i in range(3)}, adata[part == 3].copy()
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "split.scim"
                    options = {"labels_key": TERM, "landmarks": landmarks, "seed": seed}
                    scim.tl.annotate(query, scim.Reference.build(path, studies, encoder, **options))
                pvalues.append(query.obs["scim_novelty"].to_numpy())
            at = np.concatenate(pvalues)
            found[f"{name}, {landmarks}"] = {f"p <= {level:g}": float((at <= level).mean()) for level in LEVELS}
    return found


def auroc(blood: pd.DataFrame, others: pd.DataFrame) -> float:
    """How well p-values tell the others from blood."""
    truth = np.r_[np.zeros(len(blood)), np.ones(len(others))]
    return float(roc_auc_score(truth, -np.r_[blood["pvalue"], others["pvalue"]]))


def main() -> None:
    """Annotate every set with the bundled reference, and compare the p-values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file for the Markdown tables")
    parser.add_argument("--reference", default="blood")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    reference = scim.Reference.open(options.reference)
    sets = {name: annotate(name, reference) for name in [*BLOOD, *OTHERS]}
    others = {name: sets[name][~sets[name]["leukocyte"]] for name in OTHERS}
    leukocytes = {name: sets[name][sets[name]["leukocyte"]] for name in OTHERS if sets[name]["leukocyte"].any()}
    rows = {
        "blood": {name: row(sets[name], KNOWN) for name in BLOOD},
        "others": {name: row(cells, UNKNOWN) for name, cells in others.items()},
        "their leukocytes": {name: row(cells, KNOWN) for name, cells in leukocytes.items()},
    }
    rows["where nothing is novel, by landmarks"] = where_nothing_is_novel(reference.encoder)
    summary: dict[str, dict[str, float]] = {}
    for title, names in {"10x blood": BLOOD_10X, "all blood": BLOOD}.items():
        blood = pd.concat([sets[name] for name in names])
        each = {name: auroc(blood, cells) for name, cells in others.items()}
        for name, value in each.items():
            rows["others"][name][f"AUROC against {title}"] = value
        summary[title] = {
            "auroc": auroc(blood, pd.concat(others.values())),
            "mean_auroc": float(np.mean(list(each.values()))),
            "false_alarms": float(blood["unassigned"].mean()),
            "p_below_0.05": float(blood["p < 0.05"].mean()),
        }
    tables = {title: pd.DataFrame(found.values(), index=list(found)).round(3) for title, found in rows.items()}
    for title, table in tables.items():
        print(title, table.to_string(na_rep=""), "", sep="\n", file=sys.stderr)
    if options.out:
        options.out.write_text("\n\n".join(map(to_markdown, tables.values())) + "\n", encoding="utf-8")
    print(json.dumps({"benchmark": "novelty", "against": summary, "sets": rows}))


if __name__ == "__main__":
    main()
