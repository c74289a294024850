"""Make, show and save figures that are one column of a journal wide."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Width of a figure: one column of a journal, 85 mm, in inches.
COLUMN = 85 / 25.4
#: Largest width of a figure: two columns, 180 mm, in inches.
PAGE = 180 / 25.4
#: Settings of a new figure. Text stays text in svg and pdf files.
STYLE: Any = {
    "font.size": 7.0,
    "axes.labelsize": 7.0,
    "axes.titlesize": 8.0,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.grid": False,
    "axes.facecolor": "white",
    "figure.facecolor": "white",
    "text.color": "black",
}
_VECTOR: Any = {"svg.fonttype": "none", "pdf.fonttype": 42, "ps.fonttype": 42}
#: Dots per inch on the screen, and of a saved picture.
_SCREEN_DPI, _SAVED_DPI = 150, 300
#: Dark and light of one hue, and a colour that differs from it for any colour vision and in greyscale.
DARK, LIGHT, WARM = "#20507e", "#a9c6e3", "#e08a1e"
#: Colour of lines and text that are not data.
FAINT, MUTED = "#d9d9d9", "#666666"


@contextmanager
def canvas(ax: Axes | None, height: float, *, width: float = COLUMN) -> Iterator[Axes]:
    """Open the axes to draw on: ``ax``, or the axes of a new figure of ``height`` and ``width`` in inches."""
    import matplotlib.pyplot as plt

    if ax is not None:
        if not hasattr(ax, "transAxes"):
            raise TypeError(f"ax must be matplotlib Axes, got {type(ax).__name__}. Make them with plt.subplots().")
        yield ax
        return
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(width, height), dpi=_SCREEN_DPI, layout="constrained")
        try:
            yield figure.add_subplot()
        except BaseException:
            plt.close(figure)
            raise


def finish(
    drawn: Axes, *, ax: Axes | None, show: bool | None, save: str | Path | None, return_fig: bool | None
) -> Axes | Figure | None:
    """Save and show the figure of ``drawn``, and return what was asked for.

    Parameters
    ----------
    drawn
        Axes that were drawn on.
    ax
        Axes that the user gave. Their figure is the user's, and it is shown only if ``show`` is True.
    show
        Show the figure, and return nothing. None shows a new figure that is neither saved nor returned.
    save
        File to write: .png, .svg, .pdf or another format of matplotlib.
    return_fig
        Return the figure instead of the axes.
    """
    import matplotlib.pyplot as plt

    figure = drawn.figure.get_figure(root=True)
    assert figure is not None  # the axes are on it
    if save is not None:
        with plt.rc_context(_VECTOR):
            figure.savefig(Path(save).expanduser(), dpi=_SAVED_DPI, bbox_inches="tight")
    if return_fig:
        return figure
    if show is None and ax is None:
        if save is not None:
            plt.close(figure)
            return None
        show = _shows_by_default()
    if show:
        plt.show()
        return None
    return drawn


def _shows_by_default() -> bool:
    """Whether scanpy is set to show figures."""
    from scanpy import settings

    return bool(settings.autoshow)


def text_width(text: str, size: float) -> float:
    """Width of a line of text in inches, at ``size`` points in the font of the figure."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    width, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return float(width) / 72


def size_of(ax: Axes) -> tuple[float, float]:
    """Width and height of axes in inches, as they are drawn."""
    figure = ax.figure.get_figure(root=True)
    assert figure is not None  # the axes are on it
    figure.draw_without_rendering()  # a layout moves axes when they are drawn
    frame = ax.get_window_extent()
    return frame.width / figure.dpi, frame.height / figure.dpi


def panels(ax: Axes, n: int) -> Sequence[Axes]:
    """Split axes into ``n`` panels below one another, which share the x axis."""
    if n == 1:
        return [ax]
    ax.set_axis_off()
    gap = 0.06
    height = (1 - gap * (n - 1)) / n
    made = [ax.inset_axes((0, 1 - (i + 1) * height - i * gap, 1, height)) for i in range(n)]
    for upper in made[:-1]:
        upper.sharex(made[-1])
        upper.tick_params(labelbottom=False)
    return made


def bare(ax: Axes, *, keep: Sequence[str] = ()) -> None:
    """Remove the frame of axes, but not the sides in ``keep``."""
    for side, spine in ax.spines.items():
        spine.set_visible(side in keep)


def row_labels(ax: Axes, names: Sequence[str], *, colours: Callable[[int], str] | None = None) -> None:
    """Name the rows of axes, the first one on top."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    if colours is not None:
        for i, tick in enumerate(ax.get_yticklabels()):
            tick.set_color(colours(i))
