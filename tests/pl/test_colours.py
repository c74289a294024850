"""Colours of terms: the same everywhere, related for relatives, and told apart without colour vision."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgb

import scim
from scim.pl import palette

COMMON = [
    "CD4-positive, alpha-beta T cell", "CD8-positive, alpha-beta T cell", "natural killer cell", "B cell",
    "CD14-positive monocyte", "macrophage", "dendritic cell", "neutrophil", "epithelial cell", "endothelial cell",
    "fibroblast", "naive thymus-derived CD4-positive, alpha-beta T cell", "CD4-positive, alpha-beta memory T cell",
    "naive B cell", "memory B cell", "CD14-low, CD16-positive monocyte", "T cell",
]  # fmt: skip
#: sRGB to the colours that people without red or green cones see (Machado et al., 2009), on linear values.
PROTAN = np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]])
DEUTAN = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]])


def oklab(colours: list[str], seen: np.ndarray | None = None) -> np.ndarray:
    """Perceptual coordinates (n, 3) of colours, as they are or as ``seen``."""
    rgb = np.array([to_rgb(colour) for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = linear if seen is None else np.clip(linear @ seen.T, 0, 1)
    lms = np.cbrt(linear @ np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]).T)
    return lms @ np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]).T


def nearest(points: np.ndarray) -> np.ndarray:
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return distances.min(axis=1)


def test_a_term_has_one_colour_in_every_data_set_and_under_every_name() -> None:
    alone = palette(["natural killer cell"])["natural killer cell"]
    assert palette([*COMMON, "my own label"])["natural killer cell"] == alone
    assert palette(["NK cell", "CL:0000623"]) == {"NK cell": alone, "CL:0000623": alone}


def test_colours_of_kin_are_closer_than_those_of_strangers() -> None:
    t_cells = [name for name in COMMON if "T cell" in name]
    strangers = ["macrophage", "epithelial cell", "endothelial cell", "fibroblast"]
    hue = oklab(list(palette([*t_cells, *strangers]).values()))[:, 1:]
    mine, others = hue[: len(t_cells)], hue[len(t_cells) :]
    within = np.linalg.norm(mine - mine.mean(axis=0), axis=1).max()
    assert within < np.linalg.norm(others - mine.mean(axis=0), axis=1).min()


@pytest.mark.parametrize(("seen", "least"), [(None, 0.04), (PROTAN, 0.015), (DEUTAN, 0.015)])
def test_common_types_are_told_apart_by_any_colour_vision(seen: np.ndarray | None, least: float) -> None:
    assert nearest(oklab(list(palette(COMMON).values()), seen)).min() > least


def test_no_label_is_grey_and_other_labels_get_a_colour_from_their_spelling() -> None:
    found = palette(["unassigned", "unknown", "cluster 7", "cluster 8"])
    assert found["unassigned"] == found["unknown"] == "#c4c4c4"
    assert len(set(found.values())) == 3
    assert palette(["cluster 7"])["cluster 7"] == found["cluster 7"]


def test_another_ontology_has_colours_too() -> None:
    flat = scim.CellOntology.flat(["a", "b"])
    assert len(set(palette(["a", "b"], ontology=flat).values())) == 2


def test_every_colour_can_be_shown() -> None:
    for colour in palette(scim.CellOntology.bundled().names).values():
        assert len(colour) == 7 and 0 <= int(colour[1:], 16) <= 0xFFFFFF
