"""The map of labels: colours, names and notes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from _looks import overlaps, texts
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

import scim


def drawn(adata: AnnData, **how: Any) -> Axes:
    ax = scim.pl.labels(adata, show=False, **how)
    assert isinstance(ax, Axes)
    return ax


def colours(ax: Axes) -> np.ndarray:
    """Colour of each cell, in the order of drawing, (n, 4)."""
    (dots,) = [part for part in ax.collections if isinstance(part, PathCollection)]
    return np.asarray(dots.get_facecolors())


def test_frequent_labels_have_names_that_do_not_overlap(annotated: AnnData) -> None:
    ax = drawn(annotated)
    names = {text.replace("\n", " ") for text in texts(ax)}
    assert {"CD14+ monocyte", "natural killer cell", "naive CD4+ T cell", "B cell"} <= names
    assert overlaps(list(ax.texts)) == []
    frame = ax.get_window_extent()
    for text in ax.texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1


def test_every_label_has_a_name_or_is_in_the_note(annotated: AnnData) -> None:
    ax = drawn(annotated, min_share=0.05)
    sizes = annotated.obs["scim_label"].value_counts()
    rare = sizes[(sizes < 0.05 * annotated.n_obs) & (sizes > 0)]
    assert f"without a name: {len(rare)} labels, {rare.sum()} cells" in ax.get_xlabel()
    assert len(ax.texts) == (sizes > 0).sum() - len(rare)


def test_a_label_has_its_colour_and_pales_with_confidence(annotated: AnnData) -> None:
    cells = annotated[(annotated.obs["scim_label"] == "natural killer cell").to_numpy()].copy()
    full = scim.pl.palette(["natural killer cell"])["natural killer cell"]
    assert {to_hex(colour) for colour in colours(drawn(cells, fade=False))} == {full}
    cells.obs["scim_confidence"] = np.linspace(0, 1, cells.n_obs)
    pale = colours(drawn(cells))[:, :3]
    assert to_hex(pale[pale.sum(axis=1).argmin()]) == full
    assert pale.sum(axis=1).max() > 2.5  # nearly white
    assert "paler: less confident" in drawn(cells).get_xlabel()


def test_another_column_keeps_the_colours_and_does_not_fade(annotated: AnnData) -> None:
    ax = drawn(annotated, column="cell_type", title="published")
    assert {to_hex(c) for c in colours(ax)} == set(scim.pl.palette(annotated.obs["cell_type"]).values())
    assert ax.get_title() == "published" and "paler" not in ax.get_xlabel()


def test_ids_are_shown_by_their_names(annotated: AnnData) -> None:
    ax = drawn(annotated, column="scim_term_id")
    assert "CD14+ monocyte" in texts(ax) and not any("CL:" in text for text in texts(ax))


def test_any_map_of_obsm_and_cells_without_a_place(annotated: AnnData) -> None:
    annotated.obsm["X_pca"] = annotated.obsm["X_scim"][:, :5].astype(float)
    annotated.obsm["X_pca"][:10] = np.nan
    assert len(colours(drawn(annotated, basis="pca"))) == annotated.n_obs - 10
    assert len(colours(drawn(annotated, basis="X_pca"))) == annotated.n_obs - 10


def test_many_cells_are_one_picture_in_a_vector_file(annotated: AnnData) -> None:
    import anndata

    names = [f"cell {i}" for i in range(25_000)]
    many = anndata.AnnData(obs=pd.DataFrame({"x": pd.Categorical(["B cell"] * 25_000)}, index=names))
    many.obsm["X_umap"] = np.random.default_rng(0).normal(size=(25_000, 2))
    assert drawn(many, column="x").collections[0].get_rasterized()
    assert not drawn(annotated).collections[0].get_rasterized()


def test_a_map_of_a_reference_which_has_no_genes() -> None:
    cells = scim.Reference.open("blood").to_anndata(where={"label": ["B cell", "natural killer cell"]})
    cells.obsm["X_map"] = cells.obsm["X_scim"][:, :2]
    assert {"B cell", "natural\nkiller cell"} <= set(texts(drawn(cells, column="label", basis="map")))


def test_a_modality_of_a_mudata(annotated: AnnData) -> None:
    import mudata

    with mudata.set_options(pull_on_update=False):
        both = mudata.MuData({"rna": annotated})
    assert len(colours(drawn(both, mod="rna"))) == annotated.n_obs


def test_what_is_missing_is_named(annotated: AnnData, plain: AnnData) -> None:
    with pytest.raises(KeyError, match="no 'scim_label'. Run scim.tl.annotate first"):
        scim.pl.labels(plain)
    with pytest.raises(ValueError, match="adata has no cells"):
        scim.pl.labels(annotated[:0])
    with pytest.raises(KeyError, match="no 'other_label'"):
        scim.pl.labels(annotated, key="other")
    with pytest.raises(KeyError, match="column='celltype' .*Did you mean 'cell_type'"):
        scim.pl.labels(annotated, column="celltype")
    with pytest.raises(KeyError, match="no 'X_tsne'"):
        scim.pl.labels(annotated, basis="tsne")
    with pytest.raises(ValueError, match="column='scim_confidence' holds numbers"):
        scim.pl.labels(annotated, column="scim_confidence")
    annotated.obsm["X_line"] = np.ones((annotated.n_obs, 1))
    with pytest.raises(ValueError, match="needs two columns"):
        scim.pl.labels(annotated, basis="line")
    del annotated.obsm["X_umap"]
    with pytest.raises(KeyError, match="Make a UMAP: sc.pp.neighbors.*sc.tl.umap"):
        scim.pl.labels(annotated)
