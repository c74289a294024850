"""Which cells annotation.py trains on and which it holds out: groups of studies, and what is made worse on purpose."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

import scim

LABEL, STUDY, TERM = "benchmark_label", "study", "cell_type_ontology_term_id"
#: Coarse labels of blood; a cell gets the first whose term is its own or an ancestor of it.
BLOOD_LABELS = {
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
#: What tissues hold besides, of which the lung lavage has enough to learn from.
TISSUE_LABELS = BLOOD_LABELS | {"macrophage": "CL:0000235", "epithelial cell": "CL:0000066"}
BLOOD_FILES = {
    "pbmc3k": ("pbmc3k_10x",),
    "zheng": ("zheng2017_sorted_pbmc", "zheng2017_facs_garnett"),
    "symphony": ("pbmc_3tech_symphony",),
    "lavage": ("liao2020_covid_balf",),
}
#: Too special to train on: 100 counts a cell, dendritic cells only, tumours, 20 cells of a type.
DISTANT_FILES = {
    "ding": ("ding2020_pbmc_indrops_2000g",),
    "villani": ("villani2017_dc",),
    "moncada": ("moncada2020_pdac_7000g",),
    "breast": ("breast_komen_140",),
    "puram": ("puram2017_hnscc_tme",),
}
#: Delivered later, and never used to choose anything: blood of other chemistries and donors, and tissues.
LATER_FILES = {
    "pbmc4k": ("10x_pbmc4k_soupx",),
    "pbmc10k": ("10x_pbmc10k_protein_200",),
    "onek1k": ("onek1k_pbmc_4types_1000g",),
    "tumour T cells": ("trex_tumour_til_citeseq",),
    "skin": ("gaydosik2019_skin_ctcl_markerlabels",),
    "melanoma T cells": ("sadefeldman2018_melanoma_tcells",),
}
PANCREAS_FILES = {
    "baron": ("baron2016_pancreas_175",),
    "panel": ("pancreas_3study_cepo_1403g",),
    "xin": ("pancreas_xin2016_980g",),
    "wang": ("pancreas_wang2016_219g",),
}
#: Published as log2(1 + x): undone, normalised and logged anew, as scim tells one to.
LOG2 = ("pancreas_xin2016_980g", "pancreas_wang2016_219g", "puram2017_hnscc_tme", "sadefeldman2018_melanoma_tcells")


@dataclass(frozen=True)
class Group:
    """Studies that share labels.

    Attributes
    ----------
    held
        Name of each task -> the studies that are held out in it.
    test_only
        Studies that are never trained on.
    """

    held: dict[str, tuple[str, ...]]
    test_only: tuple[str, ...] = ()


_PAIRS = [(a, b) for i, a in enumerate(BLOOD_FILES) for b in list(BLOOD_FILES)[i + 1 :]]
_CELSEQ = ("CELseq2_3cl", "CELseq2_5cl_p1", "CELseq2_5cl_p2", "CELseq2_5cl_p3")
_ISLET_PANELS = ("Segerstolpe2016", "Lawlor2017")
_FIFTHS = {name: f"{name}, a fifth" for name in BLOOD_FILES}
GROUPS = {
    "blood": Group({name: (name,) for name in BLOOD_FILES}),
    "cells": Group({name: (fifth,) for name, fifth in _FIFTHS.items()}, tuple(_FIFTHS.values())),
    "distant": Group({name: (name,) for name in DISTANT_FILES}, tuple(DISTANT_FILES)),
    "later": Group({name: (name,) for name in LATER_FILES}, tuple(LATER_FILES)),
    "chemistry": Group({name: (name,) for name in ("threepv1", "threepfresh", "fivePrime")}),
    "platform": Group({"Drop-seq": ("Dropseq_3cl",), "CEL-seq2": _CELSEQ}),
    "pancreas": Group({name: (name,) for name in ("baron", "xin", *_ISLET_PANELS, "wang")}, ("wang",)),
    "integration": Group({f"{a}+{b}": (a, b) for a, b in _PAIRS}),
}


@dataclass(frozen=True)
class Condition:
    """What is made worse: share of wrong training labels, counts or genes of the held-out cells, a type made rare."""

    wrong: float = 0.0
    depth: int | None = None
    panel: int | None = None
    rare: str | None = None

    @property
    def key(self) -> str:
        """A short name, ``"clean"`` where nothing is."""
        parts = [f"{name}-{value:g}" if name != "rare" else f"rare-{value}" for name, value in self.named]
        return ",".join(parts) or "clean"

    @property
    def named(self) -> list[tuple[str, float | str]]:
        """What is set."""
        return [(name, value) for name, value in asdict(self).items() if value]


#: Training cells that a type made rare keeps.
RARE_CELLS = 20


@dataclass
class Task:
    """Training cells and held-out ones, and what of both every method shares.

    ``train_x`` and ``test_x`` are log-normalised over the genes that the held-out studies measured: methods other than
    scim are fitted anew for these genes. ``train_counts`` and ``test_counts`` are the same in counts.
    """

    group: str
    condition: Condition
    studies: dict[str, ad.AnnData]
    merged: ad.AnnData
    test: ad.AnnData
    space: scim.genes.GeneSpace
    columns: np.ndarray
    train_x: sparse.csr_matrix
    test_x: sparse.csr_matrix

    @property
    def genes(self) -> list[str]:
        """Genes of ``train_x`` and ``test_x``."""
        return [str(g) for g in np.asarray(self.space.names)[self.columns]]

    @property
    def labels(self) -> np.ndarray:
        """Labels of the training cells."""
        return self.merged.obs[LABEL].astype(str).to_numpy()

    @property
    def batches(self) -> tuple[np.ndarray, np.ndarray]:
        """Study of each training and of each held-out cell."""
        return self.merged.obs[STUDY].astype(str).to_numpy(), self.test.obs[STUDY].astype(str).to_numpy()

    def counts(self) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """Counts of the training and of the held-out cells, for methods that model these."""
        train = sparse.vstack([as_counts(a, self.space) for a in self.studies.values()], format="csr")
        return train[:, self.columns], as_counts(self.test, self.space)[:, self.columns]


def data_folder() -> Path:
    """Folder of the real studies, or a clear end."""
    folder = Path(os.environ.get("SCIM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not folder.is_dir():
        sys.exit("This benchmark needs the real studies: set SCIM_DATA to their folder.")
    return folder


def make_task(group: str, held_out: str, condition: Condition) -> Task:
    """Hold out what the task's name says, after spoiling what the condition says."""
    studies, held = load_group(group), GROUPS[group].held[held_out]
    train = {k: a.copy() for k, a in studies.items() if k not in (*held, *GROUPS[group].test_only)}
    rng = np.random.default_rng(0)
    trained = sorted(set().union(*(set(a.obs[LABEL]) for a in train.values())))
    for adata in train.values():
        spoiled = rng.random(adata.n_obs) < condition.wrong
        adata.obs.loc[spoiled, LABEL] = rng.choice(trained, int(spoiled.sum()))
    if condition.rare is not None:
        train = make_rare(train, BLOOD_LABELS[condition.rare], rng)
    tests = {k: studies[k][studies[k].obs[LABEL].isin(trained).to_numpy()].copy() for k in held}
    test = next(iter(tests.values()))
    test.obs[STUDY] = held[0]
    if len(tests) > 1:
        test = scim.pp.merge_studies(tests, study_key=STUDY, join="inner")
    test = spoil(test, condition, rng)
    merged = scim.pp.merge_studies(train, study_key=STUDY)
    space = scim.genes.GeneSpace.from_adata(merged)
    columns = np.flatnonzero(space.match_adata(test).measured)
    both = (lognorm(a, space)[:, columns] for a in (merged, test))
    return Task(group, condition, train, merged, test, space, columns, *both)


def make_rare(train: dict[str, ad.AnnData], label: str, rng: np.random.Generator) -> dict[str, ad.AnnData]:
    """Leave 20 training cells of a label, drawn from all studies."""
    places = [(k, i) for k, a in train.items() for i in np.flatnonzero(a.obs[LABEL] == label)]
    kept = {places[i] for i in rng.permutation(len(places))[:RARE_CELLS]}
    masks = {k: [lab != label or (k, i) in kept for i, lab in enumerate(a.obs[LABEL])] for k, a in train.items()}
    return {k: a[np.array(masks[k])].copy() for k, a in train.items() if any(masks[k])}


def spoil(test: ad.AnnData, condition: Condition, rng: np.random.Generator) -> ad.AnnData:
    """Keep the most expressed genes only, and thin counts, where asked to."""
    if condition.panel is not None and condition.panel < test.n_vars:
        test = test[:, np.sort(np.argsort(-np.asarray(test.X.mean(axis=0)).ravel())[: condition.panel])].copy()
    if condition.depth is not None and scim.counts._kinds.input_kind(test.X).kind == "counts":
        share = np.minimum(condition.depth / np.maximum(np.asarray(test.X.sum(axis=1)).ravel(), 1), 1)
        thinned = rng.binomial(test.X.data.astype(int), np.repeat(share, np.diff(test.X.indptr))).astype("f4")
        test.X = sparse.csr_matrix((thinned, test.X.indices.copy(), test.X.indptr.copy()), shape=test.shape)
        test.X.eliminate_zeros()
    return test


def lognorm(adata: ad.AnnData, genes: scim.genes.GeneSpace) -> sparse.csr_matrix:
    """Log-normalised cells x genes, as the encoder sees them."""
    from scim.counts._scale import lognormal_in_place
    from scim.counts._values import find_counts

    found = find_counts(adata)
    return lognormal_in_place(genes.match_adata(adata).align(found.X), found.kind)


def as_counts(adata: ad.AnnData, genes: scim.genes.GeneSpace) -> sparse.csr_matrix:
    """Counts, cells x genes; where a study has log1p values, multiples of a cell's smallest, which are its counts."""
    from scim.counts._values import find_counts

    place = find_counts(adata)
    found = genes.match_adata(adata).align(place.X).astype(np.float64)
    if place.kind.kind == "log1p":
        found.data = np.expm1(found.data)
        lengths = np.diff(found.indptr)
        starts = found.indptr[:-1][lengths > 0]
        found.data /= np.repeat(np.minimum.reduceat(found.data, starts), lengths[lengths > 0])
    found.data = np.round(found.data)
    found.eliminate_zeros()
    return found.astype(np.float32)


@cache
def load_group(group: str) -> dict[str, ad.AnnData]:
    """Studies of a group by name, with ``obs[LABEL]``, reduced to labels that two of them share."""
    if group in ("blood", "integration"):
        return shared_labels({k: coarse(read(files), BLOOD_LABELS) for k, files in BLOOD_FILES.items()})
    if group == "cells":
        rng, found = np.random.default_rng(0), load_group("blood")
        held = {name: rng.random(adata.n_obs) < 0.2 for name, adata in found.items()}
        rest = {name: found[name][~mask].copy() for name, mask in held.items()}
        return rest | {_FIFTHS[name]: found[name][mask].copy() for name, mask in held.items()}
    if group == "distant":
        return shared_labels({k: coarse(read(f), TISSUE_LABELS) for k, f in (BLOOD_FILES | DISTANT_FILES).items()})
    if group == "later":
        # The labels, and so the training cells, are those of the distant studies.
        train = {k: a for k, a in load_group("distant").items() if k in BLOOD_FILES}
        later = {k: coarse(read(f), TISSUE_LABELS) for k, f in LATER_FILES.items()}
        return train | {k: a[a.obs[LABEL].notna().to_numpy()].copy() for k, a in later.items()}
    if group == "pancreas":
        found = {k: read(files) for k, files in PANCREAS_FILES.items()}
        # Baron's cells are in the panel, too, and stay out of it.
        found |= split(found.pop("panel"), "study", _ISLET_PANELS)
        return shared_labels({k: labelled(a, TERM) for k, a in found.items()})
    if group == "chemistry":
        chemistries = tuple(GROUPS["chemistry"].held)
        return shared_labels(split(labelled(read(("pbmc_3tech_symphony",)), TERM), "batch", chemistries))
    lines = labelled(read(("cell_lines_sc_mixology",)), "cell_line")
    return shared_labels(split(lines, "batch", ("Dropseq_3cl", *_CELSEQ)))


def read(files: tuple[str, ...]) -> ad.AnnData:
    """One study, of one file or of several."""
    parts = {name: ad.read_h5ad(data_folder() / f"{name}.h5ad") for name in files}
    for name, adata in parts.items():
        if name in LOG2:
            linear = sparse.csr_matrix(adata.X).astype(np.float64)
            linear.data = np.exp2(linear.data) - 1
            totals = np.maximum(np.asarray(linear.sum(axis=1)).ravel(), 1e-12)
            adata.X = sparse.csr_matrix(sparse.diags(1e4 / totals) @ linear).log1p().astype(np.float32)
        adata.X = sparse.csr_matrix(adata.X)
    if len(parts) == 1:
        return next(iter(parts.values()))
    return scim.pp.merge_studies(parts, study_key="file", join="inner")


def split(adata: ad.AnnData, column: str, names: tuple[str, ...]) -> dict[str, ad.AnnData]:
    """One AnnData for each name in a column of ``obs``."""
    return {name: adata[(adata.obs[column].astype(str) == name).to_numpy()].copy() for name in names}


def labelled(adata: ad.AnnData, column: str) -> ad.AnnData:
    """Labels as they are in a column; none where it is empty."""
    values = adata.obs[column].astype(object)
    adata.obs[LABEL] = values.where(~values.isin(["", "nan", "unknown"]), None).astype(object)
    return adata


def coarse(adata: ad.AnnData, wanted: dict[str, str]) -> ad.AnnData:
    """Coarse labels of the cells; none where no wanted term is theirs or above it."""
    ontology = scim.CellOntology.bundled()

    def one(term: str) -> str | None:
        known = ontology.resolve(term)
        for name, root in wanted.items() if known else ():
            if known == root or root in ontology.ancestors(known):
                return wanted[MERGED.get(name, name)]
        return None

    terms = adata.obs[TERM].astype(str)
    adata.obs[LABEL] = terms.map({t: one(t) for t in terms.unique()}).astype(object)
    return adata


def shared_labels(studies: dict[str, ad.AnnData]) -> dict[str, ad.AnnData]:
    """Cells of the labels that at least two studies have."""
    seen = pd.Series([t for a in studies.values() for t in a.obs[LABEL].dropna().unique()]).value_counts()
    shared = set(seen.index[seen >= 2])
    return {name: a[a.obs[LABEL].isin(shared).to_numpy()].copy() for name, a in studies.items()}
