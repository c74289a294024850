"""Label cells with the head of a reference, or by a vote of the nearest cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .._threads import in_blocks
from .._validate import check_fraction, check_positive_int, did_you_mean
from .._warn import warn
from ..index import check_queries
from ..labels import MatchedModel, Vote, assign, check_vote, cover, ontology_vote, plain_vote, prediction_sets
from ._cells import NewCells
from ._results import filter_text

if TYPE_CHECKING:
    from ..ontology import TermSpace
    from ..reference import Reference

#: Default alpha of each vote: tolerated error of calibrated labels, share of votes that may be for other terms.
_DEFAULT_ALPHA = {"calibrated": 0.1, "ontology": 0.3, "majority": 0.3, "weighted": 0.3}
#: Largest alpha, below one half.
_MAX_ALPHA = 0.4999
#: Warn if more than this share of the cells seem to have labels that are not in ``labels=``.
_WARN_UNLISTED_SHARE = 0.05
#: Warn if more than this share of the cells are novel, or have sets too broad for a term ...
_WARN_UNASSIGNED_SHARE = 0.5
#: ... among this many cells or more.
_WARN_FROM_CELLS = 20


@dataclass(frozen=True)
class Labelling:
    """Parameters of :func:`scim.tl.annotate`, checked: raises ValueError or TypeError."""

    vote: Vote = "auto"
    k: int = 50
    alpha: float | None = None
    novelty_fdr: float = 0.05
    labels: Sequence[str] | None = None
    where: Any = None
    exclude: Any = None
    recall: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", check_positive_int(self.k, argument="k"))
        check_vote(self.vote)
        check_fraction(self.novelty_fdr, argument="novelty_fdr")
        if self.recall is not None:
            check_fraction(self.recall, argument="recall")
        if self.alpha is not None:
            check_fraction(self.alpha, argument="alpha", high=_MAX_ALPHA)
        if self.labels is not None:
            if isinstance(self.labels, str) or not isinstance(self.labels, Iterable):
                raise TypeError(f"labels must be a list of terms, got {self.labels!r}. Write labels=[{self.labels!r}].")
            object.__setattr__(self, "labels", list(self.labels))

    def resolved(self, reference: Reference) -> Labelling:
        """Choose the vote and alpha if they are not given, and check filters before cells are embedded.

        Raises
        ------
        ValueError, KeyError, TypeError
            A filter leaves no cell or names an unknown value, or the reference has no head.
        """
        reference.allowed(where=self.where, exclude=self.exclude)
        is_filtered = any(f is not None and not (isinstance(f, Mapping) and not f) for f in (self.where, self.exclude))
        has_head = reference.label_model.matched().calibration.head is not None
        vote = self.vote
        if vote == "auto":
            vote = "calibrated" if has_head and not is_filtered else "ontology"
        elif vote == "calibrated" and is_filtered:
            raise ValueError(
                "vote='calibrated' uses the whole reference, not the cells that where= or exclude= leave. Leave out "
                "the filter, or use vote='ontology'."
            )
        elif vote == "calibrated" and not has_head:
            raise ValueError("vote='calibrated' needs a reference with at least two labels. Use vote='ontology'.")
        return replace(self, vote=vote, alpha=_DEFAULT_ALPHA[vote] if self.alpha is None else float(self.alpha))

    def listed(self, terms: TermSpace) -> np.ndarray | None:
        """Find labels that are in ``labels`` or below them, bool (n_labels + 1,), with False at the end; None: all.

        Raises KeyError or ValueError if ``labels`` names an unknown term, or is empty.
        """
        if self.labels is None:
            return None
        place = {str(t).casefold(): i for names in (terms.term_names, terms.terms) for i, t in enumerate(names)}
        listed = np.zeros(len(terms.labels) + 1, dtype=bool)
        for label in self.labels:
            if str(label).casefold() not in place:
                raise KeyError(
                    f"labels contains {label!r}, which is not a term of the reference. "
                    f"{did_you_mean(label, terms.term_names)}"
                )
            listed[:-1] |= terms.closure[:, place[str(label).casefold()]]
        if not listed.any():
            raise ValueError("labels is empty. Name at least one term, or leave it out.")
        return listed

    def params(self) -> dict[str, Any]:
        """Return the parameters as plain values, for the record."""
        return {
            "k": self.k,
            "alpha": self.alpha,
            "novelty_fdr": self.novelty_fdr,
            "vote": self.vote,
            "labels": list(map(str, self.labels or [])),
            "where": filter_text(self.where),
            "exclude": filter_text(self.exclude),
            "recall": "" if self.recall is None else self.recall,
        }


@dataclass(frozen=True, eq=False)
class Answer:
    """Labels of n cells.

    Attributes
    ----------
    by_label, by_term
        Probabilities or shares of votes, float32 (n, n_labels) and (n, n_terms).
    inside
        Prediction sets, bool (n, n_labels). None: the labels come from a vote.
    chosen
        Term of each cell, (n,); -1 for unassigned.
    novelty
        P-values of novelty, (n,).
    novel
        Cells that are unassigned because they are novel, bool (n,). None: novelty is ignored.
    sets
        Prediction sets as text.
    stats
        Statistics of votes by name, (n,).
    facts
        Facts for the record.
    """

    by_label: np.ndarray
    by_term: np.ndarray
    inside: np.ndarray | None
    chosen: np.ndarray
    novelty: np.ndarray
    novel: np.ndarray | None
    sets: list[str]
    stats: dict[str, np.ndarray]
    facts: dict[str, Any]


def label(cells: NewCells, how: Labelling, *, client: Any = None) -> Answer:
    """Label cells; ``how`` is resolved, and workers of ``client`` search the reference."""
    by = _label_by_head if how.vote == "calibrated" else _label_by_neighbours
    return by(cells, how, client)


def _label_by_head(cells: NewCells, how: Labelling, client: Any) -> Answer:
    """Label with the head of the reference, or of its landmarks if the query lacks genes that matter."""
    reference, terms, alpha = cells.reference, cells.reference.terms, how.alpha
    assert alpha is not None  # how is resolved
    vectors, model = _matched(cells, client)
    head = model.calibration.head or reference.label_model.matched().calibration.head
    assert head is not None  # Labelling.resolved made sure
    if not len(head.scores):
        warn(
            f"Labels of {reference.path.name} could not be tested: no two studies share a label. So no label can be "
            "ruled out, and cells get the term that covers all labels. Use the same names in all studies, if possible "
            'terms of the Cell Ontology, or label by neighbours (vote="ontology").'
        )
    of_all = head.probabilities(vectors, len(terms.labels))
    listed = how.listed(terms)
    by_label = of_all if listed is None else _renormalised(of_all, listed)
    inside = head.possible(by_label, alpha=alpha)
    # If all labels are ruled out, the most probable label stays.
    inside[np.arange(len(inside)), by_label.argmax(axis=1)] = True
    inside &= by_label > 0
    novelty = _novelty(cells, lambda: model.novelty(vectors), how.novelty_fdr)
    genes = cells.measured if model.genes is None else model.genes
    facts = {
        "head": head.kind,
        "temperature": head.temperature,
        "pooled_labels": ";".join(str(terms.term_names[terms.label_term[i]]) for i in head.pooled(alpha=alpha)),
        "panel_matched": model.panel_matched,
        "n_genes": len(reference.encoder.genes) if genes is None else int(genes.sum()),
    } | novelty.facts
    if listed is not None:
        others = ~novelty.novel & (of_all[:, ~listed[:-1]].sum(axis=1) > 0.5)
        facts["n_of_other_labels"] = int(others.sum())
        _warn_of_others(of_all[others], terms, len(others))
    chosen = np.where(novelty.novel, -1, cover(inside, terms))
    _warn_of_broad(chosen, novelty.novel, inside, reference, alpha)
    sets = set_texts(inside, by_label, terms)
    by_term = _sums(by_label, terms)
    return Answer(by_label, by_term, inside, chosen, novelty.pvalues, novelty.novel, sets, {}, facts)


def _matched(cells: NewCells, client: Any) -> tuple[np.ndarray, MatchedModel]:
    """Match the label model to the genes of the cells; return the vectors (embedded again if needed) and the model."""
    reference, expression = cells.reference, cells.expression

    def nearest(queries: np.ndarray, recall: float) -> np.ndarray:
        return reference.search(queries, 1, recall=recall, client=client).distances[:, 0]

    model = reference.label_model.matched(
        cells.measured,
        embeddable=None if expression is None else expression.measured,
        nearest=None if client is None else nearest,
    )
    if model.is_narrow:
        warn(
            f"Labels that only some studies of {reference.path.name} have, which measured few genes, will rarely be "
            "given: cells would have to be embedded again with these genes, but their values are not in adata (X was "
            "scaled, genes were dropped, or only the embedding is there). Annotate before that, or keep the counts in "
            'adata.layers["counts"] or adata.raw.'
        )
    if expression is not None and model.genes is not None:
        return expression.embed(reference.encoder, model.genes), model
    return check_queries(cells.vectors, reference.n_latent), model


def _renormalised(by_label: np.ndarray, listed: np.ndarray) -> np.ndarray:
    """Keep the probabilities of listed labels, and scale them to sum to 1."""
    kept = np.where(listed[:-1], by_label, np.float32(0))
    kept /= np.maximum(kept.sum(axis=1, keepdims=True), 1e-12)
    return kept


@dataclass(frozen=True, eq=False)
class _Novelty:
    """P-values of novelty, (n,), novel cells, bool (n,), and facts for the record."""

    pvalues: np.ndarray
    novel: np.ndarray
    facts: dict[str, Any]


def _novelty(
    cells: NewCells, by_distance: Callable[[], np.ndarray], fdr: float, within: np.ndarray | None = None
) -> _Novelty:
    """Test which cells are unlike the cells of the reference, or unlike its cells ``within``, bool (n_rows,).

    Cells are compared by expression, or by distance in the embedding if they have no values.
    """
    from scipy.stats import false_discovery_control

    reference = cells.reference
    found = None if cells.expression is None else cells.expression.novelty(reference, within)
    pvalues = by_distance() if found is None else found[0]
    novel = false_discovery_control(pvalues, method="bh") <= fdr if len(pvalues) else np.empty(0, bool)
    if len(novel) >= _WARN_FROM_CELLS and novel.mean() > _WARN_UNASSIGNED_SHARE:
        warn(
            f"{int(novel.sum()):,} of {len(novel):,} cells are unlike anything in {reference.path.name} and unassigned."
            " The reason is another cell type, platform or tissue. If the reference has these cell types, use "
            "novelty_fdr=0, and cells get the label of their sets. If not, build a reference that has them."
        )
    facts: dict[str, Any] = {"novelty": "distance" if found is None else "expression", "n_novel": int(novel.sum())}
    if within is not None and found is not None:
        facts["novelty_filtered"] = found[1]
    return _Novelty(pvalues, novel, facts)


def _warn_of_broad(
    chosen: np.ndarray, novel: np.ndarray, inside: np.ndarray, reference: Reference, alpha: float
) -> None:
    """Warn if most cells are unassigned because their sets are too broad."""
    broad = int(((chosen < 0) & ~novel & (inside.sum(axis=1) > 1)).sum())
    if len(chosen) >= _WARN_FROM_CELLS and broad > _WARN_UNASSIGNED_SHARE * len(chosen):
        warn(
            f"{broad:,} of {len(chosen):,} cells are unassigned because no specific term covers all labels that "
            f"cannot be ruled out at alpha={alpha:g}. Use a larger alpha, or add studies like these cells, or more "
            f"cells of each label, to {reference.path.name}."
        )


def _sums(by_label: np.ndarray, terms: TermSpace) -> np.ndarray:
    """Sum the probabilities of the labels under each term, float32 (n, n_terms)."""
    above, by_term = terms.closure.astype(np.float32), np.empty((len(by_label), len(terms.terms)), dtype=np.float32)

    def work(part: slice) -> None:
        np.minimum(by_label[part] @ above, 1.0, out=by_term[part])

    in_blocks(len(by_label), work)
    return by_term


def _warn_of_others(by_label: np.ndarray, terms: TermSpace, n_cells: int) -> None:
    """Warn if more than a few cells seem to have labels that are not listed."""
    if len(by_label) <= _WARN_UNLISTED_SHARE * n_cells:
        return
    first = np.bincount(by_label.argmax(axis=1), minlength=len(terms.labels))
    most = [i for i in np.argsort(-first, kind="stable")[:3] if first[i]]
    shown = ", ".join(f"{terms.term_names[terms.label_term[i]]} ({first[i]:,})" for i in most)
    warn(
        f"{len(by_label):,} of {n_cells:,} cells are more like labels that labels= leaves out, such as {shown}, but "
        "get one of its labels. Leave labels= out, or annotate only cells of these labels."
    )


def _label_by_neighbours(cells: NewCells, how: Labelling, client: Any) -> Answer:
    """Label by a vote of the nearest labelled cells; with ``vote="ontology"``, novel cells are unassigned."""
    reference, terms, alpha = cells.reference, cells.reference.terms, how.alpha
    assert alpha is not None  # how is resolved
    voters, listed = reference.label_codes >= 0, how.listed(terms)
    if listed is not None:
        voters &= listed[reference.label_codes]
    filters = {"where": how.where, "exclude": how.exclude}
    within = None if voters.all() else voters
    hits = reference.search(cells.vectors, how.k, within=within, recall=how.recall, client=client, **filters)
    codes = np.where(hits.indices >= 0, reference.label_codes[hits.indices], -1)
    known = np.isfinite(hits.distances[:, 0])

    def by_distance() -> np.ndarray:
        nearest = np.where(known, hits.distances[:, 0], 0.0)
        return np.where(known, reference.label_model.distance_pvalue(nearest), 1.0)

    if how.vote != "ontology":  # SCimilarity's votes label every cell
        weighted = how.vote == "weighted"
        by_label, best, stats = plain_vote(hits.distances, codes, len(terms.labels), weighted=weighted)
        chosen = np.append(terms.label_term, -1)[best]
        sets = list(np.append(terms.term_names, "")[chosen].astype(str))
        return Answer(by_label, _sums(by_label, terms), None, chosen, by_distance(), None, sets, stats, {})
    by_label, by_term = ontology_vote(hits.distances, codes, terms)
    sets = set_texts(prediction_sets(by_label, alpha=alpha), by_label, terms)
    searched = reference.allowed(**filters)
    found = _novelty(cells, by_distance, how.novelty_fdr, None if searched.all() else searched)
    chosen = np.where(found.novel, -1, assign(by_term, terms, alpha=alpha))
    return Answer(by_label, by_term, None, chosen, found.pvalues, found.novel, sets, {}, found.facts)


def set_texts(inside: np.ndarray, by_label: np.ndarray, terms: TermSpace) -> list[str]:
    """Write prediction sets as text, most probable label first."""
    names = terms.term_names[terms.label_term].astype(str)
    sizes = inside.sum(axis=1)
    sets = np.where(sizes == 1, names.astype(object)[inside.argmax(axis=1)], "")
    for row in np.flatnonzero(sizes > 1):
        members = np.flatnonzero(inside[row])
        sets[row] = ";".join(names[members[np.argsort(-by_label[row, members], kind="stable")]])
    return list(sets)
