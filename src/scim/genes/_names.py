"""Names of human genes: approved symbols, previous symbols, aliases and Ensembl ids.

The table in ``_data/genes.tsv.gz`` comes from HGNC (CC0) and GENCODE; see ``_data/README.md``.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

IdKind = Literal["symbol", "ensembl"]

_ENSEMBL = re.compile(r"^ENS[A-Z]*G\d{11}(\.\d+)?(_PAR_Y)?$")
HUMAN_ENSEMBL = re.compile(r"^ENSG\d{11}")
MOUSE_ENSEMBL = re.compile(r"^ENSMUSG\d{11}")
#: Symbols of mouse and rat, such as Cd3e, Ms4a1 and Gm10076, but not human symbols with lower case, such as C1orf112.
_MOUSE_SYMBOL = re.compile(r"^[A-Z][a-z][a-z0-9]+$")
#: Symbols of rat that mouse does not have. Most others are those of mouse.
_RAT_SYMBOL = re.compile(r"^(RT1-|RGD\d{5}|AABR\d{6})")
#: Symbols of rat from which on the genes are those of rat.
_RAT_GENES = 3


@dataclass(frozen=True)
class GeneTable:
    """Names of human genes.

    Attributes
    ----------
    approved
        Approved symbols in upper case -> approved symbols.
    previous, alias
        Previous symbols and aliases in upper case -> approved symbol, without ambiguous ones.
    by_ensembl
        Ensembl gene id without version -> approved symbol.
    """

    approved: dict[str, str]
    previous: dict[str, str]
    alias: dict[str, str]
    by_ensembl: dict[str, str]


@cache
def gene_table() -> GeneTable:
    """Load the bundled table, once."""
    table = GeneTable({}, {}, {}, {})
    packed = (files("scim") / "_data" / "genes.tsv.gz").read_bytes()
    for line in gzip.decompress(packed).decode().splitlines():
        symbol, ids, previous, alias = line.split("\t")
        table.approved[symbol.upper()] = symbol
        for names, where in ((ids, table.by_ensembl), (previous, table.previous), (alias, table.alias)):
            where.update((name.upper(), symbol) for name in names.split(";") if name)
    return table


def strip_version(name: str) -> str:
    """Remove the version of an Ensembl id; return other names unchanged.

    Examples
    --------
    >>> strip_version("ENSG00000198851.10"), strip_version("RP11-34P13.7")
    ('ENSG00000198851', 'RP11-34P13.7')
    """
    return name.split(".", 1)[0] if _ENSEMBL.match(name) else name


def id_kind_of(names: Sequence[str]) -> IdKind:
    """Return ``"ensembl"`` if most of ``names`` are Ensembl gene ids, and ``"symbol"`` otherwise."""
    n_ensembl = sum(bool(_ENSEMBL.match(name)) for name in names)
    return "ensembl" if 2 * n_ensembl > len(names) else "symbol"


def canonical(name: str) -> tuple[str, str]:
    """Find the approved symbol of a gene, and how.

    The ways are ``exact``, ``case``, ``ensembl``, ``previous``, ``alias`` and ``unknown``. A previous symbol was the
    approved one, so that it is the same gene. An alias may be in use for another gene, too.

    Other letter case is accepted only if a name is all upper or all lower case: Cd3e is a gene of mouse.

    Examples
    --------
    >>> canonical("MARCH1"), canonical("ENSG00000198851.10")
    (('MARCHF1', 'previous'), ('CD3E', 'ensembl'))
    """
    table = gene_table()
    upper = strip_version(name).upper()
    if upper in table.approved:
        approved = table.approved[upper]
        if approved == name:
            return approved, "exact"
        return (name, "unknown") if _MOUSE_SYMBOL.match(name) else (approved, "case")
    if name.isdecimal() or _MOUSE_SYMBOL.match(name):
        return name, "unknown"
    if upper in table.by_ensembl:
        return table.by_ensembl[upper], "ensembl"
    # Seurat and R replace dashes by dots.
    dashed = upper.replace(".", "-")
    for key in (upper, dashed):
        if key in table.previous:
            return table.previous[key], "previous"
        if key in table.alias:
            return table.alias[key], "alias"
    if dashed in table.approved:
        return table.approved[dashed], "alias"
    return strip_version(name), "unknown"


def foreign_species(names: Sequence[str], *, mouse: bool = False) -> str | None:
    """Describe why ``names`` are not genes of human, or with ``mouse`` of human or mouse; None if they may be.

    Examples
    --------
    >>> foreign_species(["Cd3e", "Ms4a1", "Nkg7"])
    "symbols are written as in mouse, such as 'Cd3e'"
    >>> foreign_species(["Cd3e", "Ms4a1", "Nkg7"], mouse=True)
    """
    names = [name for name in names if name]
    ensembl = [name for name in names if _ENSEMBL.match(name) and not HUMAN_ENSEMBL.match(name)]
    other = [name for name in ensembl if not (mouse and MOUSE_ENSEMBL.match(name))]
    if other and 2 * len(other) > len(names):
        return f"Ensembl ids are of another species, such as {other[0]!r}"
    rat = [name for name in names if _RAT_SYMBOL.match(name)]
    if len(rat) >= _RAT_GENES:
        return f"symbols are of rat, such as {rat[0]!r}"
    written = [name for name in names if _MOUSE_SYMBOL.match(name)]
    if not mouse and written and 2 * len(written) > len(names):
        return f"symbols are written as in mouse, such as {written[0]!r}"
    return None
