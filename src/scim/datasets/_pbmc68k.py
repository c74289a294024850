"""Blood cells of one donor, which come with scanpy."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData

#: Published label in :func:`pbmc68k` -> id and name of its Cell Ontology term.
PBMC68K_TERMS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "CD14+ Monocyte": ("CL:0001054", "CD14-positive monocyte"),
        "CD19+ B": ("CL:0000236", "B cell"),
        "CD34+": ("CL:0008001", "hematopoietic precursor cell"),
        "CD4+/CD25 T Reg": ("CL:0000792", "CD4-positive, CD25-positive, alpha-beta regulatory T cell"),
        "CD4+/CD45RA+/CD25- Naive T": ("CL:0000895", "naive thymus-derived CD4-positive, alpha-beta T cell"),
        "CD4+/CD45RO+ Memory": ("CL:0000897", "CD4-positive, alpha-beta memory T cell"),
        "CD56+ NK": ("CL:0000623", "natural killer cell"),
        # These were sorted by CD8 alone and include naive cells, hence the broader term.
        "CD8+ Cytotoxic T": ("CL:0000625", "CD8-positive, alpha-beta T cell"),
        "CD8+/CD45RA+ Naive Cytotoxic": ("CL:0000900", "naive thymus-derived CD8-positive, alpha-beta T cell"),
        "Dendritic": ("CL:0000451", "dendritic cell"),
    }
)


def pbmc68k() -> AnnData:
    """Load peripheral blood cells with published labels and their Cell Ontology terms.

    700 cells x 765 highly variable genes of the 68k PBMC data (Zheng et al. 2017, one donor, eight 10x channels). The
    data come with scanpy; nothing is downloaded. Each label is that of the sorted population whose bulk profile
    correlates best with the cell, so that similar T cell subsets are often confused.

    Returns
    -------
    AnnData
        ``X``: CSR float32, natural log1p of counts, normalised per cell over all genes before 765 were selected.
        ``obs["bulk_labels"]``: the published label. ``obs["cell_type"]`` and ``obs["cell_type_ontology_term_id"]``:
        name and id of its Cell Ontology term. ``obs["channel"]``: the 10x channel of the cell ("1" to "8").
        ``obsm["X_umap"]``: the published UMAP, float64 (700, 2).

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc68k()
    >>> adata.shape
    (700, 765)
    >>> adata.obs["cell_type"].value_counts().index[0]
    'dendritic cell'
    """
    import anndata
    import numpy as np
    import pandas as pd
    import scanpy as sc
    import scipy.sparse as sp

    source = sc.datasets.pbmc68k_reduced()
    labels = source.obs["bulk_labels"].astype(str)
    obs = pd.DataFrame(index=source.obs_names.astype(str).rename("cell"))
    obs["bulk_labels"] = pd.Categorical(labels)
    obs["cell_type"] = pd.Categorical([PBMC68K_TERMS[label][1] for label in labels])
    obs["cell_type_ontology_term_id"] = pd.Categorical([PBMC68K_TERMS[label][0] for label in labels])
    obs["channel"] = pd.Categorical(obs.index.str.rpartition("-").get_level_values(2))
    var = pd.DataFrame(index=source.raw.var_names.astype(str).rename("gene"))
    obsm = {"X_umap": np.asarray(source.obsm["X_umap"], dtype=np.float64)}
    return anndata.AnnData(X=sp.csr_matrix(source.raw.X, dtype="float32"), obs=obs, var=var, obsm=obsm)
