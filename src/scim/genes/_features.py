"""Which rows of ``var`` are genes, and what stands around their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ._names import canonical, strip_version
from ._organism import ortholog_table, strip_genome

if TYPE_CHECKING:
    import pandas as pd

#: Columns of ``var`` that say what kind of feature a row is, in lower case without signs.
_KIND_COLUMNS = frozenset(
    {"featuretypes", "featuretype", "featurebiotype", "featureclass", "featurekind", "modality", "modalities", "assay"}
)
#: Kinds of features that are genes, in lower case without signs. If a column has one, only these rows are genes.
_GENE_KINDS = frozenset(
    {
        "geneexpression",
        "gex",
        "rna",
        "mrna",
        "scrna",
        "scrnaseq",
        "rnaseq",
        "gene",
        "genes",
        "transcript",
        "transcripts",
    }
)
#: Kinds of features that are no genes, in lower case without signs.
_OTHER_KINDS = re.compile(
    r"antibod|^adt|^protein(capture|expression|s)?$|surfaceprotein|^prot$|hashtag|^hto|multiplex|^cmo|crispr|guide"
    r"|sgrna|^grna|peak|atac|chromatin|spikein|^ercc|^custom|^cite|abseq|barcode|^feature(barcod|capture)|^tcr|^bcr|^vdj"
)
#: A column of kinds has at most this many.
_MOST_KINDS = 30
#: Names that are looked at to see whether they are names of genes as they are.
_SAMPLE = 300
#: If this share of the names is known, they are left as they are.
_KNOWN_ENOUGH = 0.3
#: Names of genes without what surrounds them must be known this much more often.
_WORTH = 0.2
#: A text in front of the names is cut off if this share of the names begin with it.
_COMMON = 0.1
_ENSEMBL_WITHIN = re.compile(r"ENS(?:MUS)?G\d{11}")
_PREFIX = re.compile(r"^([A-Za-z][\w.\-]*?(?:_+|:+|\|))(?=.)")
_SIGNS = re.compile(r"[_|:;,/\s()\[\]]+")
_QUOTES = " \t\r\n'\"`\u00a0\ufeff"


def gene_rows(var: pd.DataFrame) -> tuple[np.ndarray | None, str]:
    """Find the rows of ``var`` that are genes.

    Antibodies, guides, peaks, hashtags and spike-ins may have the name of a gene. A column such as ``feature_types``
    tells them apart. Rows without a value there are taken as genes.

    Parameters
    ----------
    var
        A row per feature.

    Returns
    -------
    True for a gene, (n,), and the column with the kinds of the others, in words. None and "" if all rows are genes.

    Examples
    --------
    >>> import pandas as pd
    >>> gene_rows(pd.DataFrame({"feature_types": ["Gene Expression", "Antibody Capture"]}, index=["CD4", "CD4-1"]))
    (array([ True, False]), "var['feature_types']: 1 Antibody Capture")
    """
    for name in var.columns:
        values = var[name]
        # Most columns of text are names: the first rows tell.
        if values.dtype.kind in "biufcmM" or values.iloc[:1_000].nunique() > _MOST_KINDS:
            continue
        kinds = values.value_counts()
        kinds = kinds[kinds > 0]
        if len(kinds) > _MOST_KINDS:
            continue
        plain = {kind: re.sub(r"[^a-z]", "", str(kind).casefold()) for kind in kinds.index}
        genes = {kind for kind, text in plain.items() if text in _GENE_KINDS}
        others = {kind for kind, text in plain.items() if _OTHER_KINDS.search(text)}
        is_named = re.sub(r"[^a-z]", "", str(name).casefold()) in _KIND_COLUMNS
        if not others or not (genes or is_named):
            continue
        if genes:
            others = {kind for kind in plain if kind not in genes and plain[kind] not in ("", "nan", "none", "na")}
        keep = ~values.isin(list(others)).to_numpy()
        shown = ", ".join(f"{n:,} {kind}" for kind, n in kinds.items() if kind in others)
        return keep, f"var[{str(name)!r}]: {shown}"
    return None, ""


def plain_names(names: Sequence[str]) -> tuple[list[str], tuple[str, str] | None]:
    """Remove what surrounds the names of genes: quotes, blanks, a modality, a second name of the gene.

    The genome in front of a name is left to :func:`~scim.genes._organism.strip_genome`: it tells the organism.

    Names are changed only if few of them are known as they are, and more of them are known without what surrounds them.

    Parameters
    ----------
    names
        Names of genes; "" for a feature that is no gene.

    Returns
    -------
    The names, and one of them before and after. None if nothing was changed but quotes and blanks around names.

    Examples
    --------
    >>> plain_names(["rna:CD3D", "rna:MS4A1"])
    (['CD3D', 'MS4A1'], ('rna:CD3D', 'CD3D'))
    >>> plain_names(["CD3D", "HLA-A"])
    (['CD3D', 'HLA-A'], None)
    """
    bare = [name.strip(_QUOTES) for name in names]
    given = [name for name in bare if name]
    if not given:
        return bare, None
    sample = [given[i] for i in np.unique(np.linspace(0, len(given) - 1, _SAMPLE).astype(int))]
    known = _share_known(sample)
    if known >= _KNOWN_ENOUGH:
        return bare, None
    best, least = None, known + _WORTH
    # A common text in front goes first: "prot:CD4" beside "rna:CD4" is an antibody, not the gene.
    for ways in (_prefixes(given), (_ensembl_within, _first, _last)):
        for way in ways:
            share = _share_known([way(name) for name in sample])
            if share > least:
                best, least = way, share
        if best is not None:
            break
    if best is None:
        return bare, None
    changed = [best(name) if name else "" for name in bare]
    pairs = zip(bare, changed, strict=True)
    example = next((old, new) for old, new in pairs if new != old and _is_known(new))
    return changed, example


def _share_known(names: Sequence[str]) -> float:
    return float(np.mean([_is_known(strip_genome(name)) for name in names]))


def _is_known(name: str) -> bool:
    mouse = ortholog_table()
    return canonical(name)[1] != "unknown" or name in mouse.by_symbol or strip_version(name) in mouse.by_ensembl


def _prefixes(names: Sequence[str]) -> list[Callable[[str], str]]:
    """List ways to cut a text that many names begin with."""
    found = Counter(match[1] for name in names if (match := _PREFIX.match(name)))
    common = [prefix for prefix, n in found.most_common(3) if n > max(1, _COMMON * len(names))]
    return [lambda name, prefix=prefix: name.removeprefix(prefix) for prefix in common]  # type: ignore[misc]


def _ensembl_within(name: str) -> str:
    """Return the Ensembl id in a name, or else its last part."""
    found = _ENSEMBL_WITHIN.search(name)
    if found is not None:
        return found[0]
    parts = _parts(name)
    return next((part for part in reversed(parts) if _is_known(part)), parts[-1])


def _parts(name: str) -> list[str]:
    return [part.strip(_QUOTES) for part in _SIGNS.split(name) if part.strip(_QUOTES)] or [name]


def _first(name: str) -> str:
    return _parts(name)[0]


def _last(name: str) -> str:
    return _parts(name)[-1]
