"""Labels of groups of cells, such as clusters, from what was found of their cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _keys
from .._validate import check_key
from ..labels import Vote, assign, cover, prediction_sets
from ._groups import Groups, is_number, read_groups
from ._labelling import names_of

if TYPE_CHECKING:
    from anndata import AnnData

    from ..ontology import TermSpace
    from ._labelling import Answer

#: Groups of a small dataset, and fewest cells of a group on average in a larger one.
_FEW = 50
_FEWEST_CELLS = 5
#: Share of the cells of a group, above which what holds of them holds of it.
_MOST = 0.5


def find_groups(adata: AnnData, by: str, *, key: str) -> Groups:
    """Read the groups of a column.

    Parameters
    ----------
    adata
        The cells.
    by
        The column of ``obs``.
    key
        Prefix of what will be written, ``by`` not among it.

    Raises
    ------
    KeyError
        There is no such column.
    ValueError
        It holds no groups: measurements, a name for each cell, nothing, or two that are written alike. Or something
        would be overwritten: the column, or a part of ``uns`` that scim did not write.
    """
    check_key(adata.obs, by, argument="by", where="adata.obs")
    if by in _keys.obs_annotation(key):
        raise ValueError(f"by={by!r} is a column that annotate writes. Copy it to another name, or change key_added=.")
    there = adata.uns.get(key, {}).get(_keys.CLUSTERS)
    if there is not None and not _is_ours(there):
        raise ValueError(
            f"adata.uns[{key!r}][{_keys.CLUSTERS!r}] holds what scim did not write. Choose another key_added=, or "
            "delete it."
        )
    groups = read_groups(adata.obs, by, argument="by")
    if len(groups.names) > max(_FEW, adata.n_obs // _FEWEST_CELLS) and not is_number(adata.obs[by]):
        raise ValueError(
            f"by={by!r} has {len(groups.names):,} groups for {adata.n_obs:,} cells. Choose a column of clusters, not "
            "one of cells."
        )
    return groups


def label_groups(groups: Groups, answer: Answer, terms: TermSpace, *, vote: Vote, alpha: float) -> pd.DataFrame:
    """Label each group as :func:`scim.tl.annotate` says, and sum up what was found of its cells.

    Parameters
    ----------
    groups
        The cells of each.
    answer
        What was found of them.
    terms
        The labels on the ontology.
    vote
        How the cells were labelled.
    alpha
        Tolerated error; see :func:`scim.tl.annotate`.

    Returns
    -------
    DataFrame with a row for each group, as :func:`scim.get.clusters` gives it.
    """
    by_label, chosen, novel = answer.by_label, answer.chosen, answer.novel
    n_cells = groups.sums(np.ones(len(chosen)))
    strange = np.zeros(len(chosen), dtype=bool) if novel is None else novel
    counted = by_label.any(axis=1) & ~strange
    n_counted = np.maximum(groups.sums(counted.astype(float)), 1.0)[:, None]
    mean = (groups.sums(np.where(counted[:, None], by_label, 0)) / n_counted).astype(np.float32)
    if answer.inside is None:
        inside, term = _by_votes(mean, terms, vote=vote, alpha=alpha)
    else:
        first = np.eye(by_label.shape[1], dtype=np.float32)[by_label.argmax(axis=1)]
        shares = (groups.sums(np.where(counted[:, None], part, 0)) / n_counted for part in (answer.inside, first))
        inside = _merged(*shares, alpha=alpha)
        inside[np.arange(len(inside)), mean.argmax(axis=1)] |= ~inside.any(axis=1)
        term = cover(inside, terms)
    share_novel = groups.sums(strange.astype(float)) / n_cells
    none = (share_novel > _MOST) | ~mean.any(axis=1)
    inside[none], term[none] = False, -1
    rival, rival_share = _rivals(mean, term, terms)
    return pd.DataFrame(
        {
            "group": pd.Categorical(groups.names, categories=groups.names),
            "cells": n_cells.astype(np.int64),
            "label": np.append(terms.term_names, _keys.UNASSIGNED)[term].astype(str),
            "term_id": np.append(terms.terms, "")[term].astype(str),
            "confidence": np.where(none | (term < 0), 0, _share(mean, term, terms)),
            "agreement": groups.sums(_is_below(chosen, term[groups.codes], terms).astype(float)) / n_cells,
            "unassigned": groups.sums((chosen < 0).astype(float)) / n_cells,
            "novel": np.nan if novel is None else share_novel,
            "set": names_of(inside, mean, terms),
            "runner_up": rival,
            "runner_up_confidence": rival_share,
        }
    )


def _merged(inside: np.ndarray, first: np.ndarray, *, alpha: float) -> np.ndarray:
    """Labels that cannot be ruled out for a group, given the shares of its cells for which they cannot, or come first.

    A label that is in most sets is in the group's. Where all cells have one label, and their sets hold it with a
    probability of ``1 - alpha``, that is so with one of ``1 - 2 alpha``, however much the cells depend on one another
    (Gasparin & Ramdas, Merging uncertainty sets via majority vote, 2024). Where they are a mixture, nothing may be in
    most sets: a label that comes first in more than ``alpha`` of them is kept as well.
    """
    return (inside > _MOST) | (first > alpha)


def _by_votes(mean: np.ndarray, terms: TermSpace, *, vote: Vote, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Find sets and terms of groups as of one cell that has the votes of all."""
    if vote == "ontology":
        by_term = mean @ terms.closure.astype(np.float32)
        return prediction_sets(mean, alpha=alpha), assign(by_term, terms, alpha=alpha)
    first = mean.argmax(axis=1)
    inside = (np.arange(mean.shape[1]) == first[:, None]) & (mean > 0)
    return inside, np.where(inside.any(axis=1), terms.label_term[first], -1)


def results(adata: AnnData, key: str, groups: Groups | None, table: pd.DataFrame | None) -> dict[str, dict[str, Any]]:
    """Return what to write of the groups; without them, that what was written of others is to go."""
    names = _keys.obs_cluster_label(key), _keys.obs_cluster_term_id(key)
    if groups is None or table is None:
        stale = _is_ours(adata.uns.get(key, {}).get(_keys.CLUSTERS))
        return {"obs": dict.fromkeys(names), "uns": {key: {_keys.CLUSTERS: None}}} if stale else {}
    columns = {}
    for name, column in zip(names, ("label", "term_id"), strict=True):
        known = pd.Categorical(table[column].astype(str))
        codes = np.where(groups.codes >= 0, known.codes[groups.codes], -1)
        columns[name] = pd.Series(pd.Categorical.from_codes(codes, known.categories), index=adata.obs_names)
    return {"obs": columns, "uns": {key: {_keys.CLUSTERS: table}}}


def _is_ours(table: Any) -> bool:
    return isinstance(table, pd.DataFrame) and {"group", "runner_up"} <= set(table)


def _share(mean: np.ndarray, term: np.ndarray, terms: TermSpace) -> np.ndarray:
    """Mean probability of each group's term, at most 1."""
    return np.minimum((mean * terms.closure.T[term]).sum(axis=1), 1.0).astype(np.float64)


def _is_below(chosen: np.ndarray, term: np.ndarray, terms: TermSpace) -> np.ndarray:
    """Whether each cell's term is its group's or below it, by the labels under the two."""
    pairs, which = np.unique(np.stack([chosen, term]), axis=1, return_inverse=True)
    below = [a >= 0 and b >= 0 and not (terms.closure[:, a] & ~terms.closure[:, b]).any() for a, b in pairs.T]
    return np.array(below, dtype=bool)[which.ravel()]


def _rivals(mean: np.ndarray, term: np.ndarray, terms: TermSpace) -> tuple[list[str], np.ndarray]:
    """Most probable label that is neither under the group's term nor above it, and its probability."""
    names, shares = [], np.zeros(len(term))
    for row, chosen in enumerate(term):
        other = np.ones(len(terms.labels), dtype=bool)
        if chosen >= 0:
            under = terms.closure[:, chosen]
            other = ~under & ~terms.closure[under].all(axis=0)[terms.label_term]
        probability = np.where(other, mean[row], 0)
        first = int(probability.argmax())
        shares[row] = probability[first]
        names.append(str(terms.term_names[terms.label_term[first]]) if probability[first] > 0 else "")
    return names, shares
