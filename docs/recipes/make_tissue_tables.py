"""Make src/scim/_data/anatomy.json.xz and diseases.json.xz, the bundled compact UBERON and MONDO.

Usage: python make_tissue_tables.py FOLDER OUT

FOLDER is the folder `data` of the package cellxgene-ontology-guide, and OUT is src/scim/_data. A file of the guide maps
ids to label, exact synonyms, ancestors with their distance (by is_a and part_of), and the replacement of an obsolete
term. The tables have the form of cell_ontology.json.gz. Needs zstandard.

- Anatomy: all terms of UBERON. Its size does not ask for less.
- Diseases: MONDO without diseases of other animals and without inherited susceptibilities, and "normal" of PATO, which
  CELLxGENE gives to healthy cells. No other disease is dropped.
- Dropped from both: definitions, comments and terms of other ontologies.
- Added to both: names of everyday use, below, and to MONDO that melanoma, leukemia and lymphoma are cancer. MONDO says
  so in its definition of cancer, but not in its tree.
"""

from __future__ import annotations

import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

UBERON, MONDO, PATO = "UBERON-ontology-v2026-04-01", "MONDO-ontology-v2026-05-05", "PATO-ontology-v2025-05-14"
NORMAL = "PATO:0000461"
#: Non-human animal disease, and disease susceptibility.
DROPPED = {"MONDO:0005583", "MONDO:0042489"}
#: Melanoma, leukemia and lymphoma are cancer.
ADDED_PARENTS = {f"MONDO:000{n}": "MONDO:0004992" for n in (5105, 5059, 5062)}
#: Names that data use and the ontologies lack, or give to a smaller part, as "skin" to a zone of the skin.
EVERYDAY = {
    "UBERON:0000178": ["peripheral blood", "whole blood", "PBMC", "PBMCs", "peripheral blood mononuclear cells"],
    "UBERON:0012168": ["cord blood"],
    "UBERON:0002371": ["marrow"],
    "UBERON:0002097": ["skin"],
    "UBERON:0002421": ["hippocampus"],
    "UBERON:0000160": ["gut"],
    "UBERON:0001013": ["adipose"],
    "UBERON:0001015": ["muscle"],
    "UBERON:0014892": ["skeletal muscle"],
    "UBERON:0000006": ["islet", "islets"],
    "UBERON:0001255": ["bladder"],
    "UBERON:0001005": ["airway", "airways"],
    "UBERON:0000002": ["cervix"],
    "UBERON:0001474": ["bone"],
    "UBERON:0002418": ["cartilage"],
    "UBERON:0007795": ["ascites"],
    # Sampled with its cells, by lavage.
    "UBERON:0035963": ["BAL", "BALF", "bronchoalveolar lavage", "bronchoalveolar lavage fluid"],
    "MONDO:0100096": ["covid", "covid19", "covid 19"],
    "MONDO:0005109": ["HIV"],
    NORMAL: ["healthy", "healthy control", "healthy donor"],
}


def read(folder: Path, name: str) -> dict[str, Any]:
    with open(folder / f"{name}.json.zst", "rb") as file:
        terms: dict[str, Any] = json.loads(zstandard.ZstdDecompressor().stream_reader(file).read())
        return terms


def compact(terms: dict[str, Any], version: str, keep: Callable[[str], bool]) -> dict[str, Any]:
    """Keep ids, names, parents, synonyms and replacements of the terms to keep."""
    alive = sorted(i for i, term in terms.items() if keep(i) and not term["deprecated"])
    known = set(alive)
    everyday = {word.casefold() for words in EVERYDAY.values() for word in words}
    bundle: dict[str, Any] = {"version": version, "ids": alive, "names": [terms[i]["label"] for i in alive]}
    bundle["parents"], bundle["synonyms"] = [], []
    for i in alive:
        parents = {a for a, distance in terms[i]["ancestors"].items() if distance == 1 and a in known}
        bundle["parents"].append(sorted(parents | ({ADDED_PARENTS[i]} if i in ADDED_PARENTS else set())))
        taken = everyday | {terms[i]["label"].casefold()}
        synonyms = {s for s in terms[i].get("synonyms", []) if s.casefold() not in taken}
        bundle["synonyms"].append(sorted(synonyms | set(EVERYDAY.get(i, []))))
    old = {i: t for i, t in sorted(terms.items()) if t["deprecated"] and t.get("replaced_by") in known}
    bundle["replaced"] = {i: term["replaced_by"] for i, term in old.items()}
    bundle["obsolete_names"] = {term["label"].removeprefix("obsolete "): i for i, term in old.items()}
    return bundle


def write(bundle: dict[str, Any], out: Path) -> None:
    text = json.dumps(bundle, ensure_ascii=False, separators=(",", ":"))
    out.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    print(f"{out.name}: {len(bundle['ids']):,} terms, {len(bundle['replaced'])} replaced, {out.stat().st_size:,} bytes")


def main(folder: str, out: str) -> None:
    anatomy, diseases = read(Path(folder), UBERON), read(Path(folder), MONDO)
    write(compact(anatomy, UBERON[-10:], lambda i: i.startswith("UBERON:")), Path(out) / "anatomy.json.xz")
    diseases[NORMAL] = read(Path(folder), PATO)[NORMAL]

    def human(i: str) -> bool:
        return i == NORMAL or (i.startswith("MONDO:") and not DROPPED & {i, *diseases[i]["ancestors"]})

    write(compact(diseases, MONDO[-10:], human), Path(out) / "diseases.json.xz")


if __name__ == "__main__":
    main(*sys.argv[1:])
