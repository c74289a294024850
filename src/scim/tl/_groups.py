"""Read groups of cells from a column of ``obs``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .._validate import check_key

#: Largest number of groups in a column of numbers.
_MAX_NUMERIC_GROUPS = 200


@dataclass(frozen=True, eq=False)
class Groups:
    """Names of groups, and the group of each cell, int64 (n,), -1 for no group."""

    names: list[str]
    codes: np.ndarray

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum the rows of ``values`` (n, ...) by group, float64 (n_groups, ...)."""
        from scipy import sparse

        cells = np.flatnonzero(self.codes >= 0)
        places = (np.ones(len(cells)), (self.codes[cells], cells))
        return np.asarray(sparse.csr_matrix(places, shape=(len(self.names), len(self.codes))) @ values)


def is_number(column: pd.Series) -> bool:
    """Whether a column holds numbers, and not True and False."""
    return bool(pd.api.types.is_numeric_dtype(column.dtype)) and not pd.api.types.is_bool_dtype(column.dtype)


def read_groups(obs: pd.DataFrame, key: str, *, argument: str) -> Groups:
    """Read the groups of the column ``key``: in the order of its categories, or sorted.

    Parameters
    ----------
    obs
        Table of the cells.
    key
        Name of the column.
    argument
        Name of the argument that names the column, for messages.

    Raises
    ------
    KeyError, TypeError
        The column is not there, or its name is not a string.
    ValueError
        The column holds measurements, no groups, or groups with the same text (1 and "1").
    """
    check_key(obs, key, argument=argument, where="adata.obs")
    column = obs[key].where(~obs[key].isin([""]).to_numpy())
    numbers = is_number(column)
    # Integer clusters become floats (0.0, 1.0, NaN) if cells without a cluster are added.
    if numbers:
        measured = column[column.notna() & ((column != column.round()) | np.isinf(column.astype(float)))]
        if len(measured):
            raise ValueError(
                f"{argument}={key!r} holds measurements (such as {measured.iloc[0]:.4g}), but must hold groups. "
                "Choose a column of groups, or make groups with pd.cut."
            )
        if (column.abs() > 2**62).any():
            raise ValueError(
                f"{argument}={key!r} holds numbers up to {column.max():.3g}, but must hold groups. Choose another."
            )
        column = column.astype("Int64")
    if not isinstance(column.dtype, pd.CategoricalDtype):
        values = list(column.dropna().unique())
        column = column.astype(object).where(column.notna(), None)
        column = pd.Series(pd.Categorical(column, categories=sorted(values, key=None if numbers else str)))
    column = column.cat.remove_unused_categories()
    names = [str(name) for name in column.cat.categories]
    if not names:
        raise ValueError(
            f"{argument}={key!r} holds no group: all {len(column):,} values are missing. Choose another column."
        )
    if numbers and len(names) > _MAX_NUMERIC_GROUPS:
        raise ValueError(
            f"{argument}={key!r} has {len(names):,} groups for {len(column):,} cells. Choose a column of clusters, not "
            "of measurements (obs[...].astype(str) makes groups of numbers)."
        )
    if len(set(names)) < len(names):
        alike = next(name for name, n in Counter(names).items() if n > 1)
        kinds = sorted({type(x).__name__ for x in column.cat.categories if str(x) == alike})
        raise ValueError(
            f"{argument}={key!r} holds {alike!r} more than once, as {' and as '.join(kinds)}. Write "
            f"adata.obs[{key!r}] = adata.obs[{key!r}].astype(str) if that is one group, or rename one."
        )
    return Groups(names, column.cat.codes.to_numpy().astype(np.int64))
