"""The tree of terms: rows, numbers, bars and confidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from _looks import overlaps, shown, texts
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

import scim
from scim.pl._figure import DARK


def drawn(adata: AnnData, **how: Any) -> Axes:
    ax = scim.pl.ontology(adata, show=False, **how)
    assert isinstance(ax, Axes)
    return ax


def test_every_label_is_a_row_with_its_number(annotated: AnnData) -> None:
    ax = drawn(annotated)
    found = texts(ax)
    assert {"CD14+ monocyte", "naive CD4+ T cell", "B cell"} <= set(found)
    row = {text.get_text(): text.get_position()[1] for text in ax.texts}
    monocytes = [text.get_text() for text in ax.texts if text.get_position()[1] == row["naive CD4+ T cell"]]
    n = int((annotated.obs["scim_label"] == "naive thymus-derived CD4-positive, alpha-beta T cell").sum())
    assert str(n) in monocytes and f"{n / annotated.n_obs:.0%}".replace("%", " %") in monocytes


def test_dark_bars_sum_up_to_all_cells(annotated: AnnData) -> None:
    ax = drawn(annotated)
    widths = [bar.get_width() for bar in ax.patches if to_hex(bar.get_facecolor()) == DARK]
    longest = max(bar.get_width() for bar in ax.patches)
    everything = annotated.n_obs / (annotated.obs["scim_label"] != "unassigned").sum()
    assert sum(widths) == pytest.approx(longest * everything, rel=0.02)


def test_confidence_is_the_mean_of_the_cells_of_a_label(annotated: AnnData) -> None:
    annotated.obs["scim_confidence"] = np.where(annotated.obs["scim_label"] == "natural killer cell", 1.0, 0.0)
    ax = drawn(annotated)
    dots = sorted(line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o")
    guides = [
        text.get_position()[0] for text in ax.texts if text.get_text() in ("0", "1") and text.get_ha() == "center"
    ]
    assert dots[-1] == pytest.approx(max(guides)) and dots[0] == pytest.approx(min(guides))
    assert len([dot for dot in dots if dot > dots[0]]) == 1


def test_texts_of_dozens_of_labels_do_not_overlap(annotated: AnnData) -> None:
    space = scim.Reference.open("blood").terms
    names = list(space.term_names)
    annotated.obs["scim_label"] = pd.Categorical(np.resize(names, annotated.n_obs))
    ax = drawn(annotated)
    assert len(names) >= 35 and set(scim.pl._names.short_names(names).values()) <= set(texts(ax))
    assert overlaps(shown(ax)) == []


def test_rare_labels_can_be_left_out(annotated: AnnData) -> None:
    ax = drawn(annotated, min_cells=10)
    sizes = annotated.obs["scim_label"].value_counts()
    left_out = sizes[(sizes < 10) & (sizes > 0)]
    assert f"not shown: {len(left_out)} labels of fewer than 10 cells, {left_out.sum()} cells" in texts(ax)
    assert "macrophage" not in texts(ax)
    with pytest.raises(ValueError, match="min_cells=1000, but the largest label has"):
        scim.pl.ontology(annotated, min_cells=1000)


def test_labels_of_another_ontology(annotated: AnnData) -> None:
    annotated.obs["scim_label"] = pd.Categorical(np.resize(["a", "b"], annotated.n_obs))
    assert {"a", "b"} <= set(texts(drawn(annotated, ontology=scim.CellOntology.flat(["a", "b"]))))


def test_unassigned_cells_are_the_last_row_without_confidence(annotated: AnnData) -> None:
    labels = annotated.obs["scim_label"].astype(str)
    labels.iloc[:5] = "unassigned"
    annotated.obs["scim_label"] = pd.Categorical(labels)
    ax = drawn(annotated)
    rows = {text.get_text(): text.get_position()[1] for text in ax.texts}
    last = max(line.get_ydata()[0] for line in ax.lines if line.get_marker() == "o")
    assert rows["unassigned"] > last
