"""Novelty of groups, and the share that is well represented."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from _looks import texts
from anndata import AnnData
from matplotlib.axes import Axes

import scim


def drawn(adata: AnnData, **how: Any) -> Axes:
    ax = scim.pl.novelty(adata, show=False, **how)
    assert isinstance(ax, Axes)
    return ax


def rows(ax: Axes) -> list[str]:
    return [tick.get_text() for tick in ax.get_yticklabels()]


def test_groups_of_the_annotation_are_the_default(annotated: AnnData) -> None:
    ax = drawn(annotated)
    sizes = annotated.obs["gate"].value_counts()
    assert set(rows(ax)) == {f"{name} ({n})" for name, n in sizes.items()}
    assert ax.get_xlabel().startswith("novelty, by gate")


def test_without_groups_labels_are(annotated: AnnData) -> None:
    annotated.uns["scim"]["annotate"]["params"]["by"] = ""
    assert any(row.startswith("CD14+ monocyte (") for row in rows(drawn(annotated)))


def test_medians_shares_and_limits(annotated: AnnData) -> None:
    groups = np.resize(["10", "9"], annotated.n_obs)
    annotated.obs["mine"] = groups
    annotated.obs["scim_novelty"] = np.where(groups == "9", 0.1, np.resize([0.4, 0.6, 0.6, 0.6], annotated.n_obs))
    annotated.obs.loc[groups == "10", "scim_novelty"] = np.resize([0.4, 0.6, 0.6, 0.6], (groups == "10").sum())
    ax = drawn(annotated, by="mine")
    assert rows(ax) == ["9 (100)", "10 (100)"]  # numbers in their order
    medians = [float(line.get_xdata()[0]) for line in ax.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(medians, [0.1, 0.6])
    assert {"100 %", "25 %"} <= set(texts(ax))
    limits = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() in ("--", ":")]
    np.testing.assert_allclose(sorted(limits), [0.5, 0.75])
    assert "right of the dotted line: unassigned" in ax.get_xlabel()


def test_categories_keep_their_order_and_cells_without_a_group_are_left_out(annotated: AnnData) -> None:
    values = np.resize(["late", "early", None], annotated.n_obs)
    annotated.obs["stage"] = pd.Categorical(values, categories=["early", "none", "late"])
    assert [row.split()[0] for row in rows(drawn(annotated, by="stage"))] == ["early", "late"]


def test_what_is_missing_is_named(annotated: AnnData) -> None:
    with pytest.raises(KeyError, match="by='sampl' is not in adata.obs"):
        scim.pl.novelty(annotated, by="sampl")
    with pytest.raises(ValueError, match="has 0 groups, but needs 1 to 200"):
        annotated.obs["none"] = pd.Categorical([None] * annotated.n_obs, categories=["a"])
        scim.pl.novelty(annotated, by="none")
    del annotated.obs["scim_novelty"]
    with pytest.raises(KeyError, match="no 'scim_novelty'. Run scim.tl.annotate first"):
        scim.pl.novelty(annotated)
