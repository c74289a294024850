"""The figure of annotation.py: a dot a held-out study for each method, and what wrong labels and small panels cost."""

from __future__ import annotations

import io
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

_SUITES = ("blood", "distant", "chemistry", "platform", "pancreas")
_SPOILED = {
    "wrong training labels (%)": {"clean": 0, "wrong-0.1": 10, "wrong-0.2": 20, "wrong-0.3": 30},
    "genes of the held-out study": {"panel-1000": 1_000, "panel-2000": 2_000, "panel-5000": 5_000},
}
#: Colours that are told apart without seeing red and green (Okabe and Ito).
_COLOURS = ["#0072B2", "#D55E00", "#E69F00", "#009E73", "#CC79A7"]


def draw(found: dict[str, pd.DataFrame], path: Path) -> Path | None:
    """Draw what there are rows of into an SVG; None without matplotlib or rows."""
    suites = [suite for suite in _SUITES if suite in found]
    if find_spec("matplotlib") is None or not suites:
        return None
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    spoiled = _SPOILED if "robustness" in found else {}
    methods = _order(found, suites)
    # Fixed salt and no date: the same results give the same file.
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "annotation", "font.size": 8}):
        above, below = 0.24 * len(methods) + 0.9, 2.6 if spoiled else 0
        figure = plt.figure(figsize=(10, above + below), layout="constrained")
        parts = figure.subfigures(2, 1, height_ratios=[above, below]) if spoiled else [figure]
        panels = parts[0].subplots(1, len(suites), sharey=True, squeeze=False)[0]
        for axes, suite in zip(panels, suites, strict=True):
            _dots(axes, found[suite], methods, title=suite)
        panels[0].set_yticks(range(len(methods)), methods)
        panels[0].invert_yaxis()
        if spoiled:
            lower = parts[1].subplots(1, len(spoiled), squeeze=False)[0]
            for axes, (name, conditions) in zip(lower, spoiled.items(), strict=True):
                _lines(axes, found["robustness"], conditions, name)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        plt.close(figure)
    # Two decimals of a point are plenty, and a third smaller.
    path.write_text(re.sub(r"(\.\d\d)\d+", r"\1", text.getvalue()), encoding="utf-8")
    return path


def _order(found: dict[str, pd.DataFrame], suites: list[str]) -> list[str]:
    """Methods by their mean macro-F1 in the first suite, then those that only others have."""
    by_suite = [found[s].groupby(["method", "held_out"])["macro_f1"].mean().groupby(level=0).mean() for s in suites]
    return list(dict.fromkeys(m for means in by_suite for m in means.sort_values(ascending=False).index))


def _dots(axes: Any, rows: pd.DataFrame, methods: list[str], *, title: str) -> None:
    """A dot a study, a bar at the mean; the spread over seeds as a line."""
    rows = rows.assign(y=rows["method"].map({method: y for y, method in enumerate(methods)}))
    for is_scim, colour in ((False, "0.45"), (True, _COLOURS[0])):
        by_study = rows[(rows["method"] == "scim") == is_scim].groupby(["y", "held_out"])["macro_f1"]
        table = by_study.agg(["mean", "min", "max"]).dropna().reset_index(level=0)
        if table.empty:
            continue
        axes.plot(table["mean"], table["y"], "o", ms=4, mec="white", mew=0.4, color=colour, alpha=0.8)
        spread = table[table["min"] < table["max"]]
        axes.hlines(spread["y"], spread["min"], spread["max"], color=colour, lw=1)
        means = table.groupby("y")["mean"].mean()
        axes.vlines(means, means.index - 0.35, means.index + 0.35, color=colour, lw=2)
    axes.set_title(title)
    axes.set_xlabel("macro-F1")
    axes.set_xlim(-0.03, 1.03)
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _lines(axes: Any, rows: pd.DataFrame, conditions: dict[str, int], name: str) -> None:
    """Mean macro-F1 of each method over what was made worse, on the studies that all conditions have."""
    here = rows[rows["condition"].isin(list(conditions))]
    complete = here.groupby("held_out")["condition"].nunique() == here["condition"].nunique()
    here = here[here["held_out"].isin(complete.index[complete])]
    mean = here.groupby(["method", "condition", "held_out"])["macro_f1"].mean().groupby(level=[0, 1]).mean()
    names = sorted(here["method"].unique(), key=lambda m: (m != "scim", m))
    for colour, method in zip(_COLOURS, names, strict=False):
        line = mean[method]
        points = sorted((x, line[key]) for key, x in conditions.items() if key in line.index)
        axes.plot(*zip(*points, strict=True), "o-", ms=3, color=colour, label=method, lw=2 if method == "scim" else 1)
    axes.set_xlabel(name)
    axes.set_ylabel("macro-F1, blood")
    axes.set_xticks(list(conditions.values()))
    axes.legend(frameon=False, fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)
