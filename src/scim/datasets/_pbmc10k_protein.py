"""Blood cells with RNA and surface proteins, which come with scim."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData

_FILE = Path(__file__).parent.parent / "_data" / "pbmc10k_protein.npz"
#: Gate of surface proteins in :func:`pbmc10k_protein` -> id and name of its Cell Ontology term.
PBMC10K_TERMS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "CD4+ T": ("CL:0000624", "CD4-positive, alpha-beta T cell"),
        "CD8+ T": ("CL:0000625", "CD8-positive, alpha-beta T cell"),
        "NK": ("CL:0000623", "natural killer cell"),
        "B": ("CL:0000236", "B cell"),
        "CD14+ monocyte": ("CL:0001054", "CD14-positive monocyte"),
    }
)


def pbmc10k_protein() -> AnnData:
    """Load peripheral blood cells with raw counts of all genes and of 14 surface proteins.

    200 cells x 16,727 genes of the dataset "10k PBMCs from a healthy donor, gene expression with a panel of TotalSeq-B
    antibodies" (10x Genomics, CC BY 4.0). The bundled reference was not made from these cells. Each published label is
    a gate of surface proteins, and so does not depend on RNA. Seven cells are in no gate.

    Returns
    -------
    AnnData
        ``X``: CSR float32 counts. ``obs["gate"]``: the gate, missing for a cell in none. ``obs["cell_type"]`` and
        ``obs["cell_type_ontology_term_id"]``: name and id of its Cell Ontology term. ``obsm["protein"]``: counts of the
        proteins, a DataFrame (200, 14).

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc10k_protein()
    >>> adata.shape
    (200, 16727)
    >>> scim.tl.annotate(adata)
    >>> adata.obs["scim_finest_label"][adata.obs["gate"] == "CD14+ monocyte"].mode()[0]
    'CD14-positive monocyte'
    """
    import anndata
    import numpy as np
    import pandas as pd
    import scipy.sparse as sp

    with np.load(_FILE, allow_pickle=False) as saved:
        arrays = dict(saved)
    indptr = arrays["indptr"]
    # Columns were saved as differences within each row.
    ends = np.cumsum(arrays["steps"], dtype=np.int64)
    before = np.concatenate([[0], ends])[indptr[:-1]]
    columns = (ends - np.repeat(before, np.diff(indptr))).astype(np.int32)
    genes = arrays["genes"].tobytes().decode().split("\n")
    counts = sp.csr_matrix((arrays["counts"].astype(np.float32), columns, indptr), shape=(len(indptr) - 1, len(genes)))
    cells = pd.Index(arrays["cells"].astype(str), name="cell")
    gates = pd.Series(arrays["gates"].astype(str), index=cells)
    obs = pd.DataFrame(index=cells)
    obs["gate"] = pd.Categorical(gates.where(gates.isin(list(PBMC10K_TERMS))))
    for name, place in (("cell_type", 1), ("cell_type_ontology_term_id", 0)):
        obs[name] = pd.Categorical([PBMC10K_TERMS[gate][place] if gate in PBMC10K_TERMS else None for gate in gates])
    protein = pd.DataFrame(arrays["proteins"], index=cells, columns=arrays["protein_names"].astype(str))
    var = pd.DataFrame(index=pd.Index(genes, name="gene"))
    return anndata.AnnData(X=counts, obs=obs, var=var, obsm={"protein": protein})
