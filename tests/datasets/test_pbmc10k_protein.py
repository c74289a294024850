"""The cells with surface proteins that come with scim."""

from __future__ import annotations

import os
from pathlib import Path

import anndata
import numpy as np
import pytest

import scim


def test_labels_are_terms_of_the_ontology() -> None:
    ontology = scim.CellOntology.bundled()
    for term, name in scim.datasets.PBMC10K_TERMS.values():
        assert ontology.resolve(term) == term and ontology.name(term) == name


def test_counts_are_raw_and_labels_those_of_proteins() -> None:
    adata = scim.datasets.pbmc10k_protein()
    assert adata.shape == (200, 16_727) and adata.X.has_sorted_indices
    assert (adata.X.data == np.round(adata.X.data)).all() and adata.X.data.min() == 1
    assert adata.obs["gate"].isna().sum() == adata.obs["cell_type"].isna().sum() == 7
    cd14 = adata.obsm["protein"]["CD14_TotalSeqB"]
    monocytes = adata.obs["gate"] == "CD14+ monocyte"
    assert cd14[monocytes].median() > 10 * cd14[~monocytes].median()


def test_they_are_the_cells_of_the_source() -> None:
    folder = Path(os.environ.get("SCIM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    path = folder / "10x_pbmc10k_protein_200.h5ad"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here: set SCIM_DATA")
    source, adata = anndata.read_h5ad(path), scim.datasets.pbmc10k_protein()
    assert (adata.X != source.X).nnz == 0
    assert list(adata.obs_names) == list(source.obs_names) and list(adata.var_names) == list(source.var_names)
