"""What labels cells: the head of a reference, or a vote of the nearest of its cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._threads import in_blocks
from .._warn import warn
from ..index import check_queries
from ..labels import Vote, assign, cover, plain_vote, prediction_sets
from ..labels import vote as ontology_vote
from ._cells import Embedded, Expression, measured_genes

if TYPE_CHECKING:
    from anndata import AnnData

    from ..ontology import TermSpace
    from ..reference import Reference


#: Share of cells that may be of labels that are not listed before a warning says so; share of novel ones, of a number.
_A_FEW = 0.05
_HALF = 0.5
_SOME = 20


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found of cells.

    Attributes
    ----------
    by_label, by_term
        Scores (n, n_labels) and (n, n_terms).
    inside
        Labels that cannot be ruled out, bool (n, n_labels); None for votes.
    chosen
        The term of each cell (n,), -1 for none.
    novelty
        P-values (n,).
    novel
        Cells that are unassigned for these, bool (n,); None where they do not matter.
    sets
        Prediction sets in words.
    stats, facts
        Statistics of the cells, and what to note.
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


def calibrated(
    data: AnnData,
    reference: Reference,
    embedded: Embedded,
    use_rep: str,
    allowed: np.ndarray | None,
    alpha: float,
    novelty_fdr: float,
    *,
    client: Any = None,
) -> Answer:
    """Label with the head of the reference, or of its landmarks where the query lacks genes that matter."""
    terms, vectors = reference.terms, check_queries(embedded.vectors, reference.n_latent)
    expression = Expression.of(data, reference, embedded, use_rep=use_rep)
    measured = measured_genes(data, reference, embedded, expression, use_rep=use_rep)
    judge = reference.judge(measured, embeddable=None if expression is None else expression.measured, client=client)
    if judge.is_narrow:
        warn(
            f"Labels that only some studies of {reference.path.name} have, which measured fewer genes, can hardly be "
            "given: cells would have to be embedded again with the genes of all, and their values are not here (X was "
            "scaled, genes were dropped, or there is nothing but the embedding). Annotate before that, or keep the "
            'counts in adata.layers["counts"] or adata.raw.'
        )
    if expression is not None and judge.genes is not None:
        vectors = expression.embed(reference.encoder, judge.genes)
    head = judge.calibration.head or reference.judge().calibration.head
    assert head is not None  # _resolve_vote made sure
    by_label = head.probabilities(vectors, len(terms.labels))
    all_labels = by_label
    if allowed is not None:
        by_label = np.where(allowed[:-1], by_label, np.float32(0))
        by_label /= np.maximum(by_label.sum(axis=1, keepdims=True), 1e-12)
    by_term = _sums(by_label, terms)
    if not len(head.scores):
        warn(
            f"Labels of {reference.path.name} could not be tried: no study left out has one that others have, too. So "
            "none can be ruled out, and cells get the term that covers all. Name labels alike in all studies, with "
            'terms of the Cell Ontology if there are, or label by neighbours (vote="ontology").'
        )
    inside = head.possible(by_label, alpha=alpha)
    # What no label fits is no empty promise: the best one stays.
    inside[np.arange(len(inside)), by_label.argmax(axis=1)] = True
    inside &= by_label > 0
    novelty = _novelty(expression, reference, lambda: judge.novelty(vectors), novelty_fdr)
    genes = measured if judge.genes is None else judge.genes
    facts = {
        "head": head.kind,
        "temperature": head.temperature,
        "pooled_labels": ";".join(str(terms.term_names[terms.label_term[i]]) for i in head.pooled(alpha=alpha)),
        "panel_matched": judge.panel_matched,
        "n_genes": len(reference.encoder.genes) if genes is None else int(genes.sum()),
    } | novelty.facts
    if allowed is not None:
        others = ~novelty.novel & (all_labels[:, ~allowed[:-1]].sum(axis=1) > 0.5)
        facts["n_of_other_labels"] = int(others.sum())
        _warn_of_others(all_labels[others], terms, len(others))
    chosen = np.where(novelty.novel, -1, cover(inside, terms))
    _warn_of_broad(chosen, novelty.novel, inside, reference, alpha)
    sets = names_of(inside, by_label, terms)
    return Answer(by_label, by_term, inside, chosen, novelty.pvalues, novelty.novel, sets, {}, facts)


@dataclass(frozen=True, eq=False)
class _Novelty:
    """P-values of cells (n,), which of them are novel by these (n,), and what to note."""

    pvalues: np.ndarray
    novel: np.ndarray
    facts: dict[str, Any]


def _novelty(
    expression: Expression | None,
    reference: Reference,
    by_distance: Callable[[], np.ndarray],
    fdr: float,
    within: np.ndarray | None = None,
) -> _Novelty:
    """Tell by expression, or else by distance, which cells are unlike anything in a reference, or in cells of it."""
    from scipy.stats import false_discovery_control

    found = None if expression is None else expression.novelty(reference, within)
    pvalues = by_distance() if found is None else found[0]
    novel = false_discovery_control(pvalues, method="bh") <= fdr if len(pvalues) else np.empty(0, bool)
    if len(novel) >= _SOME and novel.mean() > _HALF:
        warn(
            f"{int(novel.sum()):,} of {len(novel):,} cells are unlike anything in {reference.path.name} and unassigned."
            " Another platform or tissue can be the reason as well as other kinds of cells. If these are cells that it "
            "has, novelty_fdr=0 gives them what their sets allow; if not, build a reference that has them."
        )
    facts: dict[str, Any] = {"novelty": "distance" if found is None else "expression", "n_novel": int(novel.sum())}
    if within is not None and found is not None:
        facts["novelty_filtered"] = found[1]
    return _Novelty(pvalues, novel, facts)


def _warn_of_broad(
    chosen: np.ndarray, novel: np.ndarray, inside: np.ndarray, reference: Reference, alpha: float
) -> None:
    """Warn where most cells are unassigned because their sets allow too much."""
    broad = int(((chosen < 0) & ~novel & (inside.sum(axis=1) > 1)).sum())
    if len(chosen) >= _SOME and broad > _HALF * len(chosen):
        warn(
            f"{broad:,} of {len(chosen):,} cells are unassigned because no term says something of all labels that "
            f"cannot be ruled out at an alpha of {alpha:g}. A larger one rules out more; studies more like these "
            f"cells, or more cells of each label in {reference.path.name}, do so at the same."
        )


def _sums(by_label: np.ndarray, terms: TermSpace) -> np.ndarray:
    """Probability of each term, that of the labels which are one or below it, float32 (n, n_terms)."""
    above, by_term = terms.closure.astype(np.float32), np.empty((len(by_label), len(terms.terms)), dtype=np.float32)

    def work(part: slice) -> None:
        np.minimum(by_label[part] @ above, 1.0, out=by_term[part])

    in_blocks(len(by_label), work)
    return by_term


def _warn_of_others(by_label: np.ndarray, terms: TermSpace, n_cells: int) -> None:
    """Warn of cells that are more likely of labels that are not listed, if these are more than a few."""
    if len(by_label) <= _A_FEW * n_cells:
        return
    first = np.bincount(by_label.argmax(axis=1), minlength=len(terms.labels))
    most = [i for i in np.argsort(-first, kind="stable")[:3] if first[i]]
    shown = ", ".join(f"{terms.term_names[terms.label_term[i]]} ({first[i]:,})" for i in most)
    warn(
        f"{len(by_label):,} of {n_cells:,} cells are more like labels that labels= leaves out, such as {shown}, and "
        "get one of those that it lists all the same. Leave labels out, or annotate the cells that it is meant for."
    )


def neighbours(
    data: AnnData,
    reference: Reference,
    embedded: Embedded,
    use_rep: str,
    vote: Vote,
    k: int,
    allowed: np.ndarray | None,
    alpha: float,
    novelty_fdr: float,
    *,
    where: Any = None,
    exclude: Any = None,
    **options: Any,
) -> Answer:
    """Label by a vote of the nearest labelled cells; in one on the ontology, novel cells are unassigned."""
    terms, vectors = reference.terms, embedded.vectors
    voters = reference.label_codes >= 0
    if allowed is not None:
        voters &= allowed[reference.label_codes]
    within = None if voters.all() else voters
    hits = reference.search(vectors, k, within=within, where=where, exclude=exclude, **options)
    codes = np.where(hits.indices >= 0, reference.label_codes[hits.indices], -1)
    stats: dict[str, np.ndarray] = {}
    if vote == "ontology":
        by_label, by_term = ontology_vote(hits.distances, codes, terms)
        chosen = assign(by_term, terms, alpha=alpha)
        sets = names_of(prediction_sets(by_label, alpha=alpha), by_label, terms)
    else:
        by_label, best, stats = plain_vote(hits.distances, codes, len(terms.labels), weighted=vote == "weighted")
        by_term, chosen = _sums(by_label, terms), np.append(terms.label_term, -1)[best]
        sets = list(np.append(terms.term_names, "")[chosen].astype(str))
    known = np.isfinite(hits.distances[:, 0])

    def by_distance() -> np.ndarray:
        return np.where(known, reference.distance_pvalue(np.where(known, hits.distances[:, 0], 0.0)), 1.0)

    if vote != "ontology":  # SCimilarity's: every cell gets a label
        return Answer(by_label, by_term, None, chosen, by_distance(), None, sets, stats, {})
    expression = Expression.of(data, reference, embedded, use_rep=use_rep)
    searched = reference.allowed(where=where, exclude=exclude)
    found = _novelty(expression, reference, by_distance, novelty_fdr, None if searched.all() else searched)
    chosen = np.where(found.novel, -1, chosen)
    return Answer(by_label, by_term, None, chosen, found.pvalues, found.novel, sets, stats, found.facts)


def names_of(inside: np.ndarray, by_label: np.ndarray, terms: TermSpace) -> list[str]:
    """Prediction sets as text, most probable label first."""
    names = terms.term_names[terms.label_term].astype(str)
    sizes = inside.sum(axis=1)
    sets = np.where(sizes == 1, names.astype(object)[inside.argmax(axis=1)], "")
    for row in np.flatnonzero(sizes > 1):
        members = np.flatnonzero(inside[row])
        sets[row] = ";".join(names[members[np.argsort(-by_label[row, members], kind="stable")]])
    return list(sets)
