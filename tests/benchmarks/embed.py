"""Embed a file that does not fit into memory: how fast, and in how much memory?

Writes a backed .h5ad of ``--cells`` cells (a block of 10,000 made cells of 36,601 genes, over and over), and embeds it
with a model of 28,231 genes, 1024-1024-1024 -> 128, random weights, block by block into the vectors of all cells.
Prints one JSON line: cells per second, peak resident memory before and after, and the size of the file.

Run ``python tests/benchmarks/embed.py [--cells 1000000] [--genes-per-cell 600] [--scratch DIR]``; a million cells take
about 5 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
from _versus_inputs import HIDDEN, LATENT, N_GENES, clock, peak, random_weights, sparse_counts

import scim
from scim.genes import GeneSpace
from scim.genes._names import gene_table


def main() -> None:
    """Write the file, embed it, print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes-per-cell", type=int, default=600)
    parser.add_argument("--scratch", help="where the file goes")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    rng = np.random.default_rng(0)
    genes = list(gene_table().approved.values())[:N_GENES]
    encoder = scim.Encoder(GeneSpace(genes, aliases=False), random_weights(rng, [N_GENES, *HIDDEN, LATENT]))
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        path = Path(scratch) / "cells.h5ad"
        write(path, rng, genes, arguments.cells, arguments.genes_per_cell)
        cells = ad.read_h5ad(path, backed="r")
        encoder.embed(ad.AnnData(cells.X[:200], var=cells.var))  # compiles
        before = peak()
        vectors, seconds = clock(lambda: encoder.embed(cells))
        line = {
            "benchmark": "embed",
            "cells": len(vectors),
            "genes_per_cell": arguments.genes_per_cell,
            "cells_per_s": round(len(vectors) / seconds, 1),
            "peak_gib": round(peak(), 2),
            "peak_before_gib": round(before, 2),
            "file_gb": round(path.stat().st_size / 1e9, 2),
            "load": round(load, 1),
        }
    print(json.dumps(line))


def write(path: Path, rng: np.random.Generator, genes: list[str], n_cells: int, per_cell: int) -> None:
    """A CSR .h5ad file, its cells written block by block."""
    names = [*rng.choice(genes, 26_000, replace=False), *(f"OTHER{i}" for i in range(10_601))]
    block = sparse_counts(rng, min(10_000, n_cells), len(names), per_cell)
    ad.AnnData(block[:0], obs=pd.DataFrame(index=[]), var=pd.DataFrame(index=names)).write_h5ad(path)
    n_blocks = -(-n_cells // block.shape[0])
    with h5py.File(path, "r+") as file:
        X = file["X"]
        for name, part in (("data", block.data), ("indices", block.indices.astype(np.int32))):
            del X[name]
            X.create_dataset(name, shape=(n_blocks * len(part),), dtype=part.dtype, chunks=(len(part) // 20,))
            for i in range(n_blocks):
                X[name][i * len(part) : (i + 1) * len(part)] = part
        starts = [block.indptr[:-1].astype(np.int64) + i * block.nnz for i in range(n_blocks)]
        del X["indptr"]
        X["indptr"] = np.concatenate([*starts, [n_blocks * block.nnz]])
        X.attrs["shape"] = [n_blocks * block.shape[0], block.shape[1]]
        obs = file["obs"]
        del obs["_index"]
        obs["_index"] = np.array([f"c{i}" for i in range(n_blocks * block.shape[0])], dtype=h5py.string_dtype())
        obs["_index"].attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})


if __name__ == "__main__":
    main()
