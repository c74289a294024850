"""Label cells with the head of a reference, or by a vote of the nearest cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .._threads import in_blocks
from .._validate import check_fraction, check_positive_int, did_you_mean
from .._warn import warn
from ..index import check_queries
from ..labels import MatchedModel, Vote, assign, check_vote, ontology_vote, plain_vote, prediction_sets, set_texts
from ._cells import NewCells
from ._novelty import (
    WARN_FROM_CELLS,
    WARN_SHARE,
    by_distance,
    find_represented,
    measure_novelty,
    represented_share,
)
from ._results import filter_text
from ._tissue import is_tissue_given, take_tissue, with_tissue

if TYPE_CHECKING:
    from ..ontology import TermSpace
    from ..reference import Reference

#: Largest alpha, below one half.
_MAX_ALPHA = 0.4999
#: Warn if more than this share of the cells seem to have labels that are not in ``labels=``.
_WARN_UNLISTED_SHARE = 0.05
#: Largest confidence of a term that no study tested: no study that was left out has cells of it.
_UNTRIED_CONFIDENCE = 0.9


@dataclass(frozen=True)
class Labelling:
    """Parameters of :func:`scim.tl.annotate`, checked: raises ValueError or TypeError."""

    vote: Vote = "auto"
    k: int = 50
    min_probability: float = 0.5
    alpha: float = 0.1
    max_novelty: float = 0.75
    consensus: int = 0
    labels: Sequence[str] | None = None
    tissue: str | Sequence[str] | None = None
    where: Any = None
    exclude: Any = None
    recall: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", check_positive_int(self.k, argument="k"))
        check_vote(self.vote)
        check_fraction(self.min_probability, argument="min_probability", low=0.5)
        check_fraction(self.max_novelty, argument="max_novelty")
        check_fraction(self.alpha, argument="alpha", high=_MAX_ALPHA)
        # 0 is the only number that is not positive, and means none.
        if isinstance(self.consensus, bool) or self.consensus != 0:
            object.__setattr__(self, "consensus", check_positive_int(self.consensus, argument="consensus"))
        if self.tissue is not None and not isinstance(self.tissue, str):
            names = list(self.tissue) if isinstance(self.tissue, Iterable) else [self.tissue]
            if isinstance(self.tissue, bytes) or not all(isinstance(name, str) for name in names):
                raise TypeError(f"tissue must be a name or a list of names, got {self.tissue!r}.")
            object.__setattr__(self, "tissue", names)
        if self.recall is not None:
            check_fraction(self.recall, argument="recall")
        if self.labels is not None:
            if isinstance(self.labels, str) or not isinstance(self.labels, Iterable):
                raise TypeError(f"labels must be a list of terms, got {self.labels!r}. Write labels=[{self.labels!r}].")
            object.__setattr__(self, "labels", list(self.labels))

    def resolved(self, reference: Reference) -> Labelling:
        """Choose the vote if it is not given, join tissue and filter, and check filters before cells are embedded.

        Raises
        ------
        ValueError, KeyError, TypeError
            A filter leaves no cell (of the labels) or names an unknown value, or the reference has no head.
        """
        how = replace(self, where=with_tissue(self.where, self.tissue, reference), tissue=None)
        within, listed = how.within(reference), self.listed(reference.terms)
        if within is not None and listed is not None and not listed[reference.label_codes[within]].any():
            raise ValueError("The filter and the choice of labels leave no cell of the reference. Relax one of them.")
        vote, model = self.vote, reference.label_model
        has_head = model.matched().calibration.head is not None if within is None else model.can_refit(within)
        if vote == "auto":
            vote = "calibrated" if has_head else "ontology"
        elif vote == "calibrated" and not has_head:
            raise ValueError(
                "vote='calibrated' needs at least two labels"
                + (". " if within is None else " among the landmarks that where=, exclude= and tissue= leave. ")
                + "Use vote='ontology'."
            )
        if self.consensus and vote != "calibrated":
            raise ValueError(f"consensus averages probabilities, which vote={vote!r} does not have. Leave it out.")
        return replace(how, vote=vote)

    def within(self, reference: Reference) -> np.ndarray | None:
        """Find the cells that the filters leave, bool (n_rows,). None: all."""
        allowed = reference.allowed(where=self.where, exclude=self.exclude)
        is_filtered = any(f is not None and not (isinstance(f, Mapping) and not f) for f in (self.where, self.exclude))
        return allowed if is_filtered else None

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
            "min_probability": self.min_probability,
            "alpha": self.alpha,
            "max_novelty": self.max_novelty,
            "consensus": self.consensus,
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
    chosen
        Term of each cell, (n,); -1 for unassigned.
    confidence
        Probability that the term is right, (n,); 0 for unassigned.
    novelty, pvalues
        Novelty and its p-values, (n,).
    novel
        Cells that are unassigned because they are novel, bool (n,). None: novelty is ignored.
    empty
        Cells that are unassigned because they hardly have a count, bool (n,). None: unknown.
    sets
        Prediction sets as text.
    stats
        Statistics of votes by name, (n,).
    facts
        Facts for the record.
    represented
        Cells that are well represented in the reference, bool (n,). None: unknown.
    """

    by_label: np.ndarray
    by_term: np.ndarray
    chosen: np.ndarray
    confidence: np.ndarray
    novelty: np.ndarray
    pvalues: np.ndarray
    novel: np.ndarray | None
    empty: np.ndarray | None
    sets: list[str]
    stats: dict[str, np.ndarray]
    facts: dict[str, Any]
    represented: np.ndarray | None = None


def label(cells: NewCells, how: Labelling, *, client: Any = None) -> Answer:
    """Label cells; ``how`` is resolved, and workers of ``client`` search the reference."""
    by = _label_by_head if how.vote == "calibrated" else _label_by_neighbours
    return by(cells, how, client)


def _label_by_head(cells: NewCells, how: Labelling, client: Any) -> Answer:
    """Label with the head of the reference, or of its landmarks if a filter or missing genes ask for it."""
    reference, terms = cells.reference, cells.reference.terms
    within = how.within(reference)
    model = _matched(cells, within, client)
    head = model.calibration.head
    assert head is not None  # Labelling.resolved made sure
    vectors = check_queries(cells.vectors, reference.n_latent)
    novelty = measure_novelty(
        cells, lambda: model.distances(vectors), how.max_novelty, calibration=model.calibration, within=within
    )
    again = None
    if model.panel is not None:
        assert cells.expression is not None  # the panel is None without values
        again = cells.expression.embed(reference.encoder, model.panel.genes)
    of_all, inside = model.label(
        vectors, again, len(terms.labels), alpha=how.alpha, depth=novelty.depths, similarity=novelty.similarity
    )
    if how.consensus:
        of_all = _averaged(of_all, vectors, how.consensus, ~novelty.novel & ~novelty.empty)
    tissue_facts: dict[str, Any] = {}
    if not is_tissue_given(how.where):
        # The sets stay: their error is known for the probabilities of the head.
        of_all, tissue_facts = take_tissue(of_all, novelty.represented, reference, within)
    listed, scale = how.listed(terms), head.scale(novelty.similarity)
    by_label = of_all if listed is None else _renormalised(of_all, listed)
    # If all labels are ruled out, the most probable label stays.
    inside[np.arange(len(inside)), by_label.argmax(axis=1)] = True
    inside &= by_label > 0
    facts = (
        {
            "head": head.kind,
            "pooled_labels": ";".join(_names(scale.pooled(alpha=how.alpha, classes=head.classes), terms)),
            "panel_matched": model.panel_matched,
            "n_genes": len(reference.encoder.genes) if cells.measured is None else int(cells.measured.sum()),
            "panel_labels": "" if model.panel is None else ";".join(_names(model.panel.codes, terms)),
        }
        | novelty.facts
        | tissue_facts
    )
    if listed is not None:
        others = ~novelty.novel & (of_all[:, ~listed[:-1]].sum(axis=1) > 0.5)
        facts["n_of_other_labels"] = int(others.sum())
        _warn_of_others(of_all[others], terms, len(others))
    by_term = _sums(by_label, terms)
    chosen = np.where(novelty.novel | novelty.empty, -1, assign(by_term, terms, enough=how.min_probability))
    represented = find_represented(novelty, by_term, terms)
    facts["well_represented"] = represented_share(novelty, represented, reference)
    tried = np.isin(np.arange(len(terms.labels)), scale.labels)
    if model.panel is not None:
        tried[model.panel.head.alone.labels] = True
    confidence = _confidence(by_term, chosen)
    if head.kind == "within-study":
        confidence = np.minimum(confidence, _UNTRIED_CONFIDENCE)
    else:
        confidence = _bounded(confidence, chosen, tried, reference)
    return Answer(
        by_label=by_label,
        by_term=by_term,
        chosen=chosen,
        confidence=confidence,
        novelty=novelty.scores,
        pvalues=novelty.pvalues,
        novel=novelty.novel,
        empty=novelty.empty,
        sets=set_texts(inside, by_label, terms),
        stats={},
        facts=facts,
        represented=represented,
    )


def _matched(cells: NewCells, within: np.ndarray | None, client: Any) -> MatchedModel:
    """Match the label model to the genes of the cells, and warn of labels that they cannot get."""
    reference, expression = cells.reference, cells.expression

    def nearest(queries: np.ndarray, recall: float) -> np.ndarray:
        return reference.search(queries, 1, recall=recall, client=client).distances[:, 0]

    model = reference.label_model.matched(
        cells.measured,
        embeddable=None if expression is None else expression.measured,
        nearest=None if client is None else nearest,
        within=within,
    )
    if len(model.unjudged):
        warn(
            f"Cells will rarely be labelled {', '.join(_names(model.unjudged, reference.terms))}: only studies of "
            f"{reference.path.name} that measured few genes have these labels. Cells would have to be embedded again "
            "with these genes, but their values are not in adata (X was scaled, genes were dropped, or only the "
            'embedding is there). Annotate before that, or keep the counts in adata.layers["counts"] or adata.raw.'
        )
    if model.calibration.head is None:
        # Landmarks without two labels: the head of all cells is the best there is.
        model = replace(model, calibration=reference.label_model.matched().calibration)
    return model


def _names(codes: np.ndarray, terms: TermSpace) -> list[str]:
    """Names of labels."""
    return [str(terms.term_names[terms.label_term[code]]) for code in codes]


def _averaged(by_label: np.ndarray, vectors: np.ndarray, k: int, sound: np.ndarray) -> np.ndarray:
    """Average the probabilities of each sound cell, bool (n,), and its ``k`` nearest sound cells of the query.

    Cells that are novel or hardly have a count keep their probabilities, and change those of no other cell.
    """
    import faiss

    rows = np.flatnonzero(sound & by_label.any(axis=1))
    out = by_label.copy()
    if len(rows):
        mine = np.ascontiguousarray(vectors[rows], dtype=np.float32)
        _, near = faiss.knn(mine, mine, min(k + 1, len(rows)), metric=faiss.METRIC_INNER_PRODUCT)
        out[rows] = sum(by_label[rows[column]] for column in near.T) / near.shape[1]
    return out


def _confidence(by_term: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Probability of the chosen term of each cell, (n,); 0 for none."""
    return np.where(chosen < 0, 0.0, by_term[np.arange(len(chosen)), np.maximum(chosen, 0)])


def _bounded(confidence: np.ndarray, chosen: np.ndarray, tried: np.ndarray, reference: Reference) -> np.ndarray:
    """Bound the confidence of terms without a label, at or below them, that a study left out has; warn of many."""
    terms = reference.terms
    untested = np.append(~terms.closure[tried].any(axis=0), False)[chosen]
    given = chosen >= 0
    if given.sum() >= WARN_FROM_CELLS and untested.sum() > WARN_SHARE * given.sum():
        names = ", ".join(sorted({str(terms.term_names[term]) for term in np.unique(chosen[untested])})[:5])
        warn(
            f"{int(untested.sum()):,} of {int(given.sum()):,} labelled cells have a label that could not be tested, "
            f"such as {names}: no two studies of {reference.path.name} have it. Their confidence is at most "
            f"{_UNTRIED_CONFIDENCE:g}. Use the same names in all studies, if possible terms of the Cell Ontology, or "
            "add studies that have these labels."
        )
    return np.where(untested, np.minimum(confidence, _UNTRIED_CONFIDENCE), confidence)


def _renormalised(by_label: np.ndarray, listed: np.ndarray) -> np.ndarray:
    """Keep the probabilities of listed labels, and scale them to sum to 1."""
    kept = np.where(listed[:-1], by_label, np.float32(0))
    kept /= np.maximum(kept.sum(axis=1, keepdims=True), 1e-12)
    return kept


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
    reference, terms = cells.reference, cells.reference.terms
    voters, listed = reference.label_codes >= 0, how.listed(terms)
    if listed is not None:
        voters &= listed[reference.label_codes]
    filters = {"where": how.where, "exclude": how.exclude}
    within = None if voters.all() else voters
    hits = reference.search(cells.vectors, how.k, within=within, recall=how.recall, client=client, **filters)
    codes = np.where(hits.indices >= 0, reference.label_codes[hits.indices], -1)
    nearest = np.where(np.isfinite(hits.distances[:, 0]), hits.distances[:, 0], np.nan)
    calibration = reference.label_model.matched().calibration

    if how.vote != "ontology":  # SCimilarity's votes label every cell
        by_label, best, stats = plain_vote(hits.distances, codes, len(terms.labels), weighted=how.vote == "weighted")
        chosen = np.append(terms.label_term, -1)[best]
        sets = list(np.append(terms.term_names, "")[chosen].astype(str))
        pvalues, scores = by_distance(calibration, nearest)
        by_term = _sums(by_label, terms)
        sure = _confidence(by_term, chosen)
        return Answer(by_label, by_term, chosen, sure, scores, pvalues, None, None, sets, stats, {})
    by_label, by_term = ontology_vote(hits.distances, codes, terms)
    sets = set_texts(prediction_sets(by_label, alpha=how.alpha), by_label, terms)
    found = measure_novelty(
        cells, lambda: nearest, how.max_novelty, calibration=calibration, within=how.within(reference)
    )
    chosen = np.where(found.novel | found.empty, -1, assign(by_term, terms, enough=how.min_probability))
    represented = find_represented(found, by_term, terms)
    facts = found.facts | {"well_represented": represented_share(found, represented, reference)}
    sure = _confidence(by_term, chosen)
    measured = (found.scores, found.pvalues, found.novel, found.empty)
    return Answer(by_label, by_term, chosen, sure, *measured, sets, {}, facts, represented)
