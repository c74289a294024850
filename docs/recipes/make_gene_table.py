"""Make src/scim/_data/genes.tsv.gz: approved symbol, Ensembl ids, previous symbols and aliases of human genes.

Usage: python make_gene_table.py HGNC.tsv GENCODE.csv[.gz] OUT.tsv.gz

``HGNC.tsv`` is the complete set of HGNC (CC0) with the columns "Approved symbol", "Status", "Alias symbols", "Previous
symbols" and "Ensembl gene ID". Get it from the custom download of genenames.org, or from a package that contains it.
``GENCODE.csv`` has Ensembl id and symbol in its first two columns, without a header. It adds genes that HGNC lacks.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections import Counter
from pathlib import Path


def split(text: str) -> list[str]:
    return [part.strip() for part in text.replace("|", ",").split(",") if part.strip()]


def main(hgnc: str, gencode: str, out: str) -> None:
    csv.field_size_limit(10**8)
    with open(hgnc, encoding="utf-8", newline="") as file:
        rows = [r for r in csv.DictReader(file, delimiter="\t") if r["Status"] == "Approved"]
    genes = {
        r["Approved symbol"]: (r["Ensembl gene ID"].strip(), split(r["Previous symbols"]), split(r["Alias symbols"]))
        for r in rows
    }
    # Drop previous symbols and aliases that belong to two genes, or that are now the symbol of another gene.
    previous = Counter(p.upper() for _, ps, _ in genes.values() for p in set(ps))
    alias = Counter(a.upper() for _, _, al in genes.values() for a in set(al))
    ensembl: dict[str, list[str]] = {symbol: [e] if e else [] for symbol, (e, _, _) in genes.items()}
    opener = gzip.open if gencode.endswith(".gz") else open
    with opener(gencode, "rt", encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            gene_id, symbol = row[0], row[1]
            if (
                gene_id.startswith("ENSG")
                and symbol
                and symbol != gene_id
                and gene_id not in ensembl.setdefault(symbol, [])
            ):
                ensembl[symbol].append(gene_id)
    taken = {symbol.upper() for symbol in ensembl}
    seen: set[str] = set()
    lines = []
    for symbol in sorted(ensembl):
        ids = [i for i in ensembl[symbol] if i not in seen]
        seen.update(ids)
        _, ps, al = genes.get(symbol, ("", [], []))
        ps = sorted({p for p in ps if previous[p.upper()] == 1 and p.upper() not in taken})
        al = sorted({a for a in al if alias[a.upper()] == 1 and a.upper() not in taken and a.upper() not in previous})
        if symbol in genes or ids:
            lines.append("\t".join([symbol, ";".join(ids), ";".join(ps), ";".join(al)]))
    # No time stamp and no file name, so that the same input gives the same bytes.
    with open(out, "wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as file:
        file.write(("\n".join(lines) + "\n").encode())
    print(f"{len(lines):,} genes, {Path(out).stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
