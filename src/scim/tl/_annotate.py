"""scim.tl.annotate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _keys
from .._validate import check_fraction, check_positive_int, did_you_mean, get_adata
from ..reference import Reference
from ..reference._votes import Vote, assign, check_vote, plain_vote, prediction_sets
from ..reference._votes import vote as ontology_vote
from ._common import check_writable, copy_of, filter_text, find_embedding, merge_results, storable, write_results

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from ..ontology import TermSpace


def annotate(
    adata: AnnData | Any,
    reference: Reference | str | Path | None = None,
    *,
    use_rep: str = _keys.obsm_embedding(),
    k: int = 50,
    alpha: float = 0.3,
    vote: Vote = "ontology",
    labels: Sequence[str] | None = None,
    where: Any = None,
    exclude: Any = None,
    layer: str | None = None,
    mod: str | None = None,
    key_added: str = _keys.DEFAULT,
    copy: bool = False,
) -> AnnData | Any | None:
    """Label cells by a vote of the reference cells most like them, on the Cell Ontology.

    The ``k`` nearest labelled cells vote, the nearer ones more (``exp(-d / h)``, h the median distance of the cell's
    neighbours). A vote for a term is also one for each of its ancestors, and a cell gets the most specific term that
    holds at least ``1 - alpha`` of the votes: where neighbours disagree, a broader one ("T cell"), and "unassigned"
    where only terms that say nothing ("cell") would hold enough.

    Parameters
    ----------
    adata
        AnnData, or MuData with ``mod``. Cells that are not embedded yet are.
    reference
        A reference, or its path.
    use_rep
        Embedding in ``obsm`` to start from.
    k
        Neighbours that vote.
    alpha
        Share of the votes that may be for something else than the label, below 0.5. It is a share of votes, not yet a
        guaranteed rate of errors.
    vote
        ``"ontology"``, as above. ``"majority"`` and ``"weighted"`` are SCimilarity's: the label with most votes, each
        worth one or the inverse of its distance, without ancestors and without "unassigned"; ``alpha`` is not used.
    labels
        Names or ids of terms: only reference cells of these, or of their descendants, vote.
    where, exclude
        Filters on the reference's metadata, such as ``exclude={"study": "mine"}``; see :meth:`scim.Reference.search`.
    layer
        Where the values are, for cells that are not embedded yet; see :func:`scim.tl.embed`.
    mod
        Modality of a MuData.
    key_added
        Prefix of what is written.
    copy
        Return a copy instead of writing to ``adata``.

    Returns
    -------
    None, or the copy. Writes, for ``key_added="scim"``:

    ``obs["scim_label"]``, ``obs["scim_term_id"]``
        Name and id of the term, categorical; ``"unassigned"`` and ``""`` for none.
    ``obs["scim_confidence"]``
        Share of the votes that the term holds, 0 to 1; 0 for an unassigned cell.
    ``obs["scim_novelty"]``
        P-value of the distance to the nearest reference cell: small is unlike anything in the reference. 1 for a cell
        without counts.
    ``obs["scim_set"]``
        The fewest labels that hold ``1 - alpha`` of the votes, joined by ``";"``.
    ``obsm["scim_scores"]``
        Share of the votes per term, a DataFrame with a column per term name (a slash in it becomes ``|``).
    ``obsm["scim_votes"]``
        For ``vote="majority"`` and ``"weighted"`` only, SCimilarity's statistics: ``min_dist`` and ``max_dist`` of the
        neighbours, ``vs2nd`` and ``vsAll`` (votes of the label over those of the first two, and of all), and both with
        votes weighted.
    ``uns["scim"]["annotate"]``
        Parameters, reference and versions.

    Raises
    ------
    ValueError
        The embedding is another encoder's; a filter leaves nothing; ``alpha`` or ``k`` is out of range.
    KeyError
        There is no such embedding, label, column or modality.

    Examples
    --------
    >>> import numpy as np
    >>> import scim
    >>> from scim.genes import GeneSpace
    >>> adata = scim.datasets.pbmc68k()
    >>> genes = GeneSpace.from_adata(adata)
    >>> matrix = np.random.default_rng(0).normal(size=(16, len(genes)))
    >>> encoder = scim.Encoder(
    ...     genes, {"output.weight": matrix, "output.bias": np.zeros(16)}
    ... )  # stands for a trained one
    >>> reference = scim.Reference.build(
    ...     "blood.scim", adata[100:], encoder, labels_key="cell_type", study_key="channel"
    ... )
    >>> new = adata[:100].copy()
    >>> scim.tl.annotate(new, reference)
    >>> [column for column in new.obs if column.startswith("scim")]
    ['scim_label', 'scim_term_id', 'scim_confidence', 'scim_novelty', 'scim_set']
    """
    k = check_positive_int(k, argument="k")
    alpha = check_fraction(alpha, argument="alpha", high=0.4999)
    check_vote(vote)
    data = get_adata(adata, mod=mod)
    check_writable(data, key_added, copy=copy)
    opened = Reference.open(reference)
    voters = opened.label_codes >= 0
    if labels is not None:
        voters &= _chosen_labels(opened.terms, labels)[opened.label_codes]
    # Filters are checked before the cells are embedded, which takes longer.
    opened.allowed(where=where, exclude=exclude)
    embedded = find_embedding(data, opened, use_rep=use_rep, key=key_added, layer=layer)
    within = None if voters.all() else voters
    hits = opened.search(embedded.vectors, k, where=where, exclude=exclude, within=within)
    codes = np.where(hits.indices >= 0, opened.label_codes[hits.indices], -1)
    by_label, by_term, chosen, stats = _count(hits.distances, codes, opened.terms, vote, alpha)
    sets = _sets(by_label, opened.terms, alpha, chosen if vote != "ontology" else None)
    known = np.isfinite(hits.distances[:, 0])
    novelty = np.where(known, opened.distance_pvalue(np.where(known, hits.distances[:, 0], 0.0)), 1.0)
    results: dict[str, dict[str, Any]] = {
        "obs": _obs(by_term, chosen, novelty, sets, opened.terms, data, key_added),
        "obsm": {_keys.obsm_scores(key_added): _scores(by_term, opened.terms, data.obs_names)}
        | ({_keys.obsm_votes(key_added): pd.DataFrame(stats, index=data.obs_names)} if stats else {}),
        "uns": {
            key_added: {
                "annotate": _record(
                    opened,
                    {"use_rep": use_rep, "k": k, "alpha": alpha, "vote": vote, "labels": list(map(str, labels or []))}
                    | {"where": filter_text(where), "exclude": filter_text(exclude)},
                    n_unassigned=int((chosen < 0).sum()),
                )
            }
        },
    }
    out = copy_of(adata) if copy else adata
    write_results(
        get_adata(out, mod=mod), merge_results(embedded.results(use_rep, use_rep.removeprefix("X_")), results)
    )
    return out if copy else None


def _count(
    distances: np.ndarray, codes: np.ndarray, terms: TermSpace, vote: Vote, alpha: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Votes per label and per term, the term of each cell (-1: none), and statistics of a plain vote."""
    if vote == "ontology":
        by_label, by_term = ontology_vote(distances, codes, terms)
        return by_label, by_term, assign(by_term, terms, alpha=alpha), {}
    by_label, best, stats = plain_vote(distances, codes, len(terms.labels), weighted=vote == "weighted")
    chosen = np.append(terms.label_term, -1)[best]
    return by_label, by_label @ terms.closure.astype(np.float32), chosen, stats


def _chosen_labels(terms: TermSpace, labels: Sequence[str]) -> np.ndarray:
    """Labels that are one of the given terms or below one, bool (n_labels + 1,); the last stands for no label."""
    if isinstance(labels, str):
        raise TypeError(f"labels must be a list of terms, got the text {labels!r}. Write labels=[{labels!r}].")
    place = {str(t).casefold(): i for names in (terms.term_names, terms.terms) for i, t in enumerate(names)}
    chosen = np.zeros(len(terms.labels) + 1, dtype=bool)
    for label in labels:
        if str(label).casefold() not in place:
            raise KeyError(
                f"labels holds {label!r}, which is no term of the reference. {did_you_mean(label, terms.term_names)}"
            )
        chosen[:-1] |= terms.closure[:, place[str(label).casefold()]]
    if not chosen.any():
        raise ValueError("labels is empty: name at least one term, or leave it out.")
    return chosen


def _obs(
    by_term: np.ndarray,
    chosen: np.ndarray,
    novelty: np.ndarray,
    sets: list[str],
    terms: TermSpace,
    data: AnnData,
    key: str,
) -> dict[str, pd.Series]:
    names = np.append(terms.term_names, _keys.UNASSIGNED)[chosen]
    ids = np.append(terms.terms, "")[chosen]
    confidence = np.where(chosen < 0, 0.0, by_term[np.arange(len(chosen)), np.maximum(chosen, 0)])
    columns: dict[str, Any] = {
        _keys.obs_label(key): pd.Categorical(names.astype(str)),
        _keys.obs_term_id(key): pd.Categorical(ids.astype(str)),
        _keys.obs_confidence(key): np.clip(confidence, 0, 1).astype(np.float32),
        _keys.obs_novelty(key): novelty.astype(np.float32),
        _keys.obs_set(key): pd.Categorical(sets),
    }
    return {name: pd.Series(values, index=data.obs_names) for name, values in columns.items()}


def _sets(by_label: np.ndarray, terms: TermSpace, alpha: float, chosen: np.ndarray | None) -> list[str]:
    """Prediction sets as text, most votes first; of a plain vote, what was chosen."""
    if chosen is not None:
        return list(np.append(terms.term_names, "")[chosen].astype(str))
    names = terms.term_names[terms.label_term].astype(str)
    inside = prediction_sets(by_label, alpha=alpha)
    sizes = inside.sum(axis=1)
    sets = np.where(sizes == 1, names.astype(object)[inside.argmax(axis=1)], "")
    for row in np.flatnonzero(sizes > 1):
        members = np.flatnonzero(inside[row])
        sets[row] = ";".join(names[members[np.argsort(-by_label[row, members], kind="stable")]])
    return list(sets)


def _scores(by_term: np.ndarray, terms: TermSpace, cells: pd.Index) -> pd.DataFrame:
    columns: list[str] = []
    for name in map(storable, map(str, terms.term_names)):
        columns.append(name if name not in columns else f"{name} ({len(columns)})")
    return pd.DataFrame(by_term, index=cells, columns=columns)


def _record(reference: Reference, params: dict[str, Any], **facts: Any) -> dict[str, Any]:
    info = reference.info()
    return {
        "params": params,
        "reference": {
            "name": reference.path.name,
            "cells": info["cells"],
            "encoder_id": info["encoder"],
            "ontology": info["ontology"],
            "calibration": info["calibration"],
        },
        "versions": info["made_with"],
        **facts,
    }
