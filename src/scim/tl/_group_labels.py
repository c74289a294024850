"""Label groups of cells, such as clusters, from the labels of their cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _keys
from .._validate import check_key
from ..labels import Vote, assign, cover, prediction_sets
from ._groups import Groups, is_number, read_groups
from ._labelling import Answer, Labelling, set_texts

if TYPE_CHECKING:
    from anndata import AnnData

    from ..ontology import TermSpace

#: Number of groups that is always accepted.
_ACCEPTED_GROUPS = 50
#: Smallest mean number of cells of a group if there are more groups.
_MIN_CELLS_PER_GROUP = 5
#: A label is in the set of a group, and a group is novel, if this is so for more than this share of its cells.
_MAJORITY = 0.5


def find_groups(adata: AnnData, by: str, *, key: str) -> Groups:
    """Read the groups of the column ``by``; ``key`` is the prefix of the results.

    Raises
    ------
    KeyError
        The column is not there.
    ValueError
        The column does not hold groups, but measurements, a name for each cell, nothing, or two groups with the same
        text. Or a result would overwrite the column, or a part of ``uns`` that scim did not write.
    """
    check_key(adata.obs, by, argument="by", where="adata.obs")
    if by in _keys.obs_annotation(key):
        raise ValueError(f"by={by!r} is a column that annotate writes. Copy it to another name, or change key_added=.")
    there = adata.uns.get(key, {}).get(_keys.CLUSTERS)
    if there is not None and not _is_ours(there):
        raise ValueError(
            f"adata.uns[{key!r}][{_keys.CLUSTERS!r}] exists, and scim did not write it. Choose another key_added=, "
            "or delete it."
        )
    groups = read_groups(adata.obs, by, argument="by")
    if len(groups.names) > max(_ACCEPTED_GROUPS, adata.n_obs // _MIN_CELLS_PER_GROUP) and not is_number(adata.obs[by]):
        raise ValueError(
            f"by={by!r} has {len(groups.names):,} groups for {adata.n_obs:,} cells. Choose a column of clusters, "
            "not of cells."
        )
    return groups


def label_groups(groups: Groups, answer: Answer, terms: TermSpace, how: Labelling) -> pd.DataFrame:
    """Label each group, see :func:`scim.tl.annotate`; return the table of :func:`scim.get.clusters`."""
    by_label, chosen, novel, alpha = answer.by_label, answer.chosen, answer.novel, how.alpha
    assert alpha is not None  # how is resolved
    n_cells = groups.sums(np.ones(len(chosen)))
    strange = np.zeros(len(chosen), dtype=bool) if novel is None else novel
    counted = by_label.any(axis=1) & ~strange
    n_counted = np.maximum(groups.sums(counted.astype(float)), 1.0)[:, None]
    mean = (groups.sums(np.where(counted[:, None], by_label, 0)) / n_counted).astype(np.float32)
    if answer.inside is None:
        inside, term = _by_votes(mean, terms, vote=how.vote, alpha=alpha)
    else:
        first = np.eye(by_label.shape[1], dtype=np.float32)[by_label.argmax(axis=1)]
        shares = (groups.sums(np.where(counted[:, None], part, 0)) / n_counted for part in (answer.inside, first))
        inside = _merged(*shares, alpha=alpha)
        inside[np.arange(len(inside)), mean.argmax(axis=1)] |= ~inside.any(axis=1)
        term = cover(inside, terms)
    share_novel = groups.sums(strange.astype(float)) / n_cells
    none = (share_novel > _MAJORITY) | ~mean.any(axis=1)
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
            "set": set_texts(inside, mean, terms),
            "runner_up": rival,
            "runner_up_confidence": rival_share,
        }
    )


def _merged(inside: np.ndarray, first: np.ndarray, *, alpha: float) -> np.ndarray:
    """Merge prediction sets of cells, given the share of cells whose set has a label, and in which it comes first.

    A label that is in most sets is in the set of the group. If all cells have one label, and their sets contain it with
    probability ``1 - alpha``, the set of the group contains it with probability ``1 - 2 alpha``, even if cells depend
    on each other (Gasparin & Ramdas, Merging uncertainty sets via majority vote, 2024). In a mixture, no label may be
    in most sets: a label that comes first in more than ``alpha`` of the cells is also in the set of the group.
    """
    return (inside > _MAJORITY) | (first > alpha)


def _by_votes(mean: np.ndarray, terms: TermSpace, *, vote: Vote, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Find sets and terms of groups, each like one cell with the votes of all its cells."""
    if vote == "ontology":
        by_term = mean @ terms.closure.astype(np.float32)
        return prediction_sets(mean, alpha=alpha), assign(by_term, terms, alpha=alpha)
    first = mean.argmax(axis=1)
    inside = (np.arange(mean.shape[1]) == first[:, None]) & (mean > 0)
    return inside, np.where(inside.any(axis=1), terms.label_term[first], -1)


def group_results(
    adata: AnnData, key: str, groups: Groups | None, table: pd.DataFrame | None
) -> dict[str, dict[str, Any]]:
    """Return the columns and table of the groups; without groups, remove those of an earlier call."""
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
    """Whether an entry of ``uns`` is a table of groups that scim wrote."""
    return isinstance(table, pd.DataFrame) and {"group", "runner_up"} <= set(table)


def _share(mean: np.ndarray, term: np.ndarray, terms: TermSpace) -> np.ndarray:
    """Return the mean probability of the term of each group, at most 1."""
    return np.minimum((mean * terms.closure.T[term]).sum(axis=1), 1.0).astype(np.float64)


def _is_below(chosen: np.ndarray, term: np.ndarray, terms: TermSpace) -> np.ndarray:
    """Whether the term of each cell is the term of its group or a descendant, by the labels under both."""
    pairs, which = np.unique(np.stack([chosen, term]), axis=1, return_inverse=True)
    below = [a >= 0 and b >= 0 and not (terms.closure[:, a] & ~terms.closure[:, b]).any() for a, b in pairs.T]
    return np.array(below, dtype=bool)[which.ravel()]


def _rivals(mean: np.ndarray, term: np.ndarray, terms: TermSpace) -> tuple[list[str], np.ndarray]:
    """Find the most probable label that is not under or above the term of each group, and its probability."""
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
