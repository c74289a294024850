"""Label groups of cells, such as clusters, from the labels of their cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _keys
from .._validate import check_key
from ..labels import PLAIN_VOTES, assign, prediction_sets, set_texts
from ._groups import Groups, is_number, read_groups
from ._labelling import Answer, Labelling

if TYPE_CHECKING:
    from anndata import AnnData

    from ..ontology import TermSpace

#: Number of groups that is always accepted.
_ACCEPTED_GROUPS = 50
#: Smallest mean number of cells of a group if there are more groups.
_MIN_CELLS_PER_GROUP = 5
#: A group is unassigned if this share of its cells or more are novel or hardly have a count.
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
    by_label, chosen, novel = answer.by_label, answer.chosen, answer.novel
    n_cells = groups.sums(np.ones(len(chosen)))
    strange = np.zeros(len(chosen), dtype=bool) if novel is None else novel
    counted = by_label.any(axis=1) & ~strange
    if answer.empty is not None:
        counted &= ~answer.empty
    n_counted = np.maximum(groups.sums(counted.astype(float)), 1.0)[:, None]
    mean = (groups.sums(np.where(counted[:, None], by_label, 0)) / n_counted).astype(np.float32)
    first = np.eye(by_label.shape[1], dtype=np.float32)[by_label.argmax(axis=1)]
    votes = (groups.sums(np.where(counted[:, None], first, 0)) / n_counted).astype(np.float32)
    if how.vote in PLAIN_VOTES:  # never an ancestor
        term, inside = terms.label_term[mean.argmax(axis=1)], np.eye(mean.shape[1], dtype=bool)[mean.argmax(axis=1)]
    else:
        term = assign(votes @ terms.closure.astype(np.float32), terms, enough=how.min_probability)
        inside = prediction_sets(votes, alpha=how.alpha)
    share_novel = groups.sums(strange.astype(float)) / n_cells
    # Few cells do not speak for a group of novel cells and empty droplets.
    none = (groups.sums(counted.astype(float)) <= (1 - _MAJORITY) * n_cells) | ~mean.any(axis=1)
    inside[none], term = False, np.where(none, -1, term)
    rival, rival_share = _rivals(mean, term, terms)
    return pd.DataFrame(
        {
            "group": pd.Categorical(groups.names, categories=groups.names),
            "cells": n_cells.astype(np.int64),
            "label": np.append(terms.term_names, _keys.UNASSIGNED)[term].astype(str),
            "term_id": np.append(terms.terms, "")[term].astype(str),
            "confidence": np.where(term < 0, 0, _share(mean, term, terms)),
            "agreement": np.where(term < 0, 0, _share(votes, term, terms) * n_counted[:, 0] / n_cells),
            "unassigned": groups.sums((chosen < 0).astype(float)) / n_cells,
            "novel": np.nan if novel is None else share_novel,
            "well_represented": np.nan
            if answer.represented is None
            else groups.sums(answer.represented.astype(float)) / n_cells,
            "set": set_texts(inside, votes, terms),
            "runner_up": rival,
            "runner_up_confidence": rival_share,
        }
    )


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
