"""Where queries were found: bars of one query, squares of several."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from _looks import overlaps, shown, texts
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

import scim
from scim.pl._figure import DARK, LIGHT, WARM


def drawn(adata: AnnData, **how: Any) -> Axes:
    ax = scim.pl.hits(adata, show=False, **how)
    assert isinstance(ax, Axes)
    return ax


@pytest.fixture
def made(plain: AnnData) -> AnnData:
    rows = [
        ("a", "label", "B cell", 60, 4, 0.6, 3.0, 0.001, 0.01),
        ("a", "label", "T cell", 40, 3, 0.4, 0.8, 1.0, 1.0),
        ("a", "tissue", "blood", 100, 5, 1.0, 1.0, 1.0, 1.0),
        ("a", "sample", "s1", 90, 1, 0.9, 9.0, np.nan, np.nan),
        ("b", "label", "T cell", 10, 2, 1.0, 2.0, 0.001, 0.02),
        ("b", "tissue", "lung", 10, 2, 1.0, 4.0, 0.2, 0.5),
    ]
    names = ["query", "column", "value", "n_cells", "n_samples", "fraction", "enrichment", "pvalue", "fdr"]
    plain.uns["scim_query"] = {"summary": pd.DataFrame(rows, columns=names), "queries": ["a", "b"]}
    return plain


def test_bars_are_shares_and_dark_if_enriched(made: AnnData) -> None:
    ax = drawn(made, query="a")
    bars = {round(bar.get_width(), 6): to_hex(bar.get_facecolor()) for bar in ax.patches}
    assert bars == {0.6: DARK, 0.4: LIGHT, 1.0: LIGHT}
    assert {"4, 0.01", "3, 1", "5, 1", "label", "tissue", "B cell", "blood"} <= set(texts(ax))
    assert "s1" not in texts(ax)
    ticks = next(line for line in ax.lines if line.get_marker() == "|")
    np.testing.assert_allclose(sorted(ticks.get_xdata()), [0.2, 0.5, 1.0])


def test_samples_and_columns_can_be_asked_for(made: AnnData) -> None:
    ax = drawn(made, query="a", column="sample")
    assert {"s1", "1"} <= set(texts(ax)) and "B cell" not in texts(ax)


def test_squares_count_samples_and_frame_what_is_enriched(made: AnnData) -> None:
    ax = drawn(made)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["a", "b"]
    squares = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert len(squares) == 5
    assert sum(to_hex(square.get_edgecolor()) == WARM for square in squares) == 2
    assert sorted(text.get_text() for text in ax.texts if text.get_text().isdigit()) == ["2", "2", "3", "4", "5"]
    darkness = {round(3 - sum(square.get_facecolor()[:3]), 3) for square in squares}
    assert len(darkness) == 3  # shares of 0.4, 0.6 and 1


def test_fewer_values_and_a_stricter_rate(made: AnnData) -> None:
    ax = drawn(made, query="a", n_values=1, fdr=0.001)
    assert "T cell" not in texts(ax) and {to_hex(bar.get_facecolor()) for bar in ax.patches} == {LIGHT}


def test_real_hits_are_drawn_without_overlap(annotated: AnnData) -> None:
    one, all_of_them = drawn(annotated, query="CD14+ monocyte"), drawn(annotated)
    for ax in (one, all_of_them):
        assert overlaps(list(ax.get_yticklabels())) == [] and len(shown(ax)) > 10
    assert "CD14+ monocyte" in one.get_xlabel()


def test_what_is_missing_is_named(made: AnnData, plain: AnnData) -> None:
    with pytest.raises(KeyError, match="query='c' is not a query"):
        scim.pl.hits(made, query="c")
    with pytest.raises(KeyError, match="column='organ' .*Available"):
        scim.pl.hits(made, column="organ")
    made.uns["scim_query"]["summary"] = made.uns["scim_query"]["summary"].iloc[:0]
    with pytest.raises(ValueError, match="There are no hits to draw"):
        scim.pl.hits(made)
    made.uns["scim_query"] = {"hits": 1}
    with pytest.raises(KeyError, match="Run scim.tl.query first"):
        scim.pl.hits(made)
