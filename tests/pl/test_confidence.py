"""Confidence by label, and against the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from _looks import texts
from anndata import AnnData
from matplotlib.axes import Axes

import scim
from scim.pl._confidence import wilson


def drawn(adata: AnnData, **how: Any) -> Axes:
    ax = scim.pl.confidence(adata, show=False, **how)
    assert isinstance(ax, Axes)
    return ax


@pytest.fixture
def made(annotated: AnnData) -> AnnData:
    """100 cells of confidence 0.95, of which 90 are right; 50 of 0.55, of which 10 are right; 20 that are finer."""
    cells = annotated[:170].copy()
    cells.obs["scim_label"] = pd.Categorical(["B cell"] * 150 + ["naive B cell"] * 20)
    truth = ["B cell"] * 90 + ["T cell"] * 10 + ["naive B cell"] * 10 + ["T cell"] * 40 + ["B cell"] * 20
    cells.obs["truth"] = pd.Categorical(truth)
    cells.obs["scim_confidence"] = [0.95] * 100 + [0.55] * 50 + [0.5] * 20
    cells.obs["scim_set"] = pd.Categorical(["B cell;T cell"] * 85 + ["B cell"] * 85)
    return cells


def test_dots_are_shares_of_right_labels(made: AnnData) -> None:
    ax = drawn(made, truth="truth")
    dots = next(line for line in ax.lines if line.get_marker() == "o" and line.get_linestyle() == "None")
    np.testing.assert_allclose(dots.get_xydata(), [[0.55, 0.2], [0.95, 0.9]], atol=1e-6)
    found = texts(ax)
    assert "100" in found and "50" in found  # cells of the bins
    assert any("labels: 67 % right, mean confidence 0.82" in text for text in found)
    assert "20 finer than the truth" in ax.get_xlabel()


def test_the_diamond_is_the_coverage_of_the_sets(made: AnnData) -> None:
    ax = drawn(made, truth="truth")
    diamond = next(line for line in ax.lines if line.get_marker() == "D")
    alpha = made.uns["scim"]["annotate"]["params"]["alpha"]
    # Of 170 sets, 85 have both types, and 15 + 20 of the others have the right one.
    covered = np.mean([t == "T cell" and i < 85 or "B" in t for i, t in enumerate(made.obs["truth"].astype(str))])
    np.testing.assert_allclose(diamond.get_xydata(), [[1 - alpha, covered]])


def test_real_labels_are_about_as_good_as_they_say(annotated: AnnData) -> None:
    ax = drawn(annotated, truth="cell_type")
    dots = next(line for line in ax.lines if line.get_marker() == "o" and line.get_linestyle() == "None")
    assert len(dots.get_xdata()) >= 3
    assert "without a truth" in ax.get_xlabel()


def test_without_truth_each_label_is_a_row(annotated: AnnData) -> None:
    ax = drawn(annotated)
    rows = [tick.get_text() for tick in ax.get_yticklabels()]
    sizes = annotated.obs["scim_label"].value_counts()
    assert len(rows) == (sizes > 0).sum()
    assert f"natural killer cell ({sizes['natural killer cell']})" in rows
    medians = [line for line in ax.lines if line.get_marker() == "o"]
    assert len(medians) == len(rows)


def test_what_cannot_be_compared_is_an_error(annotated: AnnData) -> None:
    annotated.obs["scim_label"] = pd.Categorical(["unassigned"] * annotated.n_obs)
    with pytest.raises(ValueError, match="truth='cell_type': no label can be compared"):
        scim.pl.confidence(annotated, truth="cell_type")
    with pytest.raises(ValueError, match="All cells are unassigned"):
        scim.pl.confidence(annotated)
    with pytest.raises(ValueError, match="n_bins must be at least 1"):
        scim.pl.confidence(annotated, truth="cell_type", n_bins=0)


def test_interval_of_wilson() -> None:
    low, high = wilson(np.array([0.5, 1.0]), np.array([10, 10]))
    np.testing.assert_allclose([*low, *high], [0.2366, 0.7225, 0.7634, 1.0], atol=2e-4)
