"""Genes of mouse: recognise them, and find the human gene of each.

The table in ``_data/orthologs_mouse.tsv.gz`` comes from Ensembl Compara and HCOP; see ``_data/README.md``.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

from .._validate import check_option
from ._names import HUMAN_ENSEMBL, MOUSE_ENSEMBL, canonical, gene_table, strip_version

#: Organism of genes that scim understands.
Organism = Literal["human", "mouse"]
#: Values of ``organism=``: ``"auto"`` recognises the organism by the names of the genes.
OrganismChoice = Literal["auto", "human", "mouse"]

#: Genome in front of a gene, as in GRCh38_CD3E, mm10___Cd3e and MOUSE_Cd3e: data of several genomes have it.
_GENOME = re.compile(r"^(?:(GRCh3\d|hg\d\d|human)|(GRCm3\d|mm\d\d?|mouse))(?:-\d{4}-[A-Z])?_+(?=.)", re.IGNORECASE)
#: Data are of two organisms if each has more than this share of the recognised genes, ...
_MIXED_SHARE = 0.1
#: ... and at least this many of them.
_MIXED_GENES = 10


@dataclass(frozen=True)
class OrthologTable:
    """Human genes of mouse genes.

    Attributes
    ----------
    by_symbol
        Symbol of a mouse gene -> approved symbol of its human gene.
    by_ensembl
        Ensembl id of a mouse gene, without version -> approved symbol of its human gene.
    """

    by_symbol: dict[str, str]
    by_ensembl: dict[str, str]


@dataclass(frozen=True)
class OrganismCounts:
    """Number of names that are genes of human, and genes of mouse. Names of both, or of neither, do not count."""

    human: int
    mouse: int

    @property
    def is_mixed(self) -> bool:
        """Whether both organisms have a considerable number of genes."""
        fewer = min(self.human, self.mouse)
        return fewer >= _MIXED_GENES and fewer > _MIXED_SHARE * (self.human + self.mouse)


@cache
def ortholog_table() -> OrthologTable:
    """Load the bundled table, once."""
    table = OrthologTable({}, {})
    packed = (files("scim") / "_data" / "orthologs_mouse.tsv.gz").read_bytes()
    for line in gzip.decompress(packed).decode().splitlines():
        symbol, ids, human = line.split("\t")
        table.by_symbol[symbol] = human or symbol.upper()
        table.by_ensembl.update((f"ENSMUSG{i:0>11}", table.by_symbol[symbol]) for i in ids.split(";"))
    return table


def strip_genome(name: str) -> str:
    """Remove the genome in front of a gene; return other names unchanged.

    Examples
    --------
    >>> strip_genome("GRCh38_CD3E"), strip_genome("mm10___Cd3e"), strip_genome("CD3E")
    ('CD3E', 'Cd3e', 'CD3E')
    """
    return name[found.end() :] if (found := _GENOME.match(name)) else name


def count_organisms(names: Sequence[str]) -> OrganismCounts:
    """Count the names that are genes of human, and those that are genes of mouse.

    Letter case alone does not count: a gene of mouse has the exact symbol or Ensembl id of one, or a genome of mouse in
    front of it.

    Examples
    --------
    >>> count_organisms(["Cd3e", "ENSMUSG00000024673.9", "NKG7", "F2", "unheard-of"])
    OrganismCounts(human=1, mouse=2)
    """
    human = mouse = 0
    for name in names:
        if genome := _GENOME.match(name):
            is_human, is_mouse = genome[1] is not None, genome[2] is not None
        else:
            bare = strip_version(name)
            how = canonical(bare)[1]
            # Aliases are found in any letter case: one that is not in capitals may be a gene of mouse.
            is_human = how == "exact" or (how == "alias" and bare == bare.upper()) or bool(HUMAN_ENSEMBL.match(bare))
            is_mouse = bare in ortholog_table().by_symbol or bool(MOUSE_ENSEMBL.match(bare))
        human += is_human and not is_mouse
        mouse += is_mouse and not is_human
    return OrganismCounts(human, mouse)


def organism_of(names: Sequence[str], choice: str = "auto", *, source: str = "var_names") -> Organism:
    """Return the organism of genes: ``choice``, or recognised by the names. Unknown genes pass as human.

    Parameters
    ----------
    names
        Symbols or Ensembl ids.
    choice
        ``"auto"``, ``"human"`` or ``"mouse"``.
    source
        Where the names come from, for messages.

    Raises
    ------
    ValueError
        ``choice`` is not known, or is ``"auto"`` and the genes are of human and of mouse.

    Examples
    --------
    >>> organism_of(["Cd3e", "Ms4a1"]), organism_of(["CD3E", "MS4A1"])
    ('mouse', 'human')
    """
    check_option(choice, get_args(OrganismChoice), argument="organism")
    if choice != "auto":
        return "mouse" if choice == "mouse" else "human"
    counts = count_organisms(names)
    if counts.is_mixed:
        raise ValueError(
            f"The genes in {source} are of two organisms: {counts.human:,} of human, {counts.mouse:,} of mouse. Keep "
            "the cells and the genes of one organism, and call again. If all cells are of one organism, name it with "
            "organism=: genes of the other one are then left out."
        )
    return "mouse" if counts.mouse > counts.human else "human"


def to_human(names: Sequence[str]) -> list[str]:
    """Return the approved symbol of the human gene of each mouse gene; an empty text if there is none.

    An older symbol of mouse is found if the human gene had the same symbol before, and if no other name has this gene.

    Examples
    --------
    >>> to_human(["Cd8b1", "ENSMUSG00000032093", "Ins1", "Ins2", "Gnb2l1", "Gm42418"])
    ['CD8B', 'CD3E', 'INS', 'INS', 'RACK1', '']
    """
    table, previous = ortholog_table(), gene_table().previous
    bare = [strip_version(strip_genome(name)) for name in names]
    found = [
        # Seurat and R replace dashes by dots.
        table.by_symbol.get(name) or table.by_ensembl.get(name) or table.by_symbol.get(name.replace(".", "-"), "")
        for name in bare
    ]
    current = set(found)
    for i, name in enumerate(bare):
        older = previous.get(name.upper(), "")
        if not found[i] and name != name.upper() and older not in current:
            found[i] = older
    return found
