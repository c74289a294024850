"""What all plots share: where they draw, what they return, show and save, and that text stays text."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from _looks import ink
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import scim
from scim.pl._figure import COLUMN

PLOTS: dict[str, Callable[..., Any]] = {
    "labels": scim.pl.labels,
    "ontology": scim.pl.ontology,
    "confidence": scim.pl.confidence,
    "novelty": scim.pl.novelty,
    "clusters": scim.pl.clusters,
    "hits": scim.pl.hits,
    "confusion": lambda adata, **how: scim.pl.confusion(adata, "cell_type", **how),
    "markers": lambda adata, **how: scim.pl.markers(adata, {"B cell": ["CD79A", "MS4A1"], "T": ["CD3E"]}, **how),
}


@pytest.fixture(params=PLOTS)
def plot(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return PLOTS[request.param]


def test_axes_figure_or_nothing(plot: Callable[..., Any], annotated: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(1))
    assert isinstance(plot(annotated, show=False), Axes)
    figure = plot(annotated, return_fig=True)
    assert isinstance(figure, Figure) and not shown
    assert ink(figure).mean() > 0.02
    assert plot(annotated) is None and len(shown) == 1


def test_a_figure_is_one_column_wide_or_at_most_a_page(plot: Callable[..., Any], annotated: AnnData) -> None:
    width = plot(annotated, return_fig=True).get_figwidth()
    assert COLUMN - 0.001 <= width <= 180 / 25.4


def test_text_is_text_in_vector_files(plot: Callable[..., Any], annotated: AnnData, tmp_path: Path) -> None:
    assert plot(annotated, save=tmp_path / "plot.svg") is None
    svg = (tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert svg.count("<text") >= 5 and "B" in svg
    plot(annotated, save=str(tmp_path / "plot.pdf"))
    pdf = (tmp_path / "plot.pdf").read_bytes()
    assert b"/FontFile2" in pdf and b"/Type3" not in pdf  # TrueType, which programs can edit
    assert not plt.get_fignums()


def test_axes_of_the_user_are_drawn_on_and_nothing_else(plot: Callable[..., Any], annotated: AnnData) -> None:
    before = plt.rcParams["font.size"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 5), layout="constrained")
    assert plot(annotated, ax=left) is left
    figure.canvas.draw()
    assert len(figure.axes) == 2 and not right.has_data() and plt.rcParams["font.size"] == before
    assert len(plt.get_fignums()) == 1


def test_data_are_not_changed(plot: Callable[..., Any], annotated: AnnData) -> None:
    before = annotated.copy()
    plot(annotated, show=False)
    assert list(annotated.obs) == list(before.obs) and list(annotated.uns) == list(before.uns)
    assert (annotated.X != before.X).nnz == 0 and annotated.obs.equals(before.obs)


@pytest.mark.parametrize("name", ["labels", "ontology", "confidence", "novelty", "clusters", "hits", "confusion"])
def test_an_error_names_the_verb_to_run_and_leaves_no_figure(name: str, plain: AnnData) -> None:
    with pytest.raises(KeyError, match="tl.annotate|tl.query|Available"):
        PLOTS[name](plain)
    assert not plt.get_fignums()


def test_ax_must_be_axes(annotated: AnnData) -> None:
    with pytest.raises(TypeError, match="ax must be matplotlib Axes, got str"):
        scim.pl.clusters(annotated, ax="left")  # type: ignore[arg-type]


def test_scim_does_not_load_matplotlib_before_a_plot() -> None:
    code = "import sys, scim; scim.pl.labels; print('matplotlib.pyplot' in sys.modules, 'scanpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
