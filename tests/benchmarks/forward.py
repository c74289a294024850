"""Where the time of an embedding goes, what its floor is, and what half precision costs.

Times the parts of the forward pass on 4,000 made cells of 36,601 genes (28,231 genes, 1024-1024-1024 -> 128), one
thread: aligning and normalising, the first layer on sparse rows, and the products of the other layers. Beside them
stands what this machine could do at best: the multiplications of each part at the rate of one large product by BLAS,
and the first layer as a dense product of all genes, as SCimilarity does it.

Then real cells are embedded with the bundled reference in fp32 and in bf16, and labelled: the cosine between the two
that all but a thousandth of the cells reach, and the share of labels that differ. The studies are read from
``SCIM_DATA`` or ``../shared/data``; without them this part is left out.

Run ``python tests/benchmarks/forward.py [--cells 4000]``; prints one JSON line. bf16 is slow where the CPU does not
multiply it itself: that part takes a minute or two.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from _versus_inputs import HIDDEN, LATENT, N_GENES, clock, random_weights, sparse_counts
from scipy import sparse

import scim
from scim._threads import one_thread_of_blas
from scim.counts._kinds import input_kind
from scim.encoder._normalized import to_blocked_lognormal
from scim.encoder._weights import matrices_of
from scim.genes import GeneSpace
from scim.genes._names import gene_table

#: Studies of the second part, and cells of each.
_STUDIES, _CELLS = ("pbmc3k_10x", "zheng2017_sorted_pbmc", "liao2020_covid_balf", "pbmc_3tech_symphony"), 2_000
_BLOCK, _TURNS = 1_000, 5


def main() -> None:
    """Time, compare, print the line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=4_000)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    line = {"benchmark": "forward", "cells": arguments.cells, **stages(arguments.cells), **precision()}
    print(json.dumps(line | {"load": round(load, 1)}))


def stages(n_cells: int) -> dict[str, Any]:
    """Microseconds a cell of each part, and of its floor, on one thread."""
    rng = np.random.default_rng(0)
    genes = list(gene_table().approved.values())[:N_GENES]
    sizes = [N_GENES, *HIDDEN, LATENT]
    encoder = scim.Encoder(GeneSpace(genes, aliases=False), random_weights(rng, sizes))
    others = [f"OTHER{i}" for i in range(36_601 - N_GENES)]
    cells = ad.AnnData(sparse_counts(rng, n_cells, 36_601), var=pd.DataFrame(index=[*genes, *others]))
    gene_map, kind = encoder.genes.match_adata(cells), input_kind(cells.X)
    blocks = [sparse.csr_matrix(cells.X[i : i + _BLOCK]) for i in range(0, n_cells, _BLOCK)]
    matrices = matrices_of(encoder.weights)
    rows = [to_blocked_lognormal(block, gene_map, kind) for block in blocks]
    first, hidden = matrices[0].T, np.zeros((_BLOCK, HIDDEN[0]), dtype=np.float32)
    work = {
        "align_and_normalise": lambda: [to_blocked_lognormal(block, gene_map, kind) for block in blocks],
        "first_layer": lambda: [part.add_product(first, hidden[: part.n_rows], 0, part.n_rows) for part in rows],
        "other_layers": lambda: [_products(hidden[: part.n_rows], matrices[1:]) for part in rows],
    }
    with one_thread_of_blas():
        took = {name: _best(do) / n_cells for name, do in work.items()}
        side = np.ones((2_048, 2_048), dtype=np.float32)
        per_second = 2 * 2_048**3 / _best(lambda: side @ side)
    n_entries = sum(int(part.lengths.sum()) for part in rows) / n_cells
    floor = {
        "first_layer": 2 * n_entries * HIDDEN[0] / per_second,
        "other_layers": sum(2 * a * b for a, b in zip(sizes[1:-1], sizes[2:], strict=True)) / per_second,
        "first_layer_dense": 2 * N_GENES * HIDDEN[0] / per_second,
    }
    return {
        "us_per_cell": {name: round(1e6 * seconds, 1) for name, seconds in took.items()},
        "floor_us_per_cell": {name: round(1e6 * seconds, 1) for name, seconds in floor.items()},
        "genes_per_cell": round(n_entries),
        "gflops_of_blas": round(per_second / 1e9, 1),
    }


def precision() -> dict[str, Any]:
    """What bf16 changes in real cells: the lowest cosine but for a thousandth of them, and the share of labels."""
    folder = Path(os.environ.get("SCIM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
    if not folder.is_dir():
        return {}
    reference = scim.Reference.open("blood")
    cosines, changed = [], []
    for name in _STUDIES:
        cells = ad.read_h5ad(folder / f"{name}.h5ad")
        cells = cells[:: max(1, cells.n_obs // _CELLS)].copy()
        vectors = {p: reference.encoder.embed(cells, precision=p) for p in ("fp32", "bf16")}
        cosines.append((vectors["fp32"] * vectors["bf16"]).sum(axis=1))
        labels = {}
        for what, vector in vectors.items():
            alone = ad.AnnData(np.zeros((cells.n_obs, 1), dtype="f4"), obsm={"X_scim": vector})
            alone.uns["scim"] = {"embed": {"encoder_id": reference.encoder_id}}
            scim.tl.annotate(alone, reference)
            labels[what] = alone.obs["scim_label"].astype(str).to_numpy()
        changed.append(labels["fp32"] != labels["bf16"])
    cosine = np.concatenate(cosines)
    return {
        "bf16_cells": len(cosine),
        "bf16_cosine_of_999_in_1000": round(float(np.quantile(cosine, 0.001)), 6),
        "bf16_labels_changed": round(float(np.concatenate(changed).mean()), 5),
    }


def _products(hidden: np.ndarray, matrices: list[np.ndarray]) -> np.ndarray:
    for matrix in matrices:
        hidden = hidden @ matrix.T
    return hidden


def _best(work: Callable[[], Any]) -> float:
    """Seconds of the quickest of five turns."""
    return min(clock(work)[1] for _ in range(_TURNS))


if __name__ == "__main__":
    main()
