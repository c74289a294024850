"""Make the bundled reference of blood from four published studies.

    python docs/recipes/make_blood_reference.py --data STUDIES --out src/scim/reference/bundled/blood.scim

STUDIES is a folder of .h5ad files with raw counts or log1p values and ``obs["cell_type_ontology_term_id"]``:

- pbmc3k_10x: 10x Genomics PBMC 3k (CC BY 4.0), labels of clustifyrdata (MIT).
- zheng2017_sorted_pbmc and zheng2017_facs_garnett, which are one experiment: Zheng et al. 2017, Nat Commun 8:14049, 10x
  Genomics (CC BY 4.0), cells sorted by surface markers.
- liao2020_covid_balf: Liao et al. 2020, Nat Med 26:842, GSE145926, lung lavage, labels of the authors.
- pbmc_3tech_symphony: 10x Genomics PBMC of three chemistries (CC BY 4.0), annotation of Korsunsky et al. 2019.

Matrices are rounded to float16. Labels with fewer than ten cells are left out. Landmarks are simulated, so the
reference contains no counts of real cells. The same data, versions and number of threads give the same reference.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anndata as ad
import pandas as pd
import torch

import scim

STUDIES = {
    "10x PBMC 3k": ["pbmc3k_10x"],
    "Zheng 2017": ["zheng2017_sorted_pbmc", "zheng2017_facs_garnett"],
    "Liao 2020 lung lavage": ["liao2020_covid_balf"],
    "10x PBMC, three chemistries": ["pbmc_3tech_symphony"],
}
LABEL, STUDY, FEWEST = "cell_type_ontology_term_id", "study", 10


def load(folder: Path) -> dict[str, ad.AnnData]:
    """Load the studies, and remove labels of few cells."""
    studies = {}
    for name, files in STUDIES.items():
        parts = {file: ad.read_h5ad(folder / f"{file}.h5ad") for file in files}
        adata = next(iter(parts.values()))
        if len(parts) > 1:
            adata = scim.pp.merge_studies(parts, study_key="file", join="inner")
        studies[name] = adata
    sizes = pd.concat([adata.obs[LABEL].astype(object) for adata in studies.values()]).value_counts()
    for adata in studies.values():
        labels = adata.obs[LABEL].astype(object)
        adata.obs[LABEL] = labels.where(labels.map(sizes) >= FEWEST, None)
    return studies


def train(studies: dict[str, ad.AnnData], *, seed: int) -> scim.Encoder:
    """Train an encoder on all studies."""
    merged = scim.pp.merge_studies(studies, study_key=STUDY)
    scim.SCIM.setup_anndata(merged, labels_key=LABEL, batch_key=STUDY)
    model = scim.SCIM(merged, seed=seed)
    model.train(seed=seed, accelerator="cpu")
    return model.to_encoder().rounded()


def make(
    studies: dict[str, ad.AnnData], out: Path, *, encoder: scim.Encoder | None = None, seed: int = 0
) -> scim.Reference:
    """Build a reference of the studies, with an encoder trained on them."""
    for name, adata in studies.items():
        adata.obs[STUDY] = name
    return scim.Reference.build(
        out,
        studies,
        encoder or train(studies, seed=seed),
        labels_key=LABEL,
        study_key=STUDY,
        obs_columns=["donor", "sample", "assay", "tissue", "disease"],
        landmarks="simulated",
        overwrite=True,
    )


def main() -> None:
    """Make the reference and print its summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, help="folder of an encoder from an earlier run, to skip training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(2)
    encoder = scim.Encoder.load(options.encoder) if options.encoder else None
    reference = make(load(options.data), options.out, encoder=encoder, seed=options.seed)
    for key, value in reference.info().items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main()
