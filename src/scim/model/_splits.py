"""Which cells validate: whole studies where there are enough, otherwise a share of every term and study."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._validate import check_fraction, did_you_mean

#: A share of the cells is held out as whole studies where there are this many.
_MIN_STUDIES = 3


def choose_validation(
    labels: np.ndarray,
    studies: np.ndarray,
    study_names: Sequence[str],
    *,
    validation_studies: float | str | Sequence[str] | None,
    train_size: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Split cells into training and validation.

    Parameters
    ----------
    labels, studies
        Codes (n,); a label of -1 means none.
    study_names
        Name of each study code.
    validation_studies
        Names of the studies to hold out; or the largest share of cells that held-out studies may hold, where there are
        three studies or more. None, or 0, holds out none.
    train_size
        Share of the cells that train where no study is held out.
    seed
        Seed of the draw.

    Returns
    -------
    Positions of training cells, of validation cells, and the names of the held-out studies.

    Raises
    ------
    KeyError
        A name is no study.
    ValueError
        Nothing is left to train on, or a share is out of range.
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
        return np.flatnonzero(~mask), np.flatnonzero(mask), [str(study_names[s]) for s in held_out]
    share = 1 - check_fraction(train_size, argument="train_size", low=0.05)
    mask = _stratified(labels, studies, share, rng)
    return np.flatnonzero(~mask), np.flatnonzero(mask), []


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
    """Draw studies that together hold at most ``share`` of the cells, and no label that others do not hold."""
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
        # At least two studies stay, so that there are triplets across studies.
        if holds[study].sum() > 1 and covered and fits and len(others) >= 2:
            chosen.append(int(study))
    return chosen


def _stratified(labels: np.ndarray, studies: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draw ``share`` of the cells of every label and study; a group gives no cell that it cannot spare."""
    mask = np.zeros(len(labels), dtype=bool)
    group = (labels + 1) * (int(studies.max(initial=0)) + 1) + studies
    order = rng.permutation(len(labels))
    order = order[np.argsort(group[order], kind="stable")]
    _, starts, sizes = np.unique(group[order], return_index=True, return_counts=True)
    for start, size in zip(starts, sizes, strict=True):
        # Rounded at random, so that many small groups still add up to the share.
        mask[order[start : start + min(int(size * share + rng.random()), size - 1)]] = True
    return mask
