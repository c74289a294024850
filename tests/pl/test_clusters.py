"""Labels of groups: agreement, confidence and the runner-up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from _looks import overlaps, texts
from anndata import AnnData
from matplotlib.axes import Axes

import scim


def drawn(adata: AnnData, **how: Any) -> Axes:
    ax = scim.pl.clusters(adata, show=False, **how)
    assert isinstance(ax, Axes)
    return ax


def test_rows_show_the_table(annotated: AnnData) -> None:
    ax = drawn(annotated)
    table = scim.get.clusters(annotated)
    rows = [tick.get_text() for tick in ax.get_yticklabels()]
    assert [row.split(":")[0] for row in rows] == table["group"].astype(str).tolist()
    assert all(f"({n})" in row for row, n in zip(rows, table["cells"], strict=True))
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], table["agreement"])
    dots = next(line for line in ax.lines if line.get_marker() == "o")
    np.testing.assert_allclose(dots.get_xdata(), table["confidence"])
    diamonds = next(line for line in ax.lines if line.get_marker() == "D")
    np.testing.assert_allclose(diamonds.get_xdata(), table["runner_up_confidence"].where(lambda p: p >= 0.01))


def test_runner_ups_are_named_beside_their_rows(annotated: AnnData) -> None:
    ax = drawn(annotated)
    table = scim.get.clusters(annotated)
    named = {text.get_position()[1]: text.get_text() for text in ax.texts}
    short = scim.pl._names.short_names([*table["label"], *table["runner_up"]])
    expected = {i: short[row.runner_up] for i, row in table.iterrows() if row.runner_up_confidence >= 0.01}
    assert named == expected and overlaps([*ax.texts, *ax.get_yticklabels()]) == []


def test_one_group(annotated: AnnData) -> None:
    ax = drawn(annotated, group="NK")
    assert len(ax.patches) == 1 and any(text.startswith("NK: natural killer cell (") for text in texts(ax))


def test_without_groups_an_error_says_what_to_run(annotated: AnnData) -> None:
    del annotated.uns["scim"]["clusters"]
    with pytest.raises(KeyError, match="Run scim.tl.annotate with by= first"):
        scim.pl.clusters(annotated)
