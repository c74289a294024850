"""The cells that ship in scanpy."""

from __future__ import annotations

import numpy as np

import scim


def test_bundled_labels_are_terms_of_the_ontology() -> None:
    ontology = scim.CellOntology.bundled()
    for term, name in scim.datasets.PBMC68K_TERMS.values():
        assert ontology.resolve(term) == term
        assert ontology.name(term) == name


def test_pbmc68k_is_sparse_log1p_with_channels() -> None:
    adata = scim.datasets.pbmc68k()
    assert adata.shape == (700, 765)
    assert adata.X.dtype == np.float32
    assert adata.X.min() == 0
    assert adata.X.max() < np.log1p(1e4)
    assert sorted(adata.obs["channel"].unique()) == [str(i) for i in range(1, 9)]
    assert adata.obs["cell_type"].isna().sum() == 0
