"""The matrix of labels: shares, frames, order and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from _looks import overlaps, shown, texts
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

import scim


def drawn(adata: AnnData, truth: str = "truth", **how: Any) -> Axes:
    ax = scim.pl.confusion(adata, truth, show=False, **how)
    assert isinstance(ax, Axes)
    return ax


@pytest.fixture
def made(annotated: AnnData) -> AnnData:
    """Ten cells: same, broader, finer, other, unassigned; one has no true label."""
    pairs = [("B cell", "B cell")] * 4 + [("lymphocyte", "B cell")] * 2 + [("naive B cell", "B cell")]
    pairs += [("macrophage", "B cell"), ("unassigned", "B cell"), ("B cell", "unknown")]
    cells = annotated[:10].copy()
    cells.obs["scim_label"], cells.obs["truth"] = (pd.Categorical(list(column)) for column in zip(*pairs, strict=True))
    return cells


def test_shares_are_of_the_column(made: AnnData) -> None:
    ax = drawn(made, min_share=0)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["B cell (9)"]
    rows = [tick.get_text() for tick in ax.get_yticklabels()]
    assert rows == ["lymphocyte", "B cell", "naive B cell", "macrophage", "unassigned"]
    numbers = {rows[round(text.get_position()[1])]: text.get_text() for text in ax.texts}
    assert numbers == {"B cell": "44", "lymphocyte": "22", "naive B cell": "11", "macrophage": "11", "unassigned": "11"}


def test_frames_say_how_the_terms_are_related(made: AnnData) -> None:
    ax = drawn(made, min_share=0)
    frames = {round(p.get_y() + 0.43): p.get_linestyle() for p in ax.patches if isinstance(p, Rectangle)}
    assert set(frames) == {0, 1, 2} and frames[1] == "-" and len(set(map(str, frames.values()))) == 3
    legend = ax.get_legend()
    assert legend is not None
    words = [text.get_text() for text in legend.get_texts()]
    assert words == ["same 44 %", "broader 22 %", "finer 11 %", "other 11 %", "unassigned 11 %"]


def test_rare_labels_share_a_row(annotated: AnnData) -> None:
    ax = drawn(annotated, "cell_type", min_share=0.1)
    rows = [tick.get_text() for tick in ax.get_yticklabels()]
    assert rows[-1].startswith("other labels (") and "dendritic cell" not in rows


def test_names_do_not_overlap(annotated: AnnData) -> None:
    ax = drawn(annotated, "cell_type", min_share=0)
    rows = list(ax.get_yticklabels())
    assert overlaps(rows) == [] and overlaps([*ax.texts]) == []
    assert len(texts(ax)) == len(shown(ax)) > 20


def test_truth_by_id_is_the_same(annotated: AnnData) -> None:
    by_name, by_id = drawn(annotated, "cell_type"), drawn(annotated, "cell_type_ontology_term_id")
    assert texts(by_name) == texts(by_id)


def test_what_is_missing_is_named(annotated: AnnData) -> None:
    with pytest.raises(KeyError, match="truth='celltype' .*Did you mean 'cell_type'"):
        scim.pl.confusion(annotated, "celltype")
    annotated.obs["none"] = pd.Categorical([np.nan] * annotated.n_obs)
    with pytest.raises(ValueError, match="no cell has a label"):
        scim.pl.confusion(annotated, "none")
    with pytest.raises(ValueError, match="min_share must lie from 0 to 1"):
        scim.pl.confusion(annotated, "cell_type", min_share=2)
