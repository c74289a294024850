"""What the default call writes about cells that the bundled reference never saw, of blood and of other tissues.

Blood that the reference never saw, of 10x (five sets of three chemistries, a frozen donor) and of other platforms (a
panel of 1,000 genes, inDrops, Smart-seq2), against brain, pancreas, breast, cell lines and others. Values that were
published as log2 are made log1p first.

Of blood with published labels: coarse macro-F1 and shares of the written label (coarse labels as in annotation.py; a
label that is finer than the coarse one counts as it, a broader one as none), of cells that are wrong (neither a term
above the published one nor below it), and of cells without a label. Of all: shares of cells that are well represented
(novelty up to 0.5) and novel (above 0.75, and so unassigned), and how well novelty tells other tissues from blood.

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
from _annotation_tasks import MERGED, TERM, TISSUE_LABELS, read
from sklearn.metrics import f1_score, roc_auc_score

import scim
from scim.labels import assign

BLOOD_10X = ["10x_pbmc1k_v2", "10x_pbmc1k_v3", "10x_pbmc5p_1k", "frozen_pbmc_donorA_unlabelled"]
BLOOD_10X += ["10x_pbmc4k_soupx", "10x_pbmc10k_protein_200"]
BLOOD = [*BLOOD_10X, "onek1k_pbmc_4types_1000g", "ding2020_pbmc_indrops_2000g", "villani2017_dc"]
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


def upwards(term: str | None) -> frozenset[str]:
    """A term and those above it; none for none."""
    ontology = scim.CellOntology.bundled()
    known = None if term is None else ontology.resolve(term)
    return frozenset() if known is None else frozenset({known, *ontology.ancestors(known)})


def annotate(name: str, reference: scim.Reference) -> pd.DataFrame:
    """Annotate a whole set by the default call, and say of each cell what came out."""
    adata = read((name,))
    published = adata.obs[TERM].astype(str) if TERM in adata.obs else pd.Series("", index=adata.obs_names)
    leukocyte = scim.CellOntology.bundled().resolve("leukocyte")
    scim.tl.annotate(adata, reference)
    terms = adata.obs["scim_term_id"].astype(str)
    pairs = [(upwards(truth), truth, upwards(term), term) for truth, term in zip(published, terms, strict=True)]
    return pd.DataFrame(
        {
            "novelty": adata.obs["scim_novelty"].to_numpy(),
            "p < 0.05": adata.obs["scim_novelty_pvalue"].to_numpy() < 0.05,
            "well represented": adata.obs["scim_novelty"].to_numpy() <= 0.5,
            "novel": adata.obs["scim_novelty"].to_numpy() > 0.75,
            "unassigned": (terms == "").to_numpy(),
            "confidence": adata.obs["scim_confidence"].to_numpy(),
            "wrong": [bool(term) and term not in above and truth not in below for above, truth, below, term in pairs],
            "truth": [coarse_of(truth) for truth in published],
            "label": [coarse_of(term) for term in terms],
            "leukocyte": [leukocyte in upwards(truth) for truth in published],
        }
    )


def caution(sets: Sequence[str], reference: scim.Reference) -> dict[str, dict[str, float]]:
    """What a larger ``min_probability`` trades, as means over sets with published labels."""
    terms, rows = reference.terms, {}
    for name in sets:
        adata = read((name,))
        scim.tl.annotate(adata, reference, max_novelty=1)
        scores = adata.obsm["scim_scores"].to_numpy()
        truth = [str(term) for term in adata.obs[TERM]]
        for enough in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95):
            given = np.append(terms.terms, "")[assign(scores, terms, enough=enough)].astype(str)
            known = [(a, b) for a, b in zip(truth, given, strict=True) if coarse_of(a)]
            wrong = [bool(b) and b not in upwards(a) and a not in upwards(b) for a, b in known]
            rows[name, enough] = {
                "wrong": np.mean(wrong),
                "same coarse label": np.mean([coarse_of(a) == coarse_of(b) for a, b in known]),
                "unassigned": np.mean([not b for _, b in known]),
                "terms above the label": np.mean([len(upwards(b)) for _, b in known if b]),
            }
    table = pd.DataFrame(rows).T.groupby(level=1).mean()
    return {f"{enough:g}": dict(table.loc[enough]) for enough in table.index}


def draw_caution(rows: dict[str, dict[str, float]], path: Path) -> None:
    """Draw the share of wrong labels against how specific labels are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    x, y = ([row[name] for row in rows.values()] for name in ("terms above the label", "wrong"))
    axes.plot(x, y, "o-", color="#0072b2")
    for label, at in zip(rows, zip(x, y, strict=True), strict=True):
        axes.annotate(label, at, xytext=(7, -9), textcoords="offset points", fontsize=8)
    axes.set_title("min_probability is beside each point", fontsize=9)
    axes.set_xlabel("terms above the label (specific labels have more)")
    axes.set_ylabel("share of wrong labels")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.1)
    figure.savefig(path)


def coarse_of(term: str) -> str:
    """Coarse label at or above a term; ``""`` for none."""
    above = upwards(term)
    found = [name for name, root in TISSUE_LABELS.items() if root in above]
    return MERGED.get(found[0], found[0]) if found else ""


def row(cells: pd.DataFrame) -> dict[str, float]:
    """How many cells these are, shares of them, and scores of those with a coarse label."""
    shares = ("well represented", "p < 0.05", "novel", "unassigned")
    found = {"cells": len(cells)} | {name: float(cells[name].mean()) for name in shares}
    found["mean confidence"] = float(cells.loc[~cells["unassigned"], "confidence"].mean())
    known = cells[cells["truth"] != ""]
    if len(known):
        labels = sorted(known["truth"].unique())
        found["macro-F1"] = f1_score(known["truth"], known["label"], labels=labels, average="macro", zero_division=0)
        found["same coarse label"] = float((known["truth"] == known["label"]).mean())
        found["wrong"] = float(known["wrong"].mean())
    return found


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
                pvalues.append(query.obs["scim_novelty_pvalue"].to_numpy())
            at = np.concatenate(pvalues)
            found[f"{name}, {landmarks}"] = {f"p <= {level:g}": float((at <= level).mean()) for level in LEVELS}
    return found


def auroc(blood: pd.DataFrame, others: pd.DataFrame) -> float:
    """How well novelty tells the others from blood."""
    truth = np.r_[np.zeros(len(blood)), np.ones(len(others))]
    return float(roc_auc_score(truth, np.r_[blood["novelty"], others["novelty"]]))


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
        "blood": {name: row(sets[name]) for name in BLOOD},
        "others": {name: row(cells) for name, cells in others.items()},
        "their leukocytes": {name: row(cells) for name, cells in leukocytes.items()},
    }
    rows["caution"] = caution([name for name in BLOOD if sets[name]["truth"].ne("").any()], reference)
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
            "called_novel": float(blood["novel"].mean()),
            "p_below_0.05": float(blood["p < 0.05"].mean()),
        }
    tables = {title: pd.DataFrame(found.values(), index=list(found)).round(3) for title, found in rows.items()}
    for title, table in tables.items():
        print(title, table.to_string(na_rep=""), "", sep="\n", file=sys.stderr)
    if options.out:
        draw_caution(rows["caution"], options.out.with_suffix(".svg"))
        options.out.write_text("\n\n".join(map(to_markdown, tables.values())) + "\n", encoding="utf-8")
    print(json.dumps({"benchmark": "novelty", "against": summary, "sets": rows}))


if __name__ == "__main__":
    main()
