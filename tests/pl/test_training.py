"""The history of a training: which panels, which lines, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from _looks import texts
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

import scim
from scim.pl._figure import DARK, WARM


def series(name: str, values: list[float]) -> pd.DataFrame:
    return pd.DataFrame({name: values}, index=pd.RangeIndex(len(values), name="epoch"))


@pytest.fixture
def history() -> dict[str, pd.DataFrame]:
    values = {
        "train_loss": [3.0, 2.0, 1.5],
        "validation_loss": [3.1, 2.5, 2.4],
        "triplet_loss_train": [0.2, 0.1, 0.1],
        "triplets_mined_train": [2000, 1800, 1700],
        "triplets_active_train": [900, 300, 100],
        "silhouette_validation": [0.1, 0.2, 0.3],
    }
    return {name: series(name, list(map(float, found))) for name, found in values.items()}


def drawn(model: Any) -> Axes:
    ax = scim.pl.training(model, show=False)
    assert isinstance(ax, Axes)
    return ax


def test_a_panel_for_each_kind_of_value(history: dict[str, pd.DataFrame]) -> None:
    panels = drawn(history).child_axes
    titles = [panel.get_ylabel().replace("\n", " ") for panel in panels]
    assert titles == ["loss", "triplet or pair loss", "per batch", "silhouette"]
    assert [len(panel.lines) for panel in panels] == [2, 1, 2, 1]
    np.testing.assert_allclose(panels[0].lines[0].get_xydata(), [[1, 3], [2, 2], [3, 1.5]])
    assert [to_hex(str(line.get_color())) for line in panels[0].lines] == [DARK, WARM]
    assert {"training", "validation"} <= set(texts(panels[0]))
    assert {"triplets", "active triplets"} <= set(texts(panels[2]))
    assert panels[-1].get_xlabel() == "epoch"


def test_without_validation_there_is_no_key(history: dict[str, pd.DataFrame]) -> None:
    del history["validation_loss"], history["silhouette_validation"]
    assert "validation" not in texts(drawn(history))


def test_one_panel_is_the_axes_themselves(history: dict[str, pd.DataFrame]) -> None:
    ax = drawn({"train_loss": history["train_loss"]})
    assert len(ax.lines) == 1 and not ax.child_axes


def test_a_model_that_was_trained() -> None:
    adata = scim.datasets.pbmc68k()
    scim.SCIM.setup_anndata(adata, labels_key="cell_type", batch_key="channel")
    model = scim.SCIM(adata, n_hidden=[8], n_latent=4)
    with pytest.raises(ValueError, match="no history. Call model.train"):
        scim.pl.training(model)
    model.train(max_epochs=2, train_size=0.9, accelerator="cpu")
    titles = {panel.get_ylabel().replace("\n", " ") for panel in drawn(model).child_axes}
    assert titles == {"loss", "triplet or pair loss", "reconstruction loss", "per batch", "silhouette"}


def test_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="model must be a scim.SCIM or its history, got int"):
        scim.pl.training(3)
