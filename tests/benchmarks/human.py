"""Score the bundled reference of the human body on studies that it was not trained on.

    python tests/benchmarks/human.py --work FOLDER [--encoders FOLDER] [--out docs/human-scores.md]

Two references are made by ``docs/recipes/make_human_reference.py``, each without half of the studies of real cells and
without profiles of the same studies, and are tried on these. Studies that are never trained on are labelled by the
bundled reference. Every score is of the label that a default call of ``scim.tl.annotate`` writes, for all cells of
which the study gives a term. Labels of one table go through the same scores:

- scim, without and, for blood, with ``tissue="blood"``,
- the label of the mean profile with the largest correlation, as SingleR does (3,000 most variable genes),
- logistic regression with balanced classes on the expression of the same real and drawn cells (3,000 genes).

"Compatible" is the share of cells with the true term, an ancestor of it, or a term below it; "wrong" is another term.
Coarse macro-F1 maps both to nine types of blood, macrophages and epithelial cells; a broader label is a miss.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from _annotation_tasks import LOG2, MERGED, TISSUE_LABELS, data_folder
from scipy import sparse

import scim

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "recipes"))
import make_human_reference as recipe

#: Studies left out together, with profiles of the same studies, and the files that they are tried on.
FOLDS = {
    "first": (
        [
            "10x PBMC 3k",
            "10x PBMC 4k",
            "Komen breast",
            "Darmanis 2015 brain",
            "Brain_Darmanis",
            "Moncada 2020 pancreas",
        ],
        ["pbmc3k_10x", "10x_pbmc4k_soupx", "breast_komen_140", "darmanis2015_brain", "moncada2020_pdac_7000g"],
    ),
    "second": (
        [
            "Zheng 2017",
            "Liao 2020 lung lavage",
            "Bronchoalveolar_lavage_fluid_COVID19_cellAtlas",
            "10x PBMC, three chemistries",
            "Baron 2016 pancreas",
            "Puram 2017 head and neck",
        ],
        [
            "zheng2017_sorted_pbmc",
            "zheng2017_facs_garnett",
            "liao2020_covid_balf",
            "pbmc_3tech_symphony",
            "baron2016_pancreas_175",
            "puram2017_hnscc_tme",
        ],
    ),
}
#: Studies that no reference is trained on.
UNSEEN = [
    "10x_pbmc10k_protein_200",
    "onek1k_pbmc_4types_1000g",
    "ding2020_pbmc_indrops_2000g",
    "villani2017_dc",
    "gaydosik2019_skin_ctcl_markerlabels",
    "trex_tumour_til_citeseq",
    "sadefeldman2018_melanoma_tcells",
    "pancreas_xin2016_980g",
]
#: Files of blood, and of cells in culture.
BLOOD = {"pbmc3k_10x", "10x_pbmc4k_soupx", "zheng2017_sorted_pbmc", "zheng2017_facs_garnett", "pbmc_3tech_symphony"}
BLOOD |= {"10x_pbmc10k_protein_200", "onek1k_pbmc_4types_1000g", "ding2020_pbmc_indrops_2000g", "villani2017_dc"}
IN_VITRO = [
    "cell_lines_sc_mixology",
    "friedman2018_ipsc_cardio_day2",
    "chu2016_hesc_endothelial_100",
    "pollen2014_11pop",
]
MOUSE = ["mouse_joost2016_epidermis", "mouse_matsushita2023_bm_stroma", "mouse_mca_stomach_intestine"]
LABEL = recipe.LABEL
#: Genes of the peers, and cells of a label and study that logistic regression learns from.
N_GENES, N_CELLS = 3_000, 60


def read(name: str) -> ad.AnnData:
    """Read a study with terms or None as labels, and log2 values turned into log1p."""
    found = ad.read_h5ad(data_folder() / ("mouse/" if name in MOUSE else "") / f"{name}.h5ad")
    matrix = recipe.relogged(found.X) if name in LOG2 else sparse.csr_matrix(found.X)
    labels = found.obs[LABEL].astype(object) if LABEL in found.obs else pd.Series(None, found.obs_names, dtype=object)
    labels = labels.where(~labels.astype(str).isin(["", "nan", "unknown", "None"]), None)
    return ad.AnnData(matrix, obs=pd.DataFrame({LABEL: labels}), var=found.var)


@cache
def at_or_above(term: str) -> frozenset[str]:
    """Return a term and its ancestors."""
    return frozenset({term, *scim.CellOntology.bundled().ancestors(term)})


@cache
def coarse(term: str | None) -> str:
    """Return the coarse type of a term; the term itself if it has none."""
    for name, root in TISSUE_LABELS.items() if term else ():
        if root in at_or_above(str(term)):
            return TISSUE_LABELS[MERGED.get(name, name)]
    return term or "none"


def rate(written: list[str | None], truth: list[str | None]) -> dict[str, float]:
    """Score written terms (None: unassigned) of the cells that have a true term."""
    ontology = scim.CellOntology.bundled()
    pairs = [(w, ontology.resolve(t)) for w, t in zip(written, truth, strict=True) if t and ontology.resolve(t)]
    if not pairs:
        return {}
    fits = [w is not None and (w in at_or_above(t) or t in at_or_above(w)) for w, t in pairs]
    given = np.array([w is not None for w, _ in pairs])
    found = {
        "cells": len(pairs),
        "same": float(np.mean([w == t for w, t in pairs])),
        "compatible": float(np.mean(fits)),
        "wrong": float(np.mean(given & ~np.array(fits))),
        "unassigned": float(1 - given.mean()),
    }
    types = [coarse(t) for _, t in pairs]
    wanted = sorted(set(types) & set(TISSUE_LABELS.values()))
    if wanted:
        from sklearn.metrics import f1_score

        own = [(c, coarse(w)) for c, (w, _) in zip(types, pairs, strict=True) if c in wanted]
        columns = [list(column) for column in zip(*own, strict=True)]
        found["macro_f1"] = float(f1_score(*columns, labels=wanted, average="macro", zero_division=0))
    return found


def scim_terms(name: str, reference: scim.Reference, **options: Any) -> tuple[list[str | None], float, float]:
    """Annotate a study; return the written terms, the share of well represented cells, and seconds."""
    cells = read(name)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of few genes and strange cells
        scim.tl.annotate(cells, reference, **options)
    seconds = time.perf_counter() - started
    terms = [
        None if x == "unassigned" else t
        for x, t in zip(cells.obs["scim_label"], cells.obs["scim_term_id"], strict=True)
    ]
    return terms, float(cells.uns["scim"]["annotate"]["well_represented"]), seconds


class Peers:
    """Correlation with mean profiles, and logistic regression, on the cells that a reference is made of."""

    def __init__(self, leave_out: list[str], genes: scim.genes.GeneSpace) -> None:
        rows, self.genes = [], genes
        labels: list[str] = []
        studies: list[str] = []
        for name, study in recipe.load(data_folder(), recipe.TRAINED_CELLS, leave_out=leave_out).items():
            known = study[study.obs[LABEL].notna().to_numpy()]
            if genes.match_adata(known).n_matched > len(genes) / 2:
                rows.append(self.logged(known))
                labels += known.obs[LABEL].astype(str).tolist()
                studies += [name] * known.n_obs
        matrix, self.labels = sparse.vstack(rows, format="csr"), np.array(labels)
        groups = pd.Series([f"{a}|{b}" for a, b in zip(labels, studies, strict=True)])
        places = {group: members.to_numpy() for group, members in groups.groupby(groups).groups.items()}
        means = np.stack([np.asarray(matrix[members].mean(axis=0)).ravel() for members in places.values()])
        self.variable = np.sort(np.argsort(-means.var(axis=0))[:N_GENES])
        of = np.array([group.split("|")[0] for group in places])
        self.terms = np.unique(of)
        self.means = np.stack([means[of == term][:, self.variable].mean(axis=0) for term in self.terms])
        rng = np.random.default_rng(0)
        chosen = np.concatenate([rng.permutation(members)[:N_CELLS] for members in places.values()])
        self.cells = matrix[chosen][:, self.variable], self.labels[chosen]

    def logged(self, adata: ad.AnnData) -> sparse.csr_matrix:
        """Return log1p of 1e4 counts over the genes of the encoder."""
        from scim.counts import find_values

        values = find_values(adata, self.genes, layer=None, gene_column=None).linear(np.arange(adata.n_obs))
        sums = np.maximum(np.asarray(values.sum(axis=1)).ravel(), 1e-12)
        return sparse.csr_matrix(sparse.diags(1e4 / sums) @ values).log1p()

    def predict(self, name: str) -> dict[str, list[str | None]]:
        """Label a study by both, with the genes that it has."""
        from sklearn.linear_model import LogisticRegression

        cells = read(name)
        kept = np.flatnonzero(self.genes.match_adata(cells).measured[self.variable])
        matrix = self.logged(cells)[:, self.variable[kept]]
        ours, theirs = unit(matrix.toarray()), unit(self.means[:, kept])
        model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=60)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(self.cells[0][:, kept], self.cells[1])
        return {
            "correlation with profiles": list(self.terms[(ours @ theirs.T).argmax(axis=1)]),
            "logistic regression, balanced": list(model.predict(matrix)),
        }


def unit(rows: np.ndarray) -> np.ndarray:
    """Centre rows, and scale them to length 1."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)


def score(files: list[str], reference: scim.Reference, leave_out: list[str]) -> list[dict[str, Any]]:
    """Score all methods on some studies."""
    peers, rows = Peers(leave_out, reference.encoder.genes), []
    for name in files:
        truth = read(name).obs[LABEL].tolist()
        asked: list[tuple[str, dict[str, str]]] = [("scim", {})]
        if name in BLOOD:
            asked.append(("scim, tissue given", {"tissue": "blood"}))
        for method, options in asked:
            terms, represented, seconds = scim_terms(name, reference, **options)
            more = {"represented": represented, "seconds": seconds}
            rows.append({"study": name, "method": method, **rate(terms, truth), **more})
        rows += [{"study": name, "method": m, **rate(t, truth)} for m, t in peers.predict(name).items()]
        print(pd.DataFrame(rows[-len(asked) - 2 :]).round(3).to_string(index=False), file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Make the references, score them, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for references and encoders")
    parser.add_argument("--out", type=Path, help="write the table of all rows to this .csv")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for fold, (leave_out, files) in FOLDS.items():
        encoder = options.work / f"{fold}.encoder"
        if not encoder.is_dir():
            made = recipe.train(recipe.load(data_folder(), recipe.TRAINED_CELLS, leave_out=leave_out), seed=0)
            made.save(encoder)
        reference = recipe.make(
            data_folder(), options.work / f"{fold}.scim", leave_out=leave_out, encoder=scim.Encoder.load(encoder)
        )
        rows += score(files, reference, leave_out)
    bundled = scim.Reference.open("human")
    rows += score(UNSEEN, bundled, [])
    for name in (*IN_VITRO, *MOUSE):
        terms, represented, seconds = scim_terms(name, bundled)
        more = {"represented": represented, "seconds": seconds}
        rows.append({"study": name, "method": "scim", **rate(terms, read(name).obs[LABEL].tolist()), **more})
    table = pd.DataFrame(rows)
    if options.out:
        table.round(4).to_csv(options.out, index=False, lineterminator="\n")
    means = table[table["compatible"].notna() & ~table["study"].isin([*IN_VITRO, *MOUSE])]
    columns = ["macro_f1", "same", "compatible", "wrong", "unassigned"]
    print(json.dumps({m: part[columns].mean().round(3).to_dict() for m, part in means.groupby("method")}))


if __name__ == "__main__":
    main()
