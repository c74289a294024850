"""Make src/scim/_data/cell_ontology.json.gz, the bundled compact Cell Ontology.

Usage: python make_cell_ontology.py CL-ontology.json.zst VERSION OUT.json.gz

The input is the Cell Ontology file of the package cellxgene-ontology-guide. It maps ids to label, synonyms, ancestors
with their distance, and the replacement of an obsolete term. Needs zstandard.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import zstandard


def main(source: str, version: str, out: str) -> None:
    with open(source, "rb") as file:
        terms = json.loads(zstandard.ZstdDecompressor().stream_reader(file).read())
    alive = sorted(i for i, t in terms.items() if i.startswith("CL:") and not t["deprecated"])
    obsolete = {i: t for i, t in terms.items() if i.startswith("CL:") and t["deprecated"]}
    bundle = {
        "version": version,
        "ids": alive,
        "names": [terms[i]["label"] for i in alive],
        "parents": [
            sorted(a for a, d in terms[i]["ancestors"].items() if d == 1 and a.startswith("CL:")) for i in alive
        ],
        "synonyms": [sorted(set(terms[i].get("synonyms", []))) for i in alive],
        "replaced": {
            i: t["replaced_by"] for i, t in sorted(obsolete.items()) if str(t.get("replaced_by", "")).startswith("CL:")
        },
        "obsolete_names": {t["label"].removeprefix("obsolete "): i for i, t in sorted(obsolete.items())},
    }
    # No time stamp, so that the same input gives the same bytes.
    with gzip.GzipFile(out, "wb", mtime=0) as file:
        file.write(json.dumps(bundle, ensure_ascii=False, separators=(",", ":")).encode())
    print(f"{len(alive):,} terms, {len(bundle['replaced'])} replaced, {Path(out).stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
