"""A broad label is no rival of its kinds: studies that do not tell kinds apart hide them in it."""

from __future__ import annotations

import numpy as np


def hidden_labels(codes: np.ndarray, studies: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Estimate how often a study that has a label hides another label in it, float32 (n_labels, n_labels).

    A study that says "monocyte" hides CD14-positive monocytes in this label, unless it has that label, too. With s as
    the share of the studies with the broad label that have the label below it, too, the estimate is 1 - 2 s, and 0 from
    one half on: labels of one study exclude one another even where the ontology nests them. In the Cell Ontology a
    CD16-positive monocyte is below the CD14-positive monocyte, but most studies with the one have the other.

    Parameters
    ----------
    codes, studies
        Label codes and study codes of cells, (n,).
    below
        Labels that are a label or below it, bool (n_labels, n_labels).
    """
    has = np.zeros((int(studies.max(initial=0)) + 1, len(below)), dtype=np.float32)
    has[studies, codes] = 1
    together, alone = has.T @ has, has.sum(axis=0)
    hidden = below * np.maximum(1 - 2 * together / np.maximum(alone, 1)[:, None], 0)
    np.fill_diagonal(hidden, 0)
    return hidden.astype(np.float32)


def share_down(by_label: np.ndarray, hidden: np.ndarray | None) -> np.ndarray:
    """Move probability of broad labels to the labels that may be hidden in them, (m, c).

    A label gives its probability to the labels that may be hidden in it, in proportion to their probabilities, but at
    most as much as these have: so "monocyte" does not keep a cell from being a CD14-positive monocyte, and no kind wins
    that was improbable. Labels that hide most others come first. Rows keep their sums. ``hidden`` is that of
    :func:`hidden_labels`, (c, c). None: nothing is moved.
    """
    if hidden is None or not hidden.any():
        return by_label
    out = by_label.copy()
    for label in np.argsort(-(hidden > 0).sum(axis=1), kind="stable"):
        kinds = np.flatnonzero(hidden[label])
        if len(kinds):
            shares = out[:, kinds] * hidden[label, kinds]
            total = shares.sum(axis=1)
            moved = np.minimum(out[:, label], total)
            out[:, kinds] += shares * (moved / np.maximum(total, 1e-12))[:, None]
            out[:, label] -= moved
    return out
