"""Make src/scim/_data/pbmc10k_protein.npz: 200 blood cells with their counts of all genes and of 14 proteins.

    python docs/recipes/make_demo_cells.py STUDIES/10x_pbmc10k_protein_200.h5ad src/scim/_data/pbmc10k_protein.npz

The cells are a sample of the 10x Genomics dataset "10k PBMCs from a healthy donor, gene expression with a panel of
TotalSeq-B antibodies" (CC BY 4.0). Labels are gates of surface proteins.
"""

from __future__ import annotations

import sys

import anndata as ad
import numpy as np
from scipy import sparse


def main(source: str, out: str) -> None:
    adata = ad.read_h5ad(source)
    counts = sparse.csr_matrix(adata.X)
    counts.sort_indices()
    proteins = adata.obsm["ADT"]
    gates = adata.obs["cell_type"].astype(str).str.removeprefix("ADT ")
    # Differences of sorted columns are small numbers, which compress well.
    steps = np.diff(counts.indices, prepend=0)
    steps[counts.indptr[:-1]] = counts.indices[counts.indptr[:-1]]
    np.savez_compressed(
        out,
        indptr=counts.indptr.astype(np.int32),
        steps=steps.astype(np.uint16),
        counts=counts.data.astype(np.uint16),
        genes=np.frombuffer("\n".join(map(str, adata.var_names)).encode(), dtype=np.uint8),
        cells=np.array(adata.obs_names, dtype=str),
        gates=np.array(gates, dtype=str),
        proteins=np.asarray(proteins).astype(np.uint16),
        protein_names=np.array([str(name) for name in getattr(proteins, "columns", range(proteins.shape[1]))]),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
