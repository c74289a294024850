"""How long it takes to open a reference of many cells, and to find cells with their metadata, in how much memory.

Run ``python tests/benchmarks/open.py --cells 10000000``: one JSON line. The segment's files are written directly, of
random vectors and metadata as an atlas has them; opening and searching happen in a process of their own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

N_LATENT, BLOCK = 128, 200_000
VALUES = {"donor": 2_000, "sample": 5_000, "assay": 8, "tissue": 60, "disease": 40}

MEASURE = """
import json, resource, sys, time
import numpy as np
import scim.reference  # of which most is imported lazily
import pandas, pyarrow.dataset, faiss, pyarrow.compute
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 2**20
before = rss()
start = time.perf_counter()
reference = scim.Reference.open(sys.argv[1], verify=sys.argv[2])
opened, rss_open = time.perf_counter() - start, rss()
rows = np.random.default_rng(0).integers(0, len(reference), 10_000)
times = []
for n in (50, 50, 10_000):
    start = time.perf_counter()
    table = reference.metadata(rows[:n])
    times.append(time.perf_counter() - start)
rss_hits = rss()
start = time.perf_counter()
codes = reference.label_codes
labels = time.perf_counter() - start
start = time.perf_counter()
n = int(reference.allowed(where={"tissue": "tissue 3"}).sum())
filtered = time.perf_counter() - start
start = time.perf_counter()
try:
    groups = len(reference.sql("select label, count(*) as n from cells group by 1"))
except ImportError:
    groups = None
sql = time.perf_counter() - start
print(json.dumps({
    "open_s": round(opened, 3), "rss_before_mb": round(before), "rss_open_mb": round(rss_open),
    "first_hits_metadata_ms": round(times[0] * 1e3, 2), "hits_metadata_ms": round(times[1] * 1e3, 2),
    "metadata_of_10000_hits_ms": round(times[2] * 1e3, 1), "rss_after_hits_mb": round(rss_hits),
    "label_codes_s": round(labels, 3), "filter_s": round(filtered, 3), "cells_that_pass": n,
    "sql_group_by_s": round(sql, 3) if groups else None, "rss_end_mb": round(rss()),
    "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
}))
"""


def blocks(n_cells: int) -> Iterator[tuple]:
    """Metadata and vectors of the cells, block by block."""
    import pyarrow as pa

    rng = np.random.default_rng(0)
    labels = ["T cell", "B cell", "monocyte", "neuron", "fibroblast", "hepatocyte", "epithelial cell", "macrophage"]
    ids = ["CL:0000084", "CL:0000236", "CL:0000576", "CL:0000540", "CL:0000057", "CL:0000182", "CL:0000066"]
    ids.append("CL:0000235")
    vectors = rng.normal(size=(BLOCK, N_LATENT)).astype(np.float32)  # of every block: opening does not look at them
    for start in range(0, n_cells, BLOCK):
        n = min(BLOCK, n_cells - start)
        label = pa.array(rng.integers(0, len(labels), n, dtype=np.int32))
        study = pa.array(np.sort(rng.integers(0, 20, n, dtype=np.int32)))
        columns = {
            "cell_id": pa.array([f"s{start // BLOCK}_AAACCTGAGCATCATC-{i}" for i in range(n)]),
            "label": pa.DictionaryArray.from_arrays(label, labels),
            "term_id": pa.DictionaryArray.from_arrays(label, ids),
            "study": pa.DictionaryArray.from_arrays(study, [f"study {i}" for i in range(20)]),
        }
        for name, n_values in VALUES.items():
            codes = pa.array(rng.integers(0, n_values, n, dtype=np.int32))
            columns[name] = pa.DictionaryArray.from_arrays(codes, [f"{name} {i}" for i in range(n_values)])
        yield pa.table(columns), vectors[:n]


def write(folder: Path, n_cells: int) -> None:
    """Write a reference."""
    from scim import CellOntology, Encoder
    from scim.genes import GeneSpace
    from scim.labels import _calibration
    from scim.reference.store import _manifest
    from scim.reference.store._segments import SegmentWriter
    from scim.reference.versions import _commit

    genes = GeneSpace([f"ENSG{i:011d}" for i in range(1, 201)])
    matrix = np.random.default_rng(0).normal(size=(N_LATENT, len(genes)))
    encoder = Encoder(genes, {"output.weight": matrix, "output.bias": np.zeros(N_LATENT)})
    encoder.save(folder / _manifest.ENCODER)
    writer = SegmentWriter(folder / _manifest.SEGMENTS / "0001")
    label_ids: set[str] = set()
    for table, vectors in blocks(n_cells):
        writer.describe(table)
        writer.append(vectors)
        label_ids |= set(table["term_id"].chunk(0).dictionary.to_pylist())
    writer.close()
    writer.discard_stages()
    ontology = CellOntology.bundled()
    facts = {
        "ontology_version": ontology.version,
        "ontology_source": ontology.source,
        "terms": ontology.term_space(sorted(label_ids)).to_dict(),
        "studies": [f"study {i}" for i in range(20)],
        "created": "2026-01-01T00:00:00+00:00",
        "backend": "exact",
        "recall": 0.98,
        "seed": 0,
        "source": {"labels_key": "label", "study_key": "study", "obs_columns": list(VALUES)},
        "n_latent": N_LATENT,
        "n_genes": len(genes),
        "encoder_id": encoder.id,
    }
    # How cells are judged is not what is measured here: a few are enough.
    _calibration.N_CELLS = 50
    _commit.commit(folder, _commit.Version([{"name": "0001", "n_cells": n_cells}], facts))


def main() -> None:
    """Write, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--verify", default="sizes", choices=["sizes", "sample", "full"])
    parser.add_argument("--folder", type=Path, help="where the reference is kept; a temporary folder by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given.folder or Path(temporary)) / f"open-{given.cells}.scim"
        start = time.perf_counter()
        if not (folder / "manifest.json").is_file():
            folder.mkdir(parents=True)
            write(folder, given.cells)
        written = time.perf_counter() - start
        command = [sys.executable, "-c", MEASURE, str(folder), given.verify]
        measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    about = {"cells": given.cells, "verify": given.verify, "write_s": round(written, 1), "bytes": size}
    print(json.dumps(about | measured))


if __name__ == "__main__":
    main()
