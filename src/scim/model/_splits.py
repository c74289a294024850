"""Split cells into training and validation: whole studies, or a share of each label and study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .._validate import check_fraction, did_you_mean

#: With fewer studies, none is held out by a share of the cells.
_MIN_STUDIES = 3


@dataclass(frozen=True, eq=False)
class Split:
    """Positions of the cells for training and for validation, int64, and names of the studies that are held out."""

    train: np.ndarray
    validation: np.ndarray
    held_out: list[str]


def choose_validation(
    labels: np.ndarray,
    studies: np.ndarray,
    study_names: Sequence[str],
    *,
    validation_studies: float | str | Sequence[str] | None,
    train_size: float,
    seed: int,
) -> Split:
    """Split cells into training and validation.

    Labels and studies are codes (n,); a label of -1 means none. ``validation_studies`` are names of the studies to hold
    out; or, with three studies or more, the largest share of the cells that held-out studies may hold. None, or 0,
    holds out none. ``train_size`` is the share of the cells that train if no study is held out.

    Raises
    ------
    KeyError
        A name is not a study.
    ValueError
        Fewer than two cells are left to train on, or a share is out of range.
    """
    rng = np.random.default_rng(seed)
    if validation_studies is None:
        held_out: list[int] = []
    elif isinstance(validation_studies, int | float):
        share = check_fraction(validation_studies, argument="validation_studies", high=0.9)
        held_out = _small_studies(labels, studies, len(study_names), share, rng)
    else:
        held_out = _named(validation_studies, study_names)
    if held_out:
        mask = np.isin(studies, held_out)
        if mask.all():
            raise ValueError("validation_studies names every study: nothing is left to train on. Leave one out.")
    else:
        mask = _stratified(labels, studies, 1 - check_fraction(train_size, argument="train_size", low=0.05), rng)
    if (n_train := int((~mask).sum())) < 2:
        raise ValueError(f"There are {n_train} cells to train on; batches need two or more. Add cells.")
    return Split(np.flatnonzero(~mask), np.flatnonzero(mask), [str(study_names[s]) for s in held_out])


def _named(names: str | Sequence[str], study_names: Sequence[str]) -> list[int]:
    names = [names] if isinstance(names, str) else [str(n) for n in names]
    known = {str(name): code for code, name in enumerate(study_names)}
    for name in names:
        if name not in known:
            raise KeyError(f"validation_studies: {name!r} is not a study. {did_you_mean(name, known)}")
    return [known[name] for name in names]


def _small_studies(
    labels: np.ndarray, studies: np.ndarray, n_studies: int, share: float, rng: np.random.Generator
) -> list[int]:
    """Draw studies that together hold at most ``share`` of the cells, and whose labels all occur in other studies."""
    sizes = np.bincount(studies, minlength=n_studies)
    if (sizes > 0).sum() < _MIN_STUDIES:
        return []
    labelled = labels >= 0
    holds = np.zeros((n_studies, int(labels.max(initial=-1)) + 1), dtype=bool)
    holds[studies[labelled], labels[labelled]] = True
    chosen: list[int] = []
    for study in rng.permutation(n_studies):
        others = np.setdiff1d(np.arange(n_studies), [*chosen, study])
        covered = bool(np.all(holds[others].any(axis=0) | ~holds[study]))
        fits = sizes[[*chosen, study]].sum() <= share * len(studies)
        # At least two studies train, so that there are triplets across studies.
        if holds[study].sum() > 1 and covered and fits and len(others) >= 2:
            chosen.append(int(study))
    return chosen


def _stratified(labels: np.ndarray, studies: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draw ``share`` of the cells of each label and study, at most all but one of them; bool (n,)."""
    mask = np.zeros(len(labels), dtype=bool)
    group = (labels + 1) * (int(studies.max(initial=0)) + 1) + studies
    order = rng.permutation(len(labels))
    order = order[np.argsort(group[order], kind="stable")]
    _, starts, sizes = np.unique(group[order], return_index=True, return_counts=True)
    for start, size in zip(starts, sizes, strict=True):
        # Rounded at random, so that many small groups add up to the share.
        mask[order[start : start + min(int(size * share + rng.random()), size - 1)]] = True
    return mask
