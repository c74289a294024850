"""What tests of figures look at: texts, whether they overlap or are cut off, and ink."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def texts(ax: Axes) -> list[str]:
    """All text of axes that is shown, names of rows and columns as well."""
    return [text.get_text() for text in shown(ax)]


def shown(ax: Axes) -> list[Text]:
    return [text for text in ax.findobj(Text) if text.get_text().strip() and text.get_visible()]


def overlaps(some: list[Text]) -> list[tuple[str, str]]:
    """Pairs of texts that cover each other."""
    figure = some[0].figure
    assert isinstance(figure, Figure)
    FigureCanvasAgg(figure).draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in some]
    return [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if one.shrunk(0.98, 0.9).overlaps(other)]


def ink(figure: Figure) -> np.ndarray:
    """Which pixels of a figure are not white, bool (height, width)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].min(axis=-1) < 250
