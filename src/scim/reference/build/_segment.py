"""From labelled cells to the files of a segment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..._progress import progress_bar
from ..._validate import check_key, get_adata, is_unlabeled
from ..._version import scim_version
from ..._warn import warn
from ...encoder import Encoder
from ...ontology import CellOntology, TermSpace
from ..cells._filters import as_text
from ._ids import distinct_ids
from ._sources import count_cells, is_listed, is_named, list_parts
from ._journal import Journal
from ...labels._landmarks import LandmarkKind
from ..store._manifest import LANDMARKS
from ._parts import PartWriter
from ..store._segments import SegmentWriter, n_empty
from ..store._tables import CELL_ID, FIXED_COLUMNS, LABEL, STUDY, TERM_ID, distinct_values

if TYPE_CHECKING:
    import pyarrow as pa
    from anndata import AnnData

    from .._cluster import Cluster

#: Columns of obs that are kept where they are there and none are named. They hold names: numbers in them become text.
DEFAULT_COLUMNS = ("donor", "sample", "assay", "tissue", "disease", "batch")
#: Share of cells without counts that is passed over.
_A_FEW = 0.01


@dataclass(frozen=True)
class Source:
    """Labelled data that go into a reference.

    Attributes
    ----------
    labels_key, study_key, obs_columns
        Columns of ``obs``.
    layer, gene_column, mod
        Where values and genes are.
    ontology
        What labels are resolved with.
    unlabeled_category
        A label that means that there is none.
    taken
        Names of studies that are there already, and that data without a name do not belong to.
    landmarks
        See :meth:`scim.Reference.build`.
    """

    labels_key: str
    study_key: str | None
    obs_columns: Sequence[str] | None
    layer: str | None
    gene_column: str | None
    mod: str | None
    ontology: CellOntology
    unlabeled_category: str | None = None
    taken: frozenset[str] = frozenset()
    landmarks: LandmarkKind = "cells"

    def __post_init__(self) -> None:
        if isinstance(self.obs_columns, str):
            raise TypeError(
                f"obs_columns must be a list of columns, got {self.obs_columns!r}. Write [{self.obs_columns!r}]."
            )
        for column in self.obs_columns or ():
            if column in FIXED_COLUMNS and column not in (self.labels_key, self.study_key):
                raise ValueError(
                    f"obs_columns holds {column!r}, which means something else in a reference (it has its own columns "
                    f"{', '.join(FIXED_COLUMNS)}). Rename the column of obs."
                )

    def plan(self, encoder: Encoder) -> dict[str, Any]:
        """Say all that vectors and metadata depend on, beside the data."""
        fields = {name: value for name, value in vars(self).items() if name not in ("ontology", "taken")}
        ontology = f"{self.ontology.version} of {self.ontology.source}"
        return {**fields, "ontology": ontology, "encoder": encoder.id, "scim": scim_version()}

    def look_into(self, part: Any) -> tuple[AnnData, pd.DataFrame]:
        """Give data and ``obs`` of a part, once they are checked."""
        adata = get_adata(part, mod=self.mod)
        obs = adata.obs
        if adata is not part:  # a MuData has columns of its own
            whole = part.obs.reindex(obs.index)
            obs = obs.join(whole[[column for column in whole if column not in obs]])
        self._check_obs(obs)
        return adata, self._used(obs)

    def _used(self, obs: pd.DataFrame) -> pd.DataFrame:
        """Columns that are read."""
        chosen = DEFAULT_COLUMNS if self.obs_columns is None else self.obs_columns
        names = dict.fromkeys([self.labels_key, self.study_key, *map(str, chosen)])
        return obs[[name for name in names if name is not None and name in obs]]

    def _check_obs(self, obs: pd.DataFrame) -> None:
        check_key(obs, self.labels_key, argument="labels_key", where="adata.obs")
        for column in self.obs_columns or ():
            check_key(obs, column, argument="obs_columns", where="adata.obs")
        if self.study_key is not None:
            check_key(obs, self.study_key, argument="study_key", where="adata.obs")
            if missing := int(obs[self.study_key].isna().sum()):
                raise ValueError(
                    f"{missing} cells have no study in obs[{self.study_key!r}]. Give them one, or leave them out."
                )

    def check_kinds(self, obs: pd.DataFrame, name: str, there: dict[str, str]) -> dict[str, str]:
        """Refuse columns that hold other things than they do in the cells before, which are numbers there or text.

        Parameters
        ----------
        obs
            Columns of a part.
        name
            What the part is called.
        there
            What each column of the cells before holds, see :func:`~scim.reference.store._tables.column_kinds`.

        Returns
        -------
        What each column holds now.
        """
        kinds = dict(there)
        for column in self._kept(obs):
            values = obs[column]
            if values.isna().all():
                continue
            kind = _kind(values) if column not in DEFAULT_COLUMNS else "text"
            if getattr(values.dtype, "kind", "") == "u" and kind == "numbers" and values.max() > 2**63 - 1:
                raise ValueError(
                    f"adata.obs[{column!r}] of {name!r} holds {values.max()}, too large for a whole number of 64 bits. "
                    f"Keep it as text: adata.obs[{column!r}] = adata.obs[{column!r}].astype(str)."
                )
            if kinds.setdefault(column, kind) != kind:
                before, place = kinds[column], f"adata.obs[{column!r}]"
                remedy = {
                    "text": f"{place} = {place}.astype(str)",
                    "numbers": f"{place} = pd.to_numeric({place})",
                    "True and False": f"{place} = {place}.astype(bool)",
                }[before]
                raise ValueError(
                    f"obs[{column!r}] of {name!r} holds {kind}, but that of the cells before holds {before}: one "
                    f"column cannot have both. Write {remedy}, rename it, or say with obs_columns= what to keep."
                )
        return kinds

    def _kept(self, obs: pd.DataFrame) -> list[str]:
        """Columns that are kept as metadata."""
        chosen = DEFAULT_COLUMNS if self.obs_columns is None else self.obs_columns
        return [column for column in dict.fromkeys(map(str, chosen)) if column in obs and column not in FIXED_COLUMNS]

    def cells(self, obs: pd.DataFrame, name: str) -> pd.DataFrame:
        """Metadata of all cells of one part."""
        return self.describer(obs, name)(slice(None))

    def describer(self, obs: pd.DataFrame, name: str) -> Callable[[slice], pd.DataFrame]:
        """Return what gives the metadata of some cells of one part: a column is of one type in all of it."""
        kept = self._kept(obs)
        plain = {column for column in kept if column not in DEFAULT_COLUMNS and _kind(obs[column]) != "text"}
        resolved: dict[str, tuple[str, str]] = {}

        def resolve(label: str) -> tuple[str, str]:
            if label not in resolved:
                term = self.ontology.resolve(label)
                resolved[label] = (self.ontology.name(term) if term else label, term or label)
            return resolved[label]

        def describe(rows: slice) -> pd.DataFrame:
            part = obs.iloc[rows]
            labels = _text(part[self.labels_key]).str.strip()
            labels = labels.where(~is_unlabeled(labels, self.unlabeled_category), None)
            pairs = {label: resolve(label) for label in labels.dropna().unique()}
            own = _text(part[self.study_key]) if self.study_key else pd.Series(np.full(len(part), name, object))
            cells = {
                CELL_ID: np.asarray(part.index, dtype=object).astype(str).astype(object),
                LABEL: labels.map({label: pair[0] for label, pair in pairs.items()}).to_numpy(object),
                TERM_ID: labels.map({label: pair[1] for label, pair in pairs.items()}).to_numpy(object),
                STUDY: own.to_numpy(object),
            }
            for column in kept:
                values = part[column]
                cells[column] = values.array if column in plain else _text(values).to_numpy(object)
            return pd.DataFrame(cells)

        return describe


def _kind(values: pd.Series) -> str:
    """Say what a column holds, as :func:`~scim.reference.store._tables.column_kinds` does."""
    return {"b": "True and False"}.get(values.dtype.kind, "numbers" if values.dtype.kind in "iuf" else "text")


def _text(values: pd.Series) -> pd.Series:
    """Values as text, missing ones as None."""
    if values.dtype.kind == "f" and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")  # whole numbers of which some are missing: 1, not 1.0
    plain = values.astype(object)
    return pd.Series(
        [None if missing else as_text(x) for x, missing in zip(plain, plain.isna(), strict=True)], dtype=object
    )


@dataclass(frozen=True)
class Written:
    """What a segment that was written holds: cells, the labels' term ids, and the studies."""

    n_cells: int
    label_ids: list[str]
    studies: list[str]


def check_counts(folder: Path, n_cells: int) -> None:
    """Refuse a segment, just written, of cells without any count, and warn where more than a few have none.

    Parameters
    ----------
    folder, n_cells
        Of the segment.
    """
    n = n_empty(folder)
    if n == n_cells:
        raise ValueError(
            "No cell has a count in any gene of the encoder, so that none could ever be found. Look at the values: "
            "adata.X, or what layer= names."
        )
    if n > _A_FEW * n_cells:
        warn(f"{n:,} of {n_cells:,} cells have no count in any gene of the encoder: no search finds them.")


def write_segment(
    folder: Path,
    data: Any,
    encoder: Encoder,
    source: Source,
    *,
    known: Sequence[pa.Table] = (),
    journal: Journal | None = None,
    cluster: Cluster | None = None,
    encoder_folder: Path | None = None,
) -> Written:
    """Embed labelled data block by block and write them as a segment.

    Parameters
    ----------
    folder
        Made anew, or left by a build that was interrupted.
    data
        What :func:`~scim.reference.build._sources.list_parts` takes.
    encoder
        What to embed with.
    source
        Where things are in the data.
    known
        Metadata of the cells that the reference has already.
    journal
        Where finished work is noted, and found.
    cluster
        Embeds files; None: this process does.
    encoder_folder
        Where its workers find the encoder.

    Raises
    ------
    ValueError
        There are no cells, the reference has some of them already, or a column holds text in some, numbers in others.
    """
    with progress_bar(count_cells(data), desc="Building the reference") as bar:
        ahead = dict(enumerate(list_parts(data, source.taken))) if cluster is not None and is_listed(data) else None
        work = PartWriter(
            folder,
            encoder,
            source,
            journal,
            bar,
            cluster=cluster,
            encoder_folder=encoder_folder,
            parts=ahead,
            known=known,
        )
        try:
            n_parts = 0
            for n_parts, part in enumerate(list_parts(data, source.taken), start=1):
                work.write(part, n_parts - 1)
            work.rewind(n_parts)  # an interrupted build may have been given more
            written = _finish(work.segment, known, is_unnamed=source.study_key is None and not is_named(data))
            if source.landmarks != "none":
                landmarks = work.landmarks(len(encoder.genes), simulate=source.landmarks == "simulated")
                landmarks.save(folder / LANDMARKS)
            work.segment.discard_stages()
        finally:
            work.close()
    return written


def write_blocks(
    folder: Path, parts: Iterable[tuple[pd.DataFrame, Iterable[np.ndarray]]], *, n_cells: int | None
) -> Written:
    """Write a segment of parts, each the metadata of some cells and blocks of their vectors.

    Parameters
    ----------
    folder
        Made anew.
    parts
        Metadata as :meth:`Source.cells` gives them, and unit vectors (n_i, d), block by block.
    n_cells
        Cells in all, where that is known.
    """
    writer = SegmentWriter(folder)
    try:
        with progress_bar(n_cells, desc="Building the reference") as bar:
            for described, blocks in parts:
                writer.describe(described)
                for vectors in blocks:
                    writer.append(vectors)
                    bar.update(len(vectors))
        written = _finish(writer)
        writer.discard_stages()
    finally:
        writer.abort()
    return written


def _finish(writer: SegmentWriter, known: Sequence[pa.Table] = (), *, is_unnamed: bool = False) -> Written:
    """Give the cells their ids, and write their metadata."""
    if writer.n_cells == 0:
        raise ValueError("There are no cells to build a reference from: no AnnData was given.")
    ids = distinct_ids(writer.tables, known, is_unnamed=is_unnamed)
    writer.close(ids, known=known[0] if known else None)
    return Written(writer.n_cells, *(distinct_values(writer.tables(), column) for column in (TERM_ID, STUDY)))


def compile_terms(ontology: CellOntology, label_ids: Iterable[str]) -> tuple[TermSpace, str]:
    """Arrays of the labels, with the version of the ontology; "flat" if it knows none of them."""
    ids = sorted(set(label_ids))
    outside = [label for label in ids if label not in ontology]
    if len(outside) == len(ids):
        return CellOntology.flat(ids).term_space(ids), "flat"
    if outside:
        shown = ", ".join(map(repr, outside[:8])) + (" ..." if len(outside) > 8 else "")
        warn(
            f"{len(outside)} of {len(ids)} labels are not in the ontology and stand by themselves: {shown}. "
            "scim.pp.harmonize_labels finds their terms."
        )
    return ontology.term_space(ids), ontology.version
