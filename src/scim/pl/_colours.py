"""Colours of terms: from their place in the Cell Ontology, so that a term has the same colour in every data set."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from .. import _keys
from .._validate import is_unlabeled
from ..ontology import CellOntology

#: Colour of cells without a label, and of terms above all lineages.
GREY = "#c4c4c4"
#: Lineage -> its hue, and the range of the hues of its terms, in degrees of OKLCH. Lineages that occur together differ.
_LINEAGES = {
    "CL:0000084": (255, 60),  # T cell: blue
    "CL:0001065": (200, 24),  # innate lymphoid cell: cyan
    "CL:0000945": (310, 34),  # lymphocyte of B lineage: violet
    "CL:0000576": (62, 18),  # monocyte: orange
    "CL:0000235": (40, 18),  # macrophage: vermilion
    "CL:0000451": (95, 22),  # dendritic cell: yellow
    "CL:0000094": (350, 16),  # granulocyte: pink
    "CL:0000097": (335, 10),  # mast cell: magenta
    "CL:0000764": (18, 12),  # erythroid lineage cell: red
    "CL:0000556": (5, 10),  # megakaryocyte: rose
    "CL:0000233": (5, 10),  # platelet
    "CL:0008001": (115, 14),  # hematopoietic precursor cell: olive
    "CL:0000066": (160, 26),  # epithelial cell: green
    "CL:0000115": (22, 20),  # endothelial cell: crimson
    "CL:0000057": (75, 20),  # fibroblast: brown
    "CL:0000499": (82, 14),  # stromal cell
    "CL:0000187": (340, 24),  # muscle cell: magenta
    "CL:0000669": (350, 16),  # pericyte
    "CL:0000540": (280, 50),  # neuron: indigo
    "CL:0000125": (175, 30),  # glial cell: sea green
    "CL:0000586": (225, 20),  # germ cell: steel blue
}
#: Range of lightness and of chroma, in OKLCH.
_LIGHTNESS, _CHROMA = (0.42, 0.84), (0.08, 0.18)
#: Lightness of terms above several lineages.
_BROAD_LIGHTNESS = (0.62, 0.88)
#: Steps of lightness and of chroma from a term of a lineage to the next one, and of lightness from the first term of a
#: lineage to that of the next lineage, as shares of the range. Found by a random search for steps that keep common
#: types, and terms of blood and of other tissues, far apart, with and without the red-green axis.
_LIGHTNESS_STEP, _CHROMA_STEP, _LINEAGE_STEP = 0.8738, 0.0971, 0.0721


def palette(labels: Iterable[object], *, ontology: CellOntology | None = None) -> dict[str, str]:
    """Give each label its colour: terms of one lineage have related hues, and a term has one colour in every data set.

    The hue comes from the lineage (T cell, monocyte, epithelial cell, ...). Terms of a lineage differ in lightness,
    which people with any colour vision see, and which stays in greyscale. A term above several lineages has a greyish
    mixture of their colours. Use it with scanpy:
    ``sc.pl.umap(adata, color="scim_label", palette=scim.pl.palette(adata.obs["scim_label"]))``.

    Parameters
    ----------
    labels
        Names, ids or synonyms of terms; each may occur many times. A label outside the ontology gets a colour from its
        spelling.
    ontology
        Ontology that knows the labels. The default is the bundled Cell Ontology.

    Returns
    -------
    Label -> colour as ``"#rrggbb"``, in the order of the first occurrence.

    Examples
    --------
    >>> import scim
    >>> colours = scim.pl.palette(["T cell", "T lymphocyte", "B cell", "unassigned"])
    >>> colours["T cell"] == colours["T lymphocyte"], colours["unassigned"]
    (True, '#c4c4c4')
    """
    import pandas as pd

    known = CellOntology.bundled() if ontology is None else ontology
    names = list(dict.fromkeys(str(label) for label in labels))
    missing = is_unlabeled(pd.Series(names, dtype=object), _keys.UNASSIGNED)
    return {name: GREY if none else _colour(known, name) for name, none in zip(names, missing, strict=True)}


def _colour(ontology: CellOntology, label: str) -> str:
    term = ontology.resolve(label)
    found = None if term is None else _by_term(ontology).get(term)
    if found is None:  # stable between sessions, unlike hash()
        code = zlib.crc32(label.encode())
        found = _oklch(_within(_LIGHTNESS, (code >> 16) / 0xFFFF), 0.09, 360 * (code & 0xFFFF) / 0xFFFF)
    return _hex(found)


@lru_cache(maxsize=4)
def _by_term(ontology: CellOntology) -> dict[str, np.ndarray]:
    """OKLab colour of each term that belongs to a lineage, or is above a lineage, (3,)."""
    sizes = {anchor: len(ontology.descendants(anchor)) for anchor in _LINEAGES if anchor in ontology}
    members: dict[str, list[str]] = {anchor: [] for anchor in sizes}
    for term in map(str, ontology.ids):
        mine = [anchor for anchor in {term, *ontology.ancestors(term)} if anchor in sizes]
        if mine:
            members[min(mine, key=lambda anchor: (sizes[anchor], anchor))].append(term)
    colours: dict[str, np.ndarray] = {}
    for i, (anchor, terms) in enumerate(members.items()):
        colours |= _of_lineage(ontology, anchor, terms, first=i * _LINEAGE_STEP)
    above = {term for anchor in sizes for term in ontology.ancestors(anchor)} - set(colours)
    for i, term in enumerate(sorted(above, key=lambda t: (ontology.depth(t), t))):
        # A mean of few hues keeps some of them, a mean of all is grey.
        mean = np.mean([colours[anchor] for anchor in sizes if term in ontology.ancestors(anchor)], axis=0)
        colours[term] = np.array([_within(_BROAD_LIGHTNESS, (i * _LIGHTNESS_STEP) % 1), *0.7 * mean[1:]])
    return colours


def _of_lineage(ontology: CellOntology, anchor: str, terms: list[str], first: float) -> dict[str, np.ndarray]:
    """Colour the terms of a lineage: the hue by kinship, the lightness by depth, from the share ``first`` on."""
    hue, width = _LINEAGES[anchor]
    inside = set(terms)
    kin = {term: i for i, term in enumerate(_walk(ontology, anchor, inside))}
    by_depth = sorted(inside, key=lambda t: (ontology.depth(t), kin.get(t, len(kin)), t))
    colours = {}
    for i, term in enumerate(by_depth):
        place = kin.get(term, len(kin)) / max(len(kin), 1) - 0.5
        lightness = _within(_LIGHTNESS, (first + i * _LIGHTNESS_STEP) % 1)
        chroma = _within(_CHROMA, (i * _CHROMA_STEP + 0.3) % 1)
        colours[term] = _oklch(lightness, chroma, hue + width * place)
    return colours


def _walk(ontology: CellOntology, root: str, inside: set[str]) -> list[str]:
    """List terms from the root down, each after its first parent, so that kin stand together."""
    children: dict[str, list[str]] = {}
    for term in sorted(inside):
        for parent in ontology.parents(term):
            children.setdefault(parent, []).append(term)
    order: dict[str, None] = {}
    stack = [root]
    while stack:
        term = stack.pop()
        if term not in order:
            order[term] = None
            stack += reversed(children.get(term, []))
    return list(order)


def _within(ends: tuple[float, float], share: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * share


def _oklch(lightness: float, chroma: float, hue: float) -> np.ndarray:
    """Make an OKLab colour (3,) that screens can show: chroma is reduced where it must be."""
    angle = np.deg2rad(hue)
    for share in np.linspace(1, 0, 41):
        colour = np.array([lightness, share * chroma * np.cos(angle), share * chroma * np.sin(angle)])
        rgb = _linear_rgb(colour)
        if rgb.min() >= 0 and rgb.max() <= 1:
            break
    return colour


def _linear_rgb(lab: np.ndarray) -> np.ndarray:
    """Convert OKLab to linear sRGB (Ottosson 2020, https://bottosson.github.io/posts/oklab)."""
    to_lms = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    return np.asarray(to_rgb @ (to_lms @ lab) ** 3)


def _hex(lab: np.ndarray) -> str:
    linear = np.clip(_linear_rgb(lab), 0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * value):02x}" for value in rgb)
