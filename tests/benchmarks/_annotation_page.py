"""The page that annotation.py writes: tables of results, and the figure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _annotation_figure import draw
from _annotation_scim import LABELLINGS, TRAININGS
from _annotation_scores import ALPHAS
from _annotation_suites import jobs_of
from _annotation_texts import ALL, CHOSEN, INTRO, OUTRO, TEXTS

Rows = list[dict[str, Any]]
#: Groups of studies in the means over all studies, and their names on the page.
_HELD_OUT = {"blood": "blood", "distant": "distant studies", "chemistry": "chemistries", "pancreas": "islets"}
_MAIN = {
    "same": "same term",
    "wrong": "wrong",
    "unassigned": "unassigned",
    "broader": "broader",
    "levels": "levels broader",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "spread": "spread over seeds",
    "worst_macro_f1": "worst study",
    "hierarchical_f": "hierarchical F",
    "ece": "error of confidence",
    "cpu_seconds": "seconds",
    "peak_gib": "peak GiB",
}
#: Scores of the labels besides F scores.
_GIVEN = ("same", "wrong", "unassigned", "broader", "levels", "ece")
_CONDITIONS = {
    "clean": "unchanged",
    "wrong-0.1": "10 % wrong",
    "wrong-0.2": "20 % wrong",
    "wrong-0.3": "30 % wrong",
    "panel-5000": "5,000 genes",
    "panel-2000": "2,000 genes",
    "panel-1000": "1,000 genes",
    "depth-500": "500 counts",
    "rare": "20 cells of a label",
}


def write_page(path: Path, kept: dict[str, Rows]) -> None:
    """Write the page of all suites that have rows, and its figure next to it."""
    found = {suite: pd.DataFrame(rows) for suite, rows in kept.items() if rows}
    found = {suite: rows for suite, rows in found.items() if "macro_f1" in rows}
    parts = [INTRO.format(name=path.stem, suites=" ".join(found))]
    if absent := _not_run(found):
        parts.append(absent)
    path.parent.mkdir(parents=True, exist_ok=True)
    if figure := draw(found, path.with_suffix(".svg")):
        parts.append(f"![Macro-F1 of each method on each held-out study, and with wrong labels]({figure.name})\n")
    if set(_HELD_OUT) <= set(found):
        parts += _overall({suite: found[suite] for suite in _HELD_OUT})
    for suite, rows in found.items():
        parts += [TEXTS[suite], *_SECTIONS.get(suite, _by_study)(rows)]
    if set(_HELD_OUT) <= set(found):
        by_group = ", ".join(f"{_lead(found, [suite]):+.1f} on {name}" for suite, name in _HELD_OUT.items())
        parts.append(OUTRO.format(lead=_lead(found, list(_HELD_OUT)), by_group=by_group, better=_better(found)))
    path.write_text("\n\n".join(part.strip() for part in parts if part) + "\n", encoding="utf-8")


def _not_run(found: dict[str, pd.DataFrame]) -> str:
    """List methods that have no rows in a suite, or only part of them."""
    lines = []
    for suite, rows in found.items():
        there = set(zip(rows["held_out"], rows["condition"], rows["method"], strict=True))
        jobs = jobs_of(suite)
        lacking = [j.method for j in jobs if (j.held_out, j.condition.key, j.method) not in there]
        shown = {m: n < sum(j.method == m for j in jobs) for m, n in Counter(lacking).items()}
        if shown and suite != "ablation":
            lines.append(
                f"- {suite}: {', '.join(m + (' (in part)' if in_part else '') for m, in_part in shown.items())}"
            )
    return "\n".join(["Not run here:", "", *lines]) if lines else ""


def common(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Rows of the studies that all methods labelled, and a sentence that names the studies left out."""
    scored = rows[rows["macro_f1"].notna()]
    counts = scored.groupby("held_out")["method"].nunique()
    left_out = [str(study) for study in counts.index[counts < rows["method"].nunique()]]
    if not left_out or len(left_out) == len(counts):
        return scored, ""
    return scored[~scored["held_out"].isin(left_out)], f"Means leave out {', '.join(left_out)}: not all methods did."


def means(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Means over held-out studies of means over seeds, with the worst study and the spread, best macro-F1 first.

    Methods that did not label all studies have no means, and come last. Seeds with which a method did not label all of
    its studies are left out.
    """
    scored = of_whole_seeds(rows[rows["macro_f1"].notna()], ["held_out"])
    labelled = scored.groupby("method", sort=False)["held_out"].nunique()
    whole = scored[scored["method"].isin(labelled.index[labelled == scored["held_out"].nunique()])]
    numbers = whole.groupby(["method", "held_out"], sort=False)[[c for c in columns if c in whole]].mean()
    mean = numbers.groupby(level=0, sort=False).mean()
    mean["worst_macro_f1"] = numbers["macro_f1"].groupby(level=0).min()
    by_seed = whole.groupby(["method", "seed"])["macro_f1"].mean().groupby(level=0)
    mean["spread"] = (by_seed.max() - by_seed.min()).where(by_seed.size() > 1)
    mean = mean.sort_values("macro_f1", ascending=False)
    return mean.reindex([*mean.index, *labelled.index[~labelled.index.isin(mean.index)]])


def of_whole_seeds(rows: pd.DataFrame, tasks: Sequence[str]) -> pd.DataFrame:
    """Keep the seeds with which a method did most tasks: seeds with fewer would shift a mean over seeds."""
    done = rows.drop_duplicates(["method", "seed", *tasks]).groupby(["method", "seed"]).size().rename("done")
    with_all = done[done == done.groupby(level=0).transform("max")].index
    return rows[pd.MultiIndex.from_frame(rows[["method", "seed"]]).isin(with_all)]


def _in_part(mean: pd.DataFrame) -> str:
    """A sentence on methods without means, if there are any."""
    return "Methods that did not label all studies have no means." if mean["macro_f1"].isna().any() else ""


def _overall(found: dict[str, pd.DataFrame]) -> list[str]:
    """Means over the studies of several groups, for methods that labelled all of these studies."""
    rows = pd.concat([of_whole_seeds(rows, ["held_out"]) for rows in found.values()])
    rows = rows.assign(held_out=rows["group"] + "/" + rows["held_out"])
    studies = rows.loc[rows["method"] == "scim", "held_out"].unique()
    labelled = rows[rows["macro_f1"].notna()].groupby("method")["held_out"].nunique()
    rows = rows[rows["method"].isin(labelled.index[labelled == len(studies)])]
    # The mean is over the seeds of each group. The spread needs the same seeds in all groups.
    mean = means(rows.assign(seed=0), list(_MAIN)).assign(spread=means(rows, list(_MAIN))["spread"])
    names = ("macro_f1", "spread", "worst_macro_f1", "balanced_accuracy", "hierarchical_f", *_GIVEN)
    table = mean[[c for c in names if c in mean]].rename(columns=_MAIN)
    by_group = rows.groupby(["method", "group", "held_out"])["macro_f1"].mean().groupby(level=[0, 1]).mean().unstack()
    table = table.join(by_group[list(found)].rename(columns={"pancreas": "islets"}))
    return [ALL.format(n=len(studies)), to_markdown(table.round(3))]


def _blood(rows: pd.DataFrame) -> list[str]:
    mean = means(rows, list(_MAIN))
    main = mean[[c for c in _MAIN if c in mean]].rename(columns=_MAIN).round(3)
    main["seconds"], main["peak GiB"] = main["seconds"].round(0), main["peak GiB"].round(1)
    whole = of_whole_seeds(rows, ["held_out"])
    by_study = whole.pivot_table(index="method", columns="held_out", values="macro_f1", sort=False).loc[mean.index]
    parts = [to_markdown(main), _in_part(mean), "Macro-F1 by held-out study:", to_markdown(by_study.round(3))]
    return parts + _sets(rows)


def _sets(rows: pd.DataFrame) -> list[str]:
    """Coverage and size of scim's prediction sets."""
    own = rows[rows["method"] == "scim"]
    if not len(own):
        return []
    columns = {f"{what}_{alpha:g}": (what, alpha) for alpha in ALPHAS for what in ("coverage", "set_size")}
    sets = own.groupby("held_out", sort=False)[list(columns)].mean().round(3)
    sets.loc["mean"] = sets.mean().round(3)
    named = {c: f"{what.replace('_', ' ')}, alpha {alpha:g}" for c, (what, alpha) in columns.items()}
    return ["Prediction sets of scim:", to_markdown(sets.rename(columns=named))]


def _by_study(rows: pd.DataFrame) -> list[str]:
    """Macro-F1 by held-out study with the means of the scores, and the studies that scim refused."""
    mean = means(rows, list(_MAIN))
    whole = of_whole_seeds(rows, ["held_out"])
    table = whole.pivot_table(index="method", columns="held_out", values="macro_f1", sort=False).round(3)
    names = [c for c in ("macro_f1", "spread", "hierarchical_f", *_GIVEN, "cpu_seconds") if c in mean]
    table = table.join(mean[names].rename(columns=_MAIN | {"macro_f1": "mean"}).round(3)).loc[mean.index]
    table["seconds"] = table["seconds"].round(0)
    parts = [to_markdown(table), _in_part(mean)]
    if "refused" in rows and rows["refused"].notna().any():
        refused = rows[rows["refused"].notna()].drop_duplicates(["method", "held_out"])
        reasons = zip(refused["method"], refused["held_out"], refused["refused"], strict=True)
        parts.append("\n".join(f"- {method} refused {study}: {why}" for method, study, why in reasons))
    return parts


def _integration(rows: pd.DataFrame) -> list[str]:
    if "scib_total" not in rows:
        return ["scib-metrics was not installed."]
    parts = [c for c in rows if str(c).startswith("scib: ")]
    columns = {"scib_total": "total", "scib_batch": "batch", "scib_bio": "bio"}
    columns |= {str(c): str(c).removeprefix("scib: ") for c in parts}
    columns |= {"cpu_seconds": "seconds"}
    rows = of_whole_seeds(rows, ["held_out"])
    mean = rows.groupby(["method", "held_out"])[list(columns)].mean().groupby(level=0).mean()
    by_seed = rows.groupby(["method", "seed"])["scib_total"].mean().groupby(level=0)
    mean.insert(1, "spread", (by_seed.max() - by_seed.min()).where(by_seed.size() > 1))
    columns |= {"spread": _MAIN["spread"]}
    table = mean.sort_values("scib_total", ascending=False).rename(columns=columns).round(3)
    table["seconds"] = table["seconds"].round(0)
    return [to_markdown(table)]


def _robustness(rows: pd.DataFrame) -> list[str]:
    rows = rows.assign(rare=rows["condition"].str.startswith("rare-"))
    # Unchanged data were run with more seeds than the conditions.
    rows = of_whole_seeds(rows, ["held_out", "condition"])
    clean = rows[rows["condition"] == "clean"].set_index(["method", "held_out", "seed"])["macro_f1"]
    before = clean.reindex(pd.MultiIndex.from_frame(rows[["method", "held_out", "seed"]])).to_numpy()
    rows = rows.assign(change=rows["macro_f1"] - before, shown=rows["condition"].where(~rows["rare"], "rare"))
    keys = ["method", "shown", "held_out"]
    mean = rows.groupby(keys)[["macro_f1", "change"]].mean().groupby(level=[0, 1]).mean()
    lines = {}
    for method in rows["method"].unique():
        line: dict[str, str] = {}
        for condition, name in _CONDITIONS.items():
            if (method, condition) in mean.index:
                score, change = mean.loc[(method, condition)]
                line[name] = f"{score:.3f}" if condition == "clean" else f"{score:.3f} ({change:+.3f})"
        lines[method] = line
    table = pd.DataFrame.from_dict(lines, orient="index")
    if "f1_rare" in rows:
        alone = rows[rows["rare"]].assign(label=rows["condition"].str.removeprefix("rare-"))
        alone = alone.groupby(["method", "label", "held_out"])["f1_rare"].mean().groupby(level=[0, 1]).mean().unstack()
        table = table.join(alone.round(3).add_prefix("20 "))
    order = [m for m in clean.groupby(level=0).mean().sort_values(ascending=False).index if m in table.index]
    return [to_markdown(table.loc[order]), *_spread_by_condition(rows, order)]


def _spread_by_condition(rows: pd.DataFrame, order: Sequence[str]) -> list[str]:
    """Spread of the seeds' means in each condition, for methods with several seeds."""
    by_seed = rows.groupby(["method", "shown", "seed", "held_out"])["macro_f1"].mean().groupby(level=[0, 1, 2]).mean()
    by_seed = by_seed.groupby(level=[0, 1])
    spread = (by_seed.max() - by_seed.min()).where(by_seed.size() > 1).unstack().dropna(how="all").round(3)
    if not len(spread):
        return []
    shown = {c: name for c, name in _CONDITIONS.items() if c in spread}
    table = spread.loc[[m for m in order if m in spread.index], list(shown)].rename(columns=shown)
    return ["Spread of macro-F1 over seeds:", to_markdown(table)]


def _ablation(rows: pd.DataFrame) -> list[str]:
    mapped, rows = rows[rows["group"] == "integration"], rows[rows["group"] != "integration"]
    mean = means(common(rows)[0], list(_MAIN))
    mean = mean.loc[[m for m in (*TRAININGS, *LABELLINGS) if m in mean.index]]
    # Compare with the default of the same seeds: it was run with more.
    own = rows[rows["method"] == "scim"].set_index(["held_out", "seed"])["macro_f1"]
    same = own.reindex(pd.MultiIndex.from_frame(rows[["held_out", "seed"]])).to_numpy()
    change = rows.assign(change=rows["macro_f1"] - same).groupby(["method", "held_out"])["change"].mean()
    mean.insert(0, "change", change.groupby(level=0).mean())
    names = {"macro_f1": "macro-F1", "change": "change"} | {
        c: _MAIN[c] for c in ("spread", "worst_macro_f1", "balanced_accuracy", "hierarchical_f", *_GIVEN)
    }
    by_study = rows.pivot_table(index="method", columns="held_out", values="macro_f1", sort=False).loc[mean.index]
    return [
        to_markdown(mean[[c for c in names if c in mean]].rename(columns=names).round(3)),
        common(rows)[1],
        CHOSEN.format(*chosen_elsewhere(rows)),
        "Macro-F1 by held-out study:",
        to_markdown(by_study.round(3)),
        *(["Integration of unseen studies:", *_integration(mapped)] if len(mapped) else []),
    ]


def _lead(found: dict[str, pd.DataFrame], suites: Sequence[str]) -> float:
    """Hierarchical F of scim minus that of the best other method, in points, over the studies of ``suites``."""
    rows = pd.concat([of_whole_seeds(found[suite], ["held_out"]) for suite in suites])
    mean = rows.groupby(["method", "group", "held_out"])["hierarchical_f"].mean().groupby(level=0).mean()
    return float(100 * (mean["scim"] - mean.drop("scim").max()))


def _better(found: dict[str, pd.DataFrame]) -> str:
    """List the studies on which other methods have a higher macro-F1 than scim, with these methods."""
    words = []
    for suite in _HELD_OUT:
        rows = of_whole_seeds(found[suite], ["held_out"]) if suite in found else pd.DataFrame()
        for study, mine in rows.groupby("held_out", sort=False):
            mean = mine.groupby("method")["macro_f1"].mean().sort_values(ascending=False)
            above = [f"{method} {score:.3f}" for method, score in mean.items() if round(score - mean["scim"], 3) > 0]
            words += [f"  - {study} (scim {mean['scim']:.3f}): {', '.join(above)}"] if above else []
    return "\n".join(words) or "  - none"


def chosen_elsewhere(rows: pd.DataFrame) -> tuple[float, float]:
    """Mean macro-F1 with the method chosen on the other studies, and with the default, both of the first seed."""
    table = rows[rows["seed"] == rows["seed"].min()].pivot_table(index="method", columns="held_out", values="macro_f1")
    table = table.dropna()
    best = [table.loc[table.drop(columns=study).mean(axis=1).idxmax(), study] for study in table]
    return float(np.mean(best)), float(table.loc["scim"].mean())


_SECTIONS: dict[str, Callable[[pd.DataFrame], list[str]]] = {
    "blood": _blood,
    **dict.fromkeys(("cells", "distant", "later", "chemistry", "pancreas"), lambda rows: _by_study(rows) + _sets(rows)),
    "integration": _integration,
    "robustness": _robustness,
    "ablation": _ablation,
}


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table."""
    lines = [["", *map(str, table.columns)], ["---"] * (table.shape[1] + 1)]
    lines += [[str(i), *map(_text, row)] for i, row in zip(table.index, table.itertuples(index=False), strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if pd.isna(value) else f"{value:g}"
