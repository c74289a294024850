"""Registered data as the model needs them: genes, labels on the ontology, studies, and the kind of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from scvi import REGISTRY_KEYS

from .._validate import check_option
from .._warn import warn
from ..counts import InputKind, Values, by_rows, gene_moments, input_kind, lognormal_in_place, refuse_mixed
from ..genes import GeneMap, GeneSpace, name_candidates
from ..labels import doubtful_labels
from ..ontology import CellOntology, TermSpace, report_synonyms
from ._genes import _expressed, _measured, _shared

if TYPE_CHECKING:
    from scvi.data import AnnDataManager

#: Most cells from which the variance of genes is estimated.
_VARIANCE_CELLS = 2_000
#: Warn if more than this share of the labels is doubtful.
_WARN_DOUBTFUL_SHARE = 0.05


@dataclass
class TrainingData:
    """Registered data, aligned to the genes and labels of the model.

    Attributes
    ----------
    genes
        Genes of the model, duplicates merged.
    gene_map
        From the columns of the data to these genes.
    terms
        Labels on the ontology; codes are positions in ``terms.labels``.
    label_names
        Name of each code.
    ontology_version
        Version of the ontology, or ``"flat"``.
    saved
        Genes and labels in plain types, from which a saved model is loaded.
    labels
        Label code of each cell, -1 for none, (n_cells,).
    studies
        Position of each cell's study in ``study_names``, (n_cells,).
    study_names
        Names of the studies.
    kind
        Whether the values are counts or log1p values.
    measured
        Genes that each study measured, bool (n_studies, n_genes); None if every study measured all genes.
    gene_weights
        Relative chance of each gene to be on a random panel, (n_genes,).
    unknown
        Labels that are not in the ontology, if one is wanted.
    """

    genes: GeneSpace
    gene_map: GeneMap
    terms: TermSpace
    label_names: list[str]
    ontology_version: str
    saved: dict[str, Any]
    labels: np.ndarray
    studies: np.ndarray
    study_names: list[str]
    kind: InputKind
    measured: np.ndarray | None
    gene_weights: np.ndarray | None
    unknown: list[str] = field(default_factory=list)

    @classmethod
    def read(
        cls,
        manager: AnnDataManager | None,
        registry: Mapping[str, Any],
        ontology: CellOntology | str | Mapping[str, Any] | None,
        *,
        min_cells: int = 0,
        min_studies: int | None = None,
    ) -> TrainingData:
        """Read registered data, or only the registry of a saved model if ``manager`` is None.

        Genes that fewer than ``min_cells`` cells express are left out: their weights would stay random and disturb
        queries that express them. Genes that fewer than ``min_studies`` studies measured are left out, since they tell
        studies apart rather than cells. Values that are neither counts nor log1p, or no label at all, are a ValueError.
        """
        states = {name: field["state_registry"] for name, field in registry["field_registries"].items()}
        names = [str(name) for name in states[REGISTRY_KEYS.X_KEY]["column_names"]]
        if manager is not None:
            # Antibodies and peaks have the name "", which is no gene.
            _, names, notes = name_candidates(manager.adata.var)[0]
            for note in notes:
                warn(note)
        study_names = [str(study) for study in states[REGISTRY_KEYS.BATCH_KEY]["categorical_mapping"]]
        if isinstance(ontology, Mapping):
            genes = GeneSpace(ontology["genes"])
        else:
            genes = GeneSpace.from_adata(
                anndata.AnnData(var=pd.DataFrame(index=pd.Index([name for name in names if name], dtype=object)))
            )
        kind = InputKind("counts", None, "not known: loaded without data")
        if manager is not None:
            # What is stored by columns is converted once.
            X = by_rows(manager.get_from_registry(REGISTRY_KEYS.X_KEY))
            kind = _kind(manager.adata, X, np.array([name != "" for name in names]))
        if manager is not None and not isinstance(ontology, Mapping):
            genes = _expressed(X, genes, names, min_cells)
            genes = _shared(manager.adata, genes, names, study_names, min_studies)
        given = [str(label) for label in states[REGISTRY_KEYS.LABELS_KEY]["categorical_mapping"]]
        terms, code_of, label_names, version = _place_labels(given, ontology)
        is_flat = manager is None or ontology == "flat"
        known = ontology if isinstance(ontology, CellOntology) else CellOntology.bundled()
        if manager is not None and not isinstance(ontology, Mapping) and not is_flat:
            report_synonyms(known, given)
        unknown = [] if is_flat else [name for name in label_names if known.resolve(name) is None]
        inputs = cls(
            genes,
            genes.match(names),
            terms,
            label_names,
            version,
            saved={
                "genes": [str(name) for name in genes.names],
                "terms": terms.to_dict(),
                "given": given,
                "codes": [int(code) for code in code_of],
                "names": label_names,
                "version": version,
            },
            labels=np.empty(0, np.int64),
            studies=np.empty(0, np.int64),
            study_names=study_names,
            kind=kind,
            measured=None,
            gene_weights=None,
            unknown=unknown,
        )
        if manager is not None:
            inputs._read_cells(manager, X, code_of)
        return inputs

    def _read_cells(self, manager: AnnDataManager, X: Any, code_of: np.ndarray) -> None:
        codes = np.asarray(manager.get_from_registry(REGISTRY_KEYS.LABELS_KEY)).ravel()
        self.labels = np.append(code_of, -1)[codes]
        if not (self.labels >= 0).any():
            raise ValueError(
                "No cell has a label; training needs cells of two labels or more. Check labels_key of setup_anndata."
            )
        self.studies = np.asarray(manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY)).ravel().astype(np.int64)
        self.measured = _measured(manager.adata, self.genes, self.gene_map, self.study_names)
        rows = np.unique(np.linspace(0, len(self.labels) - 1, _VARIANCE_CELLS).astype(int))
        sample = lognormal_in_place(Values("X", X, self.kind, self.gene_map).aligned(rows), self.kind)
        _, variance = gene_moments(sample)
        self.gene_weights = (variance / max(float(variance.mean()), 1e-12) + 0.05).astype(np.float32)

    @property
    def comparable(self) -> np.ndarray:
        """Pairs of labels whose cells may be of the same type, bool (L, L).

        These are a term and its descendants, unless most studies with the broader label use the narrower one, too: then
        the broader label means the remaining cells ("monocyte" besides "CD16-positive monocyte").
        """
        n_labels = len(self.terms.labels)
        used = np.zeros((n_labels, len(self.study_names)), dtype=np.float32)
        known = self.labels >= 0
        used[self.labels[known], self.studies[known]] = 1
        both = used @ used.T
        # descends[a, b]: a is the broader label.
        apart = self.descends & (2 * both > used.sum(axis=1)[:, None]) & ~np.eye(n_labels, dtype=bool)
        same = self.terms.label_term[:, None] == self.terms.label_term
        return self.terms.comparable & (same | ~(apart | apart.T))

    @property
    def descends(self) -> np.ndarray:
        """Whether label b is the term of label a or a descendant of it, bool (L, L): ``descends[a, b]``."""
        return self.terms.closure[:, self.terms.label_term].T

    def matrix(self, manager: AnnDataManager) -> tuple[sp.csr_matrix, np.ndarray]:
        """All cells as CSR (counts or natural logarithms, copied only if needed), and the gene of each column or -1."""
        X = manager.get_from_registry(REGISTRY_KEYS.X_KEY)
        target = self.gene_map.target
        distinct = (target >= 0).sum() == self.gene_map.n_matched
        is_plain = sp.issparse(X) and X.format == "csr" and X.has_canonical_format
        if distinct and is_plain and self.kind.base is None:
            return X, target
        return Values("X", X, self.kind, self.gene_map).aligned(), np.arange(len(self.genes))

    def trusted_labels(self, X: sp.csr_matrix, genes: np.ndarray, *, seed: int) -> np.ndarray:
        """Labels (n_cells,), with -1 for those that :func:`~scim.labels._doubts.doubtful_labels` finds.

        ``X`` and ``genes`` are those of :meth:`matrix`.
        """
        kept = X if (genes >= 0).all() else X[:, genes >= 0]
        doubted = doubtful_labels(kept, self.labels, self.studies, self.comparable, self.kind, seed=seed)
        if doubted.mean() > _WARN_DOUBTFUL_SHARE:
            warn(
                f"{int(doubted.sum()):,} of {int((self.labels >= 0).sum()):,} labels contradict those of the cells "
                "around them in their own study, and are not trained on. Check them, or give check_labels=False."
            )
        return np.where(doubted, -1, self.labels)

    def warn_about_labels(self, loss: str) -> None:
        """Warn if labels or studies leave few triplets or pairs for the loss of this name."""
        wanted = "triplets" if loss == "triplet" else "positive pairs"
        sizes = np.bincount(self.labels[self.labels >= 0], minlength=len(self.label_names))
        single = [name for name, size in zip(self.label_names, sizes, strict=True) if size == 1]
        present = np.unique(self.labels[self.labels >= 0])
        self._warn_of_unknown_labels(present)
        if len(np.unique(self.studies)) == 1:
            warn(
                f"All cells come from one study: there are no {wanted} across studies, and the model cannot learn to "
                "ignore differences of studies. Name the study of each cell with batch_key, or add labelled studies."
            )
        elif not self._is_shared(present):
            warn(
                f"No label occurs in two studies: there are no {wanted} across studies, and the model cannot learn to "
                "ignore differences of studies. scim.pp.harmonize_labels finds terms that studies name differently."
            )
        if self.terms.comparable[np.ix_(present, present)].all():
            without = (
                "there are no triplets: only the reconstruction is trained."
                if loss == "triplet"
                else f"there are no negative pairs: the loss ({loss}) pushes nothing apart."
            )
            warn(f"No two labels exclude each other, so {without}")
        if single:
            warn(
                f"{len(single)} labels have one cell and no partner for {wanted}: {', '.join(map(repr, single[:5]))}. "
                "Merge them into a broader label, or ignore this."
            )

    def _is_shared(self, present: np.ndarray) -> bool:
        """Whether a label has cells in two studies."""
        pairs = np.unique(np.stack([self.labels, self.studies])[:, self.labels >= 0], axis=1)
        return len(pairs[0]) > len(present)

    def _warn_of_unknown_labels(self, present: np.ndarray) -> None:
        there = {self.label_names[i] for i in present}
        if unknown := [name for name in self.unknown if name in there]:
            shown = ", ".join(map(repr, unknown[:8])) + (" ..." if len(unknown) > 8 else "")
            warn(
                f"{len(unknown)} of {len(present)} labels are not terms of the Cell Ontology. Each of them excludes "
                f"all other labels, even if another study has the same cells under another name: {shown}. "
                'scim.pp.harmonize_labels finds their terms; ontology="flat" says that this is meant.'
            )


def _kind(adata: anndata.AnnData, X: Any, columns: np.ndarray) -> InputKind:
    """Recognise the values, of which all cells must be on one scale; ``columns`` are genes."""
    record = adata.uns.get("log1p")
    base = record.get("base") if isinstance(record, Mapping) else None
    kind = input_kind(X, base=base, columns=columns, obs=adata.obs)
    # Training reads all cells many times: reading them once more here finds a study on another scale.
    refuse_mixed(X, where="X", base=kind.base, columns=columns, obs=adata.obs)
    return kind


def _place_labels(
    given: list[str], ontology: CellOntology | str | Mapping[str, Any] | None
) -> tuple[TermSpace, np.ndarray, list[str], str]:
    """Put labels on the ontology -> terms, code of each given label, name of each code, version.

    A mapping is :attr:`TrainingData.saved` of a saved model.
    """
    if isinstance(ontology, Mapping):
        return _saved_labels(given, ontology)
    if isinstance(ontology, CellOntology):
        chosen = ontology
    else:
        if ontology is not None:
            check_option(ontology, ("bundled", "flat"), argument="ontology")
        chosen = CellOntology.flat(given) if ontology == "flat" else CellOntology.bundled()
    resolved = chosen.resolve_many(given)
    if ontology is None and not any(resolved):
        chosen = CellOntology.flat(given)
        resolved = chosen.resolve_many(given)
    ids = [term or label for term, label in zip(resolved, given, strict=True)]
    unique = sorted(set(ids))
    code = {term: i for i, term in enumerate(unique)}
    names = [chosen.name(term) if term in chosen else term for term in unique]
    return chosen.term_space(unique), np.array([code[i] for i in ids], dtype=np.int64), names, chosen.version


def _saved_labels(given: list[str], saved: Mapping[str, Any]) -> tuple[TermSpace, np.ndarray, list[str], str]:
    code = dict(zip(saved["given"], saved["codes"], strict=True))
    codes = np.array([code.get(label, -1) for label in given], dtype=np.int64)
    return TermSpace.from_dict(saved["terms"]), codes, list(saved["names"]), str(saved["version"])
