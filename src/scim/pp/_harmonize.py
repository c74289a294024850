"""Propose Cell Ontology terms for the labels of authors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .. import _keys
from .._validate import NO_LABEL, check_key, get_adata
from .._warn import warn
from ..ontology import CellOntology
from ._abbreviations import abbreviation_of, normalize, says_cell

if TYPE_CHECKING:
    from anndata import AnnData

#: Names that are suggested for a label, at most.
_MOST_SUGGESTIONS = 3


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

    A label is looked up in ``table``, then as id or name, then in a list of abbreviations ("NK", "CD14+ Mono", "MAIT",
    "gdT"), then as exact synonym, then regardless of plural, punctuation and order of words. Codes that mean several
    cells, such as "DC2" and "PC", are not taken: what they may mean is suggested. A label that is not found stays
    without a term, and a warning names it. Terms that are already in the columns, such as those of CELLxGENE, are kept.
    Results of an earlier call are replaced.

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
    cells, number of cells that kept the term that they had (``n_kept``), term id, term name, method (``table``,
    ``exact``, ``abbreviation``, ``synonym``, ``normalized``, ``missing``, ``unmapped``), and suggestions for labels
    without a term, joined by ``" | "``.

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
        columns=["label", "n_cells", "n_kept", "term_id", "term_name", "method", "suggestions"],
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
            f"{label!r} ({n} cells{f'; may be: {names}' if names else ''})"
            for label, n, names in zip(
                unmapped["label"], unmapped["n_cells"] - unmapped["n_kept"], unmapped["suggestions"], strict=True
            )
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
            for text in {normalize(str(ontology.name(term))), *map(normalize, ontology.synonyms(term, codes=False))}:
                if self._normal.setdefault(text, term) != term:
                    shared.add(text)
        for text in shared:  # a name of two terms is ambiguous
            del self._normal[text]
        self._whole = {
            text: term
            for text, term in self._normal.items()
            if not any(
                says_cell(name) and normalize(name) == text
                for name in (ontology.name(term), *ontology.synonyms(term, codes=False))
            )
        }

    def find(self, label: str) -> tuple[str, str, str, str]:
        """Return term id, term name, method and suggestions; empty where there is no term."""
        if label in self.table:
            return self._known(self.table[label], "table")
        if label.strip().casefold() in NO_LABEL:
            return "", "", "missing", ""
        found = self.ontology.resolve(label)
        if found is not None and label not in self.ontology.by_synonym([label]):
            return self._known(found, "exact")
        normal = normalize(label)
        with_cell = says_cell(label)
        short = abbreviation_of(label)
        if short is not None and short.is_sure and short.fits(label):
            term = self.ontology.resolve(short.terms[0])
            if term is not None:
                return self._known(term, "abbreviation")
        if short is not None and not short.is_sure and not with_cell:
            return "", "", "unmapped", self._suggestions(label, short.terms)
        if found is not None:
            return self._known(found, "synonym")
        # "alpha" is not "alpha cell": a single word must contain "cell" if the name of the term does.
        sure = " " in normal or with_cell
        if (found := (self._normal if sure else self._whole).get(normal)) is not None:
            return self._known(found, "normalized")
        return "", "", "unmapped", self._suggestions(label, () if short is None else short.terms)

    def _suggestions(self, label: str, terms: tuple[str, ...]) -> str:
        """Names of terms that a label may mean."""
        code = self.ontology.resolve(label, codes=True)
        names = [name for name in terms if name in self.ontology]
        names += [self.ontology.name(term) for term in (code, self._normal.get(normalize(label))) if term is not None]
        return " | ".join(list(dict.fromkeys(names))[:_MOST_SUGGESTIONS])

    def _known(self, term: str, method: str) -> tuple[str, str, str, str]:
        return term, self.ontology.name(term) if term else "", method, ""
