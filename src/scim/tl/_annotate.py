"""scim.tl.annotate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _keys
from .._validate import check_fraction, check_positive_int, did_you_mean, get_adata
from ..labels import PLAIN_VOTES, Vote, check_vote
from ..reference import Reference
from . import _group_labels as clusters
from ._cells import find_embedding
from ._labelling import Answer, calibrated, neighbours
from ._results import check_writable, copy_of, filter_text, merge_results, storable, write_results

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from ..ontology import TermSpace


def annotate(
    adata: AnnData | Any,
    reference: Reference | str | Path | None = None,
    *,
    use_rep: str = _keys.obsm_embedding(),
    alpha: float | None = None,
    novelty_fdr: float = 0.05,
    vote: Vote = "auto",
    k: int = 50,
    by: str | None = None,
    labels: Sequence[str] | None = None,
    where: Any = None,
    exclude: Any = None,
    recall: float | None = None,
    layer: str | None = None,
    mod: str | None = None,
    key_added: str = _keys.DEFAULT,
    client: Any = None,
    copy: bool = False,
) -> AnnData | Any | None:
    """Label cells on the Cell Ontology, as precisely as the tolerated error allows.

    Each label gets a probability from the reference's head, a linear one on the embedding in which rare labels weigh as
    much as common ones, and a conformal p-value: among cells of the label in studies that were left out, the share that
    fitted it as badly. These are the reference's landmarks with a seventh of their counts, where it keeps some: the
    encoder was trained on them, and in full they would fit better than a new study's cells do. The labels that cannot
    be ruled out at ``alpha`` are the prediction set, and a cell gets the most specific term that covers its set: a leaf
    where one label remains, a broader term ("T cell") where several do, and "unassigned" where only terms that say
    nothing ("cell") would cover them, or where the cell is unlike anything in the reference. Where the cells lack genes
    that matter, the reference's landmarks are embedded anew without these genes, and the head is fitted to them. Where
    labels come from studies of a small panel only, cells and landmarks are compared in the genes of that panel: with
    all genes, cells never get such a label.

    Parameters
    ----------
    adata
        AnnData, or MuData with ``mod``. Cells that are not embedded yet are.
    reference
        A reference, its path or its name; the bundled reference of blood by default.
    use_rep
        Embedding in ``obsm`` to start from.
    alpha
        Tolerated error, below 0.5; 0.1 by default. The prediction set holds the true label for ``1 - alpha`` of the
        cells, if their study differs from the reference's no more than these do from one another. An ``alpha`` below
        one in the cells that were left out, a few thousand at most, rules nothing out. For ``vote="ontology"``, the
        share of the votes that may be for something else than the label, 0.3 by default.
    novelty_fdr
        Cells whose novelty is significant at this false discovery rate (Benjamini-Hochberg over the cells) are
        unassigned. Cells of another platform or tissue are novel, too, whatever their kind; 0, for cells that are known
        to be of the reference's kinds, gives these what their sets allow. SCimilarity's votes, ``"majority"`` and
        ``"weighted"``, label every cell.
    vote
        ``"calibrated"``, as above; ``"ontology"``, votes of the ``k`` nearest labelled cells, the nearer ones more
        (``exp(-d / h)``, h the median distance of the cell's neighbours), summed up the ontology: the most specific
        term with ``1 - alpha`` of them. ``"majority"`` and ``"weighted"`` are SCimilarity's votes: the label with most,
        each worth one or the inverse of its distance, without ancestors and without "unassigned"; ``alpha`` is not
        used. ``"auto"`` is calibrated, but ontology where a filter leaves a part of the reference, whose head it is
        not, or where the reference has fewer than two labels.
    k
        Neighbours that vote, where they do.
    by
        Column of ``obs`` with groups, such as ``"leiden"``, to be labelled too; labels of cells stay as they are. A
        group gets the term that covers the labels which most of its cells' sets hold, and those that come first in more
        than ``alpha`` of its cells, so that a mixture is called by what its parts have in common. For votes, it is
        labelled like one cell with the votes of all. A group of which most cells are unlike anything is unassigned.
    labels
        Names or ids of terms: only these, and their descendants, are considered. Cells of other labels get one of them
        all the same, with a confidence that only compares these; a warning says how many these seem to be. Novelty
        stays what it is against the whole reference (for SCimilarity's votes: the distance to the nearest cell of these
        labels).
    where, exclude
        Filters on the reference's metadata, such as ``exclude={"study": "mine"}``; see :meth:`scim.Reference.search`.
    recall
        Share of the true neighbours that a vote is to be of, 0 to 1, in a reference so large that an index is searched;
        None: what it was built for. Less is quicker, and changes labels where neighbours disagree.
    layer
        Where the values are, for cells that are not embedded yet; see :func:`scim.tl.embed`.
    mod
        Modality of a MuData.
    key_added
        Prefix of what is written.
    client
        A ``distributed.Client``: workers of its cluster search the reference, see :meth:`scim.Reference.search`.
    copy
        Return a copy instead of writing to ``adata``.

    Returns
    -------
    None, or the copy. Writes, for ``key_added="scim"``:

    ``obs["scim_label"]``, ``obs["scim_term_id"]``
        Name and id of the term, categorical; ``"unassigned"`` and ``""`` for none.
    ``obs["scim_confidence"]``
        Probability of the term (or share of the votes), 0 to 1; 0 for an unassigned cell.
    ``obs["scim_novelty"]``
        Conformal p-value: small is unlike anything in the reference, or in what ``where`` and ``exclude`` leave of it
        if that is of two studies which share labels and measured no panel (``novelty_filtered`` in ``uns``); cells
        whose nearest kin is left out are seldom that unlike the rest. 1 for a cell without counts. Compared is the
        expression of a cell with the mean of each label, by correlation, against landmarks of studies left out, thinned
        to the depth of the query; for SCimilarity's votes, and where there are no counts or no landmarks, the distance
        to the nearest cell in the embedding, which tells far less: all cells come to lie near those that the encoder
        knows.
    ``obs["scim_set"]``
        The prediction set, most probable label first, joined by ``";"`` (for votes, the fewest labels that hold
        ``1 - alpha`` of them). Of a novel cell, it says what the label would be. Sets of a smaller ``alpha`` hold those
        of a larger one but where labels have too few scores for it, see ``pooled_labels``: those of all labels stand
        in, and may rule out more.
    ``obsm["scim_scores"]``
        Probability (or share of the votes) per term, a DataFrame with a column per term name (a slash in it becomes
        ``|``).
    ``obsm["scim_votes"]``
        For ``vote="majority"`` and ``"weighted"`` only, SCimilarity's statistics: ``min_dist`` and ``max_dist`` of the
        neighbours, ``vs2nd`` and ``vsAll`` (votes of the label over those of the first two, and of all), and both with
        votes weighted.
    ``obs["scim_cluster_label"]``, ``obs["scim_cluster_term_id"]``
        With ``by``: name and id of the term of the cell's group, categorical; missing for a cell without a group.
    ``uns["scim"]["clusters"]``
        With ``by``: a table of the groups, see :func:`scim.get.clusters`.
    ``uns["scim"]["annotate"]``
        Parameters, reference, versions, how it was calibrated (``"within-study"`` where the reference has one study,
        which promises too much), the labels of which studies left out have fewer than 20 cells, or 1/alpha, so that the
        scores of all labels stand in (``pooled_labels``, joined by ``";"``), whether landmarks took the place of the
        reference's cells, in how many genes cells were labelled (``n_genes``), and what novelty was told by.

    Raises
    ------
    ValueError
        The embedding is another encoder's; a filter leaves nothing; ``alpha`` or ``k`` is out of range; ``by`` holds
        measurements, or a group for each cell.
    KeyError
        There is no such embedding, label, column or modality.

    References
    ----------
    Vovk, Gammerman & Shafer, *Algorithmic Learning in a Random World*, 2005. Angelopoulos & Bates, *Conformal
    Prediction: A Gentle Introduction*, 2023. Groups: Gasparin & Ramdas, *Merging uncertainty sets via majority vote*,
    2024.

    Examples
    --------
    >>> import numpy as np
    >>> import scim
    >>> from scim.genes._space import GeneSpace
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
    check_vote(vote)
    check_fraction(novelty_fdr, argument="novelty_fdr")
    if recall is not None:
        check_fraction(recall, argument="recall")
    if alpha is not None:
        check_fraction(alpha, argument="alpha", high=0.4999)
    data = get_adata(adata, mod=mod)
    check_writable(data, key_added, copy=copy)
    _check_columns(data, key_added)
    groups = None if by is None else clusters.find_groups(data, by, key=key_added)
    opened = Reference.open(reference)
    if labels is not None and (isinstance(labels, str) or not isinstance(labels, Iterable)):
        raise TypeError(f"labels must be a list of terms, got {labels!r}. Write labels=[{labels!r}].")
    labels = None if labels is None else list(labels)
    allowed = None if labels is None else _chosen_labels(opened.terms, labels)
    # Filters are checked before the cells are embedded, which takes longer.
    vote = _resolve_vote(vote, opened, where=where, exclude=exclude)
    embedded = find_embedding(data, opened, use_rep=use_rep, key=key_added, layer=layer)
    if vote == "calibrated":
        alpha = 0.1 if alpha is None else float(alpha)
        answer = calibrated(data, opened, embedded, use_rep, allowed, alpha, novelty_fdr, client=client)
    else:
        alpha = 0.3 if alpha is None else float(alpha)
        asked = (data, opened, embedded, use_rep, vote, k, allowed, alpha, novelty_fdr)
        answer = neighbours(*asked, where=where, exclude=exclude, recall=recall, client=client)
    params = {"use_rep": use_rep, "k": k, "alpha": alpha, "novelty_fdr": novelty_fdr, "vote": vote}
    params |= {"labels": list(map(str, labels or [])), "where": filter_text(where), "exclude": filter_text(exclude)}
    params |= {"by": by or "", "recall": "" if recall is None else recall}
    table = None if groups is None else clusters.label_groups(groups, answer, opened.terms, vote=vote, alpha=alpha)
    results: dict[str, dict[str, Any]] = {
        "obs": _obs(answer, opened.terms, data, key_added),
        "obsm": _obsm(answer, opened.terms, data, key_added),
        "uns": {
            key_added: {
                "annotate": _record(opened, params, n_unassigned=int((answer.chosen < 0).sum()), **answer.facts)
            }
        },
    }
    out = copy_of(adata) if copy else adata
    write_results(
        get_adata(out, mod=mod),
        merge_results(
            embedded.results(use_rep, use_rep.removeprefix("X_")),
            results,
            clusters.results(data, key_added, groups, table),
        ),
    )
    return out if copy else None


def _check_columns(data: AnnData, key: str) -> None:
    """Refuse to write over columns that somebody else wrote."""
    names = [_keys.obs_label(key), _keys.obs_term_id(key), _keys.obs_confidence(key), _keys.obs_novelty(key)]
    taken = [name for name in (*names, _keys.obs_set(key)) if name in data.obs]
    if taken and key != _keys.DEFAULT and "annotate" not in data.uns.get(key, {}):
        raise ValueError(
            f"adata.obs has {', '.join(map(repr, taken))} already, which scim did not write. Choose another key_added, "
            "or delete them."
        )


def _resolve_vote(vote: Vote, reference: Reference, *, where: Any, exclude: Any) -> Vote:
    """Decide what ``"auto"`` means, and refuse what cannot be."""
    reference.allowed(where=where, exclude=exclude)
    # An empty filter is none.
    filtered = any(f is not None and not (isinstance(f, Mapping) and not f) for f in (where, exclude))
    has_head = reference.judge().calibration.head is not None
    if vote == "auto":
        return "calibrated" if has_head and not filtered else "ontology"
    if vote == "calibrated" and filtered:
        raise ValueError(
            "vote='calibrated' labels with the whole reference, not with what where= or exclude= leave of it. Leave "
            "out the filter, or take vote='ontology'."
        )
    if vote == "calibrated" and not has_head:
        raise ValueError("vote='calibrated' needs a reference with two labels or more. Take vote='ontology'.")
    return vote


def _chosen_labels(terms: TermSpace, labels: Sequence[str]) -> np.ndarray:
    """Labels that are one of the given terms or below one, bool (n_labels + 1,); the last stands for no label."""
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


def _obs(answer: Answer, terms: TermSpace, data: AnnData, key: str) -> dict[str, pd.Series]:
    chosen = answer.chosen
    names = np.append(terms.term_names, _keys.UNASSIGNED)[chosen]
    ids = np.append(terms.terms, "")[chosen]
    confidence = np.where(chosen < 0, 0.0, answer.by_term[np.arange(len(chosen)), np.maximum(chosen, 0)])
    columns: dict[str, Any] = {
        _keys.obs_label(key): pd.Categorical(names.astype(str)),
        _keys.obs_term_id(key): pd.Categorical(ids.astype(str)),
        _keys.obs_confidence(key): np.clip(confidence, 0, 1).astype(np.float32),
        _keys.obs_novelty(key): answer.novelty.astype(np.float32),
        _keys.obs_set(key): pd.Categorical(answer.sets),
    }
    return {name: pd.Series(values, index=data.obs_names) for name, values in columns.items()}


def _obsm(answer: Answer, terms: TermSpace, data: AnnData, key: str) -> dict[str, pd.DataFrame | None]:
    tables: dict[str, pd.DataFrame | None] = {_keys.obsm_scores(key): _scores(answer.by_term, terms, data.obs_names)}
    if answer.stats:
        tables[_keys.obsm_votes(key)] = pd.DataFrame(answer.stats, index=data.obs_names)
    elif _earlier_vote(data, key) in PLAIN_VOTES:  # what it left is not of these labels
        tables[_keys.obsm_votes(key)] = None
    return tables


def _earlier_vote(data: AnnData, key: str) -> str | None:
    params = data.uns.get(key, {}).get("annotate", {}).get("params", {})
    return str(params["vote"]) if "vote" in params else None


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
