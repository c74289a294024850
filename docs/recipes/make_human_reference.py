"""Make the bundled reference of the human body from published cells and mean profiles.

    python docs/recipes/make_human_reference.py --data STUDIES --out src/scim/reference/bundled/human.scim

STUDIES is a folder of .h5ad files with raw counts or log1p values and ``obs["cell_type_ontology_term_id"]``, and its
folder ``profiles`` has mean profiles of cell types. ``docs/human.md`` names the sources and their licences.

Cells are drawn around the profiles: 30 a profile to train with, and 6 a profile for the reference, which keeps at most
300 real cells of a label and study. Each data set of
profiles is a study. Labels with fewer than ten cells are left out, and so is "malignant cell", which is no cell type.
Matrices are rounded to float16. Landmarks are simulated, so the reference contains no counts of real cells. The same
data, versions and number of threads give the same reference.

``--leave-out`` leaves studies out, to score a reference on them.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import torch
from scipy import sparse
from scipy.optimize import brentq

import scim

#: Studies of real cells: their files, tissue and disease.
STUDIES: dict[str, tuple[list[str], str, str]] = {
    "10x PBMC 3k": (["pbmc3k_10x"], "blood", "normal"),
    "10x PBMC 4k": (["10x_pbmc4k_soupx"], "blood", "normal"),
    "Zheng 2017": (["zheng2017_sorted_pbmc", "zheng2017_facs_garnett"], "blood", "normal"),
    "10x PBMC, three chemistries": (["pbmc_3tech_symphony"], "blood", "normal"),
    "Liao 2020 lung lavage": (["liao2020_covid_balf"], "lung", "COVID-19"),
    "Darmanis 2015 brain": (["darmanis2015_brain"], "brain", "normal"),
    "Baron 2016 pancreas": (["baron2016_pancreas_175"], "pancreas", "normal"),
    "Moncada 2020 pancreas": (["moncada2020_pdac_7000g"], "pancreas", "pancreatic ductal adenocarcinoma"),
    "Puram 2017 head and neck": (["puram2017_hnscc_tme"], "oral cavity", "head and neck squamous cell carcinoma"),
    "Komen breast": (["breast_komen_140"], "breast", "normal"),
}
#: Files of mean profiles.
PROFILES = (
    "human_adult_cellprofilelibrary_1",
    "human_adult_cellprofilelibrary_2",
    "human_covid_cellprofilelibrary",
    "human_fetal_descartes",
    "human_immune53_immucellai2",
)
#: Data sets of profiles whose genes are a small panel.
PANELS = ("ImmuneTumor_safeTME",)
#: Data sets whose profiles are means of logarithms, told by their flat shape: the top gene has .2 to 1 % of the sum,
#: where it has 2 to 4 % in linear means of the same cell types.
LOGGED = (
    "Brain_AllenBrainAtlas",
    "Brain_Darmanis",
    "Bronchoalveolar_lavage_fluid_COVID19_cellAtlas",
    "Colon_HCA",
    "Covid_Airway_COVID19_cellAtlas",
    "Immunodeficiency_Nasal_Swabs_COVID19_cellAtlas",
    "Immunodeficiency_PBMCs_COVID19_cellAtlas",
    "Liver_HCA",
    "MGH_Broad_COVID19_cellAtlas",
    "PBMCs_COVID19_cellAtlas",
    "Skin_HCA",
)
#: Tissue of the profiles: the published column names a project or a fluid in these data sets.
TISSUES = {
    "Bronchoalveolar_lavage_fluid_COVID19_cellAtlas": "lung",
    "Covid_Airway_COVID19_cellAtlas": "respiratory airway",
    "Immunodeficiency_Nasal_Swabs_COVID19_cellAtlas": "nose",
    "Immunodeficiency_PBMCs_COVID19_cellAtlas": "blood",
    "MGH_Broad_COVID19_cellAtlas": "blood",
    "PBMCs_COVID19_cellAtlas": "blood",
    "ImmuneCensus_HCA": "bone marrow",
    "ImmuCellAI2": "blood",
    "Muscle_DeMicheli": "skeletal muscle tissue",
    "Muscle_Descartes": "skeletal muscle tissue",
    "Skin_HCA": "skin of body",
    "Prostate_Henry": "prostate gland",
    "Adrenal_Descartes": "adrenal gland",
    "Decidua_HCA": "decidua",
    "Cerebrum_Descartes": "telencephalon",
}
#: Diseases of data sets of profiles.
DISEASES = {
    "Bronchoalveolar_lavage_fluid_COVID19_cellAtlas": "COVID-19",
    "Covid_Airway_COVID19_cellAtlas": "COVID-19",
    "MGH_Broad_COVID19_cellAtlas": "COVID-19",
    "PBMCs_COVID19_cellAtlas": "COVID-19",
    "Immunodeficiency_Nasal_Swabs_COVID19_cellAtlas": "primary immunodeficiency disease",
    "Immunodeficiency_PBMCs_COVID19_cellAtlas": "primary immunodeficiency disease",
    "Brain_Darmanis": "glioblastoma",
}
LABEL, STUDY, FEWEST = "cell_type_ontology_term_id", "study", 10
#: Labels that are no cell type.
NO_TYPES = ("CL:0001064",)
#: Cells of a profile to train with, and in the reference; epochs of training.
TRAINED_CELLS, KEPT_CELLS, EPOCHS = 30, 6, 40
#: Counts of a drawn cell.
DEPTH = 3_000
#: Most real cells of a label and study in the reference.
MOST_CELLS = 300


def load(folder: Path, n_cells: int, *, leave_out: Collection[str] = ()) -> dict[str, ad.AnnData]:
    """Load studies of real cells, and draw ``n_cells`` around each profile; remove labels of few cells."""
    studies = {name: real(folder, name) for name in STUDIES if name not in leave_out}
    for seed, (name, profiles) in enumerate(read_profiles(folder / "profiles").items()):
        if name not in leave_out:
            studies[name] = tidy(scim.pp.cells_from_profiles(profiles, n_cells, depth=DEPTH, seed=seed), name)
    cells = pd.concat([adata.obs[[LABEL, "origin"]].astype(object) for adata in studies.values()])
    # A profile counts as much in the reference as in training.
    weights = np.where(cells["origin"] == "cell", 1.0, TRAINED_CELLS / n_cells)
    sizes = pd.Series(weights, cells[LABEL].to_numpy()).groupby(level=0).sum()
    for adata in studies.values():
        labels = adata.obs[LABEL].astype(object)
        adata.obs[LABEL] = labels.where(labels.map(sizes) >= FEWEST, None)
    return studies


def fewer(studies: dict[str, ad.AnnData], *, seed: int) -> dict[str, ad.AnnData]:
    """Keep at most 300 labelled cells of each label and study."""
    rng, found = np.random.default_rng(seed), {}
    for name, adata in studies.items():
        labels = adata.obs[LABEL].astype(object)
        order = pd.Series(np.arange(adata.n_obs))[rng.permutation(adata.n_obs)]
        rank = order.groupby(labels.to_numpy()[order]).cumcount()
        kept = order[(rank < MOST_CELLS) & labels.notna().to_numpy()[order]]
        found[name] = adata[np.sort(kept)].copy()
    return found


def real(folder: Path, name: str) -> ad.AnnData:
    """Read the cells of a study, of one file or of several."""
    files, tissue, disease = STUDIES[name]
    parts = {file: ad.read_h5ad(folder / f"{file}.h5ad") for file in files}
    for file, adata in parts.items():
        if "log2" in str(adata.uns.get("X_is", "")) or file == "puram2017_hnscc_tme":
            adata.X = relogged(adata.X)
    adata = next(iter(parts.values()))
    if len(parts) > 1:
        adata = scim.pp.merge_studies(parts, study_key="file", join="inner")
    adata.obs["tissue"], adata.obs["disease"], adata.obs["origin"] = tissue, disease, "cell"
    return tidy(adata, name)


def relogged(matrix: sparse.spmatrix) -> sparse.csr_matrix:
    """Turn log2(1 + x) into log1p of 1e4 per cell."""
    linear = sparse.csr_matrix(matrix).astype(np.float64)
    linear.data = np.exp2(linear.data) - 1
    totals = np.maximum(np.asarray(linear.sum(axis=1)).ravel(), 1e-12)
    return sparse.csr_matrix(sparse.diags(1e4 / totals) @ linear).log1p().astype(np.float32)


def read_profiles(folder: Path) -> dict[str, ad.AnnData]:
    """Read linear mean profiles by data set, each with the genes that it measured."""
    found = {}
    for file in PROFILES:
        table = ad.read_h5ad(folder / f"{file}.h5ad")
        names = np.atleast_1d(table.uns["measured_in_columns"]).tolist()
        measured = np.asarray(table.varm["measured_in"]).reshape(table.n_vars, -1).astype(bool)
        for name in [str(name) for name in table.obs["dataset"].unique() if name not in PANELS]:
            part = table[(table.obs["dataset"] == name).to_numpy(), measured[:, names.index(name)]].copy()
            part.X = np.asarray(part.X.toarray() if sparse.issparse(part.X) else part.X, dtype=np.float64)
            if name in LOGGED:
                part.X = unlogged(part.X)
            part.var_names_make_unique()
            part.obs_names = [f"{name}: {kind}" for kind in part.obs["cell_type"]]
            part.obs_names_make_unique()
            tissue = name.split("_")[0].casefold()
            part.obs["tissue"] = TISSUES.get(name, {"immunecensus": "bone marrow"}.get(tissue, tissue))
            part.obs["disease"] = DISEASES.get(name, "normal")
            found[name] = part
    return found


def unlogged(means: np.ndarray) -> np.ndarray:
    """Undo logarithms of means, (n, n_genes): the scale before is the one that gives 1e4 counts a cell."""

    def excess(log_scale: float, row: np.ndarray) -> float:
        return float(np.log(np.expm1(np.minimum(row / np.exp(log_scale), 50)).sum()) - np.log(1e4))

    scales = [np.exp(brentq(excess, np.log(row.max() / 40), np.log(row.sum()), args=(row,))) for row in means]
    return np.expm1(means / np.array(scales)[:, None])


def tidy(adata: ad.AnnData, study: str) -> ad.AnnData:
    """Keep the columns that the reference has."""
    obs = pd.DataFrame(index=adata.obs_names)
    labels = adata.obs[LABEL].astype(object)
    obs[LABEL] = labels.where(~labels.astype(str).isin(["", "nan", "unknown", *NO_TYPES]), None)
    for column in ("tissue", "disease", "origin"):
        obs[column] = adata.obs[column].astype(str).to_numpy()
    obs["cell_type"] = (adata.obs["cell_type"] if "cell_type" in adata.obs else adata.obs[LABEL]).astype(str)
    obs[STUDY] = study
    return ad.AnnData(sparse.csr_matrix(adata.X), obs=obs, var=adata.var[[]].copy())


def train(studies: dict[str, ad.AnnData], *, seed: int) -> scim.Encoder:
    """Train an encoder on all studies."""
    merged = scim.pp.merge_studies(studies, study_key=STUDY)
    scim.SCIM.setup_anndata(merged, labels_key=LABEL, batch_key=STUDY)
    model = scim.SCIM(merged, seed=seed)
    model.train(seed=seed, max_epochs=EPOCHS, accelerator="cpu")
    return model.to_encoder().rounded()


def make(
    data: Path, out: Path, *, leave_out: Collection[str] = (), encoder: scim.Encoder | None = None, seed: int = 0
) -> scim.Reference:
    """Build a reference of the studies, with an encoder trained on them."""
    encoder = encoder or train(load(data, TRAINED_CELLS, leave_out=leave_out), seed=seed)
    return scim.Reference.build(
        out,
        fewer(load(data, KEPT_CELLS, leave_out=leave_out), seed=seed),
        encoder,
        labels_key=LABEL,
        study_key=STUDY,
        obs_columns=["tissue", "disease", "origin", "cell_type"],
        landmarks="simulated",
        overwrite=True,
    )


def main() -> None:
    """Make the reference and print its summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, help="folder of an encoder from an earlier run, to skip training")
    parser.add_argument("--save-encoder", type=Path, help="folder to save the encoder in")
    parser.add_argument("--leave-out", nargs="*", default=[], help="studies to leave out")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(2)
    encoder = scim.Encoder.load(options.encoder) if options.encoder else None
    if encoder is None:
        encoder = train(load(options.data, TRAINED_CELLS, leave_out=options.leave_out), seed=options.seed)
    if options.save_encoder:
        encoder.save(options.save_encoder, overwrite=True)
    reference = make(options.data, options.out, leave_out=options.leave_out, encoder=encoder)
    for key, value in reference.info().items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main()
