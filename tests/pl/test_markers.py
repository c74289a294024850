"""The dots of genes: which genes and groups, sizes and colours, frames and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from _looks import overlaps, texts
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

import scim

KNOWN = {"B cell": ["CD79A", "MS4A1"], "natural killer cell": ["NKG7", "GNLY"]}


def drawn(adata: AnnData, *args: Any, **how: Any) -> Axes:
    ax = scim.pl.markers(adata, *args, show=False, **how)
    assert isinstance(ax, Axes)
    return ax


def test_known_genes_of_labels(annotated: AnnData) -> None:
    ax = drawn(annotated, KNOWN, groupby="cell_type")
    assert [tick.get_text() for tick in ax.get_xticklabels()] in (
        ["CD79A", "MS4A1", "NKG7", "GNLY"],
        ["NKG7", "GNLY", "CD79A", "MS4A1"],
    )
    sizes = annotated.obs["cell_type"].value_counts()
    assert f"B cell ({sizes['B cell']})" in texts(ax)
    assert overlaps([*ax.get_yticklabels(), *ax.get_xticklabels()]) == []
    framed = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    assert len(framed) == 4


def test_dots_are_shares_of_cells_and_scaled_means(annotated: AnnData) -> None:
    ax = drawn(annotated, {"B cell": ["MS4A1"]}, groupby="cell_type", min_cells=1)
    rows = [tick.get_text().rsplit(" (", 1)[0] for tick in ax.get_yticklabels()]
    dots = ax.collections[0]
    mine = (annotated.obs["cell_type"] == "B cell").to_numpy()
    share = float((annotated[mine, "MS4A1"].X.toarray() > 0).mean())
    places = np.asarray(dots.get_offsets())
    row = rows.index("B cell")
    size = dict(zip(places[:, 1], dots.get_sizes(), strict=True))
    assert size[row] == pytest.approx(60 * share)
    darkness = {y: 3 - colour[:3].sum() for y, colour in zip(places[:, 1], dots.get_facecolors(), strict=True)}
    assert max(darkness, key=lambda y: darkness[y]) == row


def test_genes_of_an_explanation(annotated: AnnData) -> None:
    genes = {"B": ["CD79A", "MS4A1", "LYZ"], "NK": ["NKG7", "GNLY", "LYZ"]}
    fields: dict[str, Any] = {"names": genes}
    fields |= {name: dict.fromkeys(genes, [3.0, 2.0, 1.0]) for name in ("scores", "scores_std", "logfoldchanges")}
    written: dict[str, Any] = {name: pd.DataFrame(columns).to_records(index=False) for name, columns in fields.items()}
    annotated.uns["scim_explain"] = {**written, "params": {"groupby": "gate"}}
    ax = drawn(annotated, n_genes=2)
    assert {tick.get_text() for tick in ax.get_xticklabels()} == {"CD79A", "MS4A1", "NKG7", "GNLY"}
    assert {text.split(" (")[0] for text in texts(ax)} >= {"B", "NK", "CD4+ T"}
    assert len(ax.patches) == 4


def test_counts_and_their_logarithms_look_the_same(annotated: AnnData) -> None:
    import scanpy as sc

    logged = annotated.copy()
    sc.pp.normalize_total(logged, target_sum=1e4)
    sc.pp.log1p(logged)
    one, other = (drawn(data, KNOWN, groupby="cell_type").collections[0] for data in (annotated, logged))
    np.testing.assert_allclose(one.get_sizes(), other.get_sizes())
    np.testing.assert_allclose(one.get_facecolors(), other.get_facecolors(), atol=0.01)


def test_small_groups_are_left_out(annotated: AnnData) -> None:
    ax = drawn(annotated, KNOWN, min_cells=10)
    assert not any(text.startswith("macrophage") for text in texts(ax))
    with pytest.raises(ValueError, match="No group of 'scim_label' has 1000 cells"):
        scim.pl.markers(annotated, KNOWN, min_cells=1000)


def test_genes_that_are_missing_are_named(annotated: AnnData) -> None:
    with pytest.warns(UserWarning, match="1 of 2 genes are not in the data: NOGENE"):
        drawn(annotated, {"B cell": ["MS4A1", "NOGENE"]})
    with pytest.raises(ValueError, match="none of the 1 genes, such as NOGENE"):
        scim.pl.markers(annotated, {"B cell": ["NOGENE"]})


def test_what_is_missing_is_named(annotated: AnnData) -> None:
    with pytest.raises(KeyError, match="key='scim_explain' is not in adata.uns"):
        scim.pl.markers(annotated)
    annotated.uns["scim_explain"] = {"x": 1}
    with pytest.raises(KeyError, match="Run scim.tl.explain first"):
        scim.pl.markers(annotated)
    with pytest.raises(KeyError, match="groupby='gat' .*Did you mean 'gate'"):
        scim.pl.markers(annotated, KNOWN, groupby="gat")
