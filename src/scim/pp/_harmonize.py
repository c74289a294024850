"""Propose Cell Ontology terms for the labels of authors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .. import _keys
from .._validate import NO_LABEL, check_key, get_adata
from .._warn import warn
from ..ontology import CellOntology

if TYPE_CHECKING:
    from anndata import AnnData

#: Abbreviations that authors use and the ontology lacks, if they have one meaning only.
ABBREVIATIONS = {
    "nk": "natural killer cell",
    "pdc": "plasmacytoid dendritic cell",
    "cdc": "conventional dendritic cell",
    "mdc": "myeloid dendritic cell",
    "dc": "dendritic cell",
    "mk": "megakaryocyte",
    "hsc": "hematopoietic stem cell",
    "opc": "oligodendrocyte precursor cell",
    "treg": "regulatory T cell",
    "t reg": "regulatory T cell",
    "mono": "monocyte",
    "cd14 mono": "CD14-positive monocyte",
    "cd14 monocyte": "CD14-positive monocyte",
    "cd16 mono": "CD14-low, CD16-positive monocyte",
    "cd16 monocyte": "CD14-low, CD16-positive monocyte",
    "fcgr3a mono": "CD14-low, CD16-positive monocyte",
    "fcgr3a monocyte": "CD14-low, CD16-positive monocyte",
    "cd4 t": "CD4-positive, alpha-beta T cell",
    "cd8 t": "CD8-positive, alpha-beta T cell",
    "naive cd4 t": "naive thymus-derived CD4-positive, alpha-beta T cell",
    "cd4 naive t": "naive thymus-derived CD4-positive, alpha-beta T cell",
    "naive cd8 t": "naive thymus-derived CD8-positive, alpha-beta T cell",
    "cd8 naive t": "naive thymus-derived CD8-positive, alpha-beta T cell",
    "memory cd4 t": "CD4-positive, alpha-beta memory T cell",
    "cd4 memory t": "CD4-positive, alpha-beta memory T cell",
    "memory cd8 t": "CD8-positive, alpha-beta memory T cell",
    "cd8 memory t": "CD8-positive, alpha-beta memory T cell",
    "platelets": "platelet",
    "microglia": "microglial cell",
    "epithelial": "epithelial cell",
    "endothelial": "endothelial cell",
    "fibroblast": "fibroblast",
    "plasma": "plasma cell",
    "mast": "mast cell",
    "b": "B cell",
    "t": "T cell",
    "naive b": "naive B cell",
    "memory b": "memory B cell",
}


def harmonize_labels(
    adata: AnnData,
    key: str,
    *,
    ontology: CellOntology | None = None,
    table: Mapping[str, str] | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Propose a Cell Ontology term for every label, and warn of labels without a term.

    A label is looked up in ``table``, then as id, name or exact synonym, then regardless of plural, punctuation and
    order of words, then in a short list of abbreviations ("NK", "CD14+ Mono"). A label that is not found stays without
    a term, and a warning names it. Terms that are already in the columns, such as those of CELLxGENE, are kept. Results
    of an earlier call are replaced.

    Parameters
    ----------
    adata
        Labelled cells.
    key
        Column of ``obs`` with the labels.
    ontology
        Ontology of the terms, by default the bundled Cell Ontology.
    table
        Your own labels -> terms (ids, names or synonyms), which have priority. An empty string leaves a label without
        a term.
    key_added
        Prefix of the names of the new columns, ``key`` by default.
    copy
        Return a copy instead of writing to ``adata``.

    Returns
    -------
    None, or the copy. Adds ``obs[f"{key_added}_ontology_term_id"]`` and ``obs[f"{key_added}_ontology_label"]``
    (categorical, missing for cells without a term), and ``uns["scim_pp"]["harmonize"]``: a table with label, number of
    cells, number of cells that kept the term that they had (``n_kept``), term id, term name and method (``table``,
    ``exact``, ``synonym``, ``normalized``, ``abbreviation``, ``missing``, ``unmapped``).

    Raises
    ------
    KeyError
        ``key`` is not in ``obs``.
    ValueError
        A term of ``table`` is not in the ontology.

    Examples
    --------
    >>> import anndata as ad, pandas as pd, scim
    >>> adata = ad.AnnData(
    ...     obs=pd.DataFrame({"cell_type": ["NK cells", "CD14+ Mono", "T lymphocyte"]}, index=list("abc"))
    ... )
    >>> scim.pp.harmonize_labels(adata, "cell_type")
    >>> adata.obs["cell_type_ontology_term_id"].tolist()
    ['CL:0000623', 'CL:0001054', 'CL:0000084']
    """
    adata = get_adata(adata, allow_empty=True)
    check_key(adata.obs, key, argument="key", where="adata.obs")
    chosen = CellOntology.bundled() if ontology is None else ontology
    own = _check_table(table or {}, chosen)
    labels = adata.obs[key].astype(object)
    labels = labels.where(labels.notna(), "").astype(str)
    matcher = _Matcher(chosen, own)
    added = key if key_added is None else key_added
    before = adata.uns.get(_keys.PREPROCESSING, {})
    there = _known_terms(adata, f"{added}_ontology_term_id", chosen, ours=before.get("harmonize_key") == added)
    counts, kept = labels.value_counts(), labels[there != ""].value_counts()
    report = pd.DataFrame(
        [(label, int(n), int(kept.get(label, 0)), *matcher.find(str(label))) for label, n in counts.items()],
        columns=["label", "n_cells", "n_kept", "term_id", "term_name", "method"],
    )
    if copy:
        adata = adata.copy()
    found = labels.map(dict(zip(report["label"], report["term_id"], strict=True)))
    ids = there.where(there != "", found)
    names = ids.map({term: chosen.name(term) if term in chosen else "" for term in ids.unique()})
    for values, name in ((ids, "ontology_term_id"), (names, "ontology_label")):
        adata.obs[f"{added}_{name}"] = pd.Categorical(values.where(values != "", np.nan))
    report.index = report.index.astype(str)
    adata.uns[_keys.PREPROCESSING] = {**before, "harmonize": report, "harmonize_key": added}
    unmapped = report.loc[(report["method"] == "unmapped") & (report["n_cells"] > report["n_kept"])]
    if len(unmapped):
        shown = ", ".join(
            f"{label!r} ({n} cells)"
            for label, n in zip(unmapped["label"], unmapped["n_cells"] - unmapped["n_kept"], strict=True)
        )
        warn(
            f"{len(unmapped)} of {len(report)} labels in obs[{key!r}] have no term: {shown}. Give them one with "
            "table=, or leave them."
        )
    return adata if copy else None


def _known_terms(adata: AnnData, column: str, ontology: CellOntology, *, ours: bool) -> pd.Series:
    """Terms of the cells in a column that scim did not write, "" for none."""
    if ours or column not in adata.obs:
        return pd.Series("", index=adata.obs_names, dtype=object)
    values = adata.obs[column].astype(object)
    values = values.where(values.notna(), "").astype(str)
    resolved = {value: ontology.resolve(value) or "" for value in values.unique()}
    return values.map(resolved).astype(object)


def _check_table(table: Mapping[str, str], ontology: CellOntology) -> dict[str, str]:
    own = {}
    for label, term in table.items():
        found = ontology.resolve(term) if term else ""
        if found is None:
            raise ValueError(
                f"table[{label!r}] is {term!r}, which is not a term of the ontology. Give an id or a name."
            )
        own[str(label)] = found
    return own


class _Matcher:
    """Looks labels up, in the safest way first."""

    def __init__(self, ontology: CellOntology, table: Mapping[str, str]) -> None:
        self.ontology = ontology
        self.table = table
        self._normal: dict[str, str] = {}
        shared: set[str] = set()
        for term in ontology.ids:
            for text in {normalize(str(ontology.name(term))), *map(normalize, ontology.synonyms(term))}:
                if self._normal.setdefault(text, term) != term:
                    shared.add(text)
        for text in shared:  # a name of two terms is ambiguous
            del self._normal[text]
        self._whole = {
            text: term
            for text, term in self._normal.items()
            if not any(
                _says_cell(name) and normalize(name) == text for name in (ontology.name(term), *ontology.synonyms(term))
            )
        }

    def find(self, label: str) -> tuple[str, str, str]:
        """Term id, term name and method; empty where there is no term."""
        if label in self.table:
            return self._known(self.table[label], "table")
        if label.strip().casefold() in NO_LABEL:
            return "", "", "missing"
        if (found := self.ontology.resolve(label)) is not None:
            same = label.strip().casefold() in (found.casefold(), self.ontology.name(found).casefold())
            return self._known(found, "exact" if same else "synonym")
        normal = normalize(label)
        # "alpha" is not "alpha cell": a single word must contain "cell" if the name of the term does.
        sure = " " in normal or _says_cell(label)
        if (found := (self._normal if sure else self._whole).get(normal)) is not None:
            return self._known(found, "normalized")
        short = _NORMAL_ABBREVIATIONS.get(normal)
        if short is not None and (found := self.ontology.resolve(short)) is not None:
            return self._known(found, "abbreviation")
        return "", "", "unmapped"

    def _known(self, term: str, method: str) -> tuple[str, str, str]:
        return term, self.ontology.name(term) if term else "", method


def normalize(label: str) -> str:
    """Return the words of a label in alphabetical order, without plural, "cell" and punctuation.

    Examples
    --------
    >>> normalize("Naive CD4+ T-cells") == normalize("CD4 naive T cell")
    True
    >>> normalize("CD4- T cell") == normalize("CD4+ T cell")
    False
    """
    text = label.casefold().replace("naïve", "naive").replace("α", "alpha").replace("β", "beta")
    # A minus after a marker means "without it"; any other dash joins words.
    text = re.sub(r"\b(cd\d+[a-z]?|[a-z]+\d+[a-z]?)-(?=\W|$)", r"\1 negative", text)
    text = re.sub(r"(?<=\w)\+|\bpositive\b|-positive\b", " ", text).replace("-negative", " negative")
    text = re.sub(r"[^\w]+|_", " ", text)
    words = [_singular(word) for word in text.split()]
    return " ".join(sorted(word for word in words if word != "cell")) or label.casefold()


def _says_cell(text: str) -> bool:
    return re.search(r"\bcells?\b", text.casefold().replace("_", " ")) is not None


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


_NORMAL_ABBREVIATIONS = {normalize(short): name for short, name in ABBREVIATIONS.items()}
