"""From labelled cells to the files of a segment."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .._progress import progress_bar
from .._validate import check_key, get_adata, is_unlabeled
from ..encoder import Encoder
from ..ontology import CellOntology, TermSpace
from ._head import choose
from ._landmarks import MOST, PER_GROUP, LandmarkKind, Landmarks, values_of
from ._manifest import LANDMARKS
from ._segments import CELL_ID, FIXED_COLUMNS, LABEL, STUDY, TERM_ID, SegmentWriter

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix

#: Columns of obs that are kept where they are there and none are named.
DEFAULT_COLUMNS = ("donor", "sample", "assay", "tissue", "disease", "batch")


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

    def studies(self, data: Any) -> Iterator[tuple[str, AnnData, pd.DataFrame]]:
        """Names, data and ``obs`` of the parts; each is checked when its turn comes."""
        if isinstance(data, Mapping):
            parts: Iterable[tuple[Any, Any]] = data.items()
        elif hasattr(data, "obs") or isinstance(data, str | Path) or not isinstance(data, Iterable):
            parts = [("study" if "study" not in self.taken else next(self._free_names(2)), data)]
        else:
            parts = zip(self._free_names(1), data, strict=False)
        for name, part in parts:
            adata = get_adata(part, mod=self.mod)
            obs = adata.obs
            if adata is not part:  # a MuData has columns of its own
                whole = part.obs.reindex(obs.index)
                obs = obs.join(whole[[column for column in whole if column not in obs]])
            self._check_obs(obs)
            yield str(name), adata, obs

    def _free_names(self, start: int) -> Iterator[str]:
        """Yield ``study_1``, ``study_2`` and so on, but for those that are taken."""
        return (name for name in (f"study_{i}" for i in count(start)) if name not in self.taken)

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

    def cells(self, obs: pd.DataFrame, name: str) -> pd.DataFrame:
        """Metadata of all cells of one part."""
        labels = _text(obs[self.labels_key]).str.strip()
        labels = labels.where(~is_unlabeled(labels, self.unlabeled_category), None)
        resolved = {label: self.ontology.resolve(label) for label in labels.dropna().unique()}
        names = {label: self.ontology.name(term) if term else label for label, term in resolved.items()}
        ids = {label: term or label for label, term in resolved.items()}
        cells = {
            CELL_ID: np.asarray(obs.index, dtype=object).astype(str).astype(object),
            LABEL: labels.map(names).to_numpy(object),
            TERM_ID: labels.map(ids).to_numpy(object),
            STUDY: _text(obs[self.study_key]).to_numpy(object) if self.study_key else np.full(len(obs), name, object),
        }
        chosen = DEFAULT_COLUMNS if self.obs_columns is None else self.obs_columns
        for column in dict.fromkeys(map(str, chosen)):
            if column in obs and column not in FIXED_COLUMNS:
                values = obs[column]
                is_number = values.dtype.kind in "iufb" and not (values.dtype.kind != "f" and values.isna().any())
                cells[column] = values.to_numpy() if is_number else _text(values).to_numpy(object)
        return pd.DataFrame(cells)


def _text(values: pd.Series) -> pd.Series:
    """Values as text, missing ones as None."""
    plain = values.astype(object)
    return pd.Series(
        [None if missing else str(x) for x, missing in zip(plain, plain.isna(), strict=True)], dtype=object
    )


@dataclass(frozen=True)
class Written:
    """What a segment that was written holds: cells, the labels' term ids, and the studies."""

    n_cells: int
    label_ids: list[str]
    studies: list[str]


def write_segment(
    folder: Path, data: Any, encoder: Encoder, source: Source, *, known: pd.DataFrame | None = None
) -> Written:
    """Embed labelled data block by block and write them as a segment.

    Parameters
    ----------
    folder
        Made anew.
    data
        One AnnData or MuData, several, or a mapping of names to them.
    encoder
        What to embed with.
    source
        Where things are in the data.
    known
        ``cell_id`` and ``study`` of the cells that the reference has already.

    Raises
    ------
    ValueError
        There are no cells, or the reference has some of them already.
    """
    landmarks = _Collected()

    def parts() -> Iterator[tuple[pd.DataFrame, Iterable[np.ndarray]]]:
        for name, adata, obs in source.studies(data):
            cells = source.cells(obs, name)
            rows = _choose(cells)
            layer, genes = source.layer, source.gene_column
            if source.landmarks != "none":
                landmarks.add(cells, rows, values_of(encoder, adata, layer=layer, gene_column=genes)(rows))
            yield cells, (vectors for _, vectors in encoder.embed_chunks(adata, layer=layer, gene_column=genes))

    is_unnamed = source.study_key is None and not isinstance(data, Mapping)
    written = write_blocks(folder, parts(), n_cells=_n_cells(data), known=known, is_unnamed=is_unnamed)
    if source.landmarks != "none":
        landmarks.joined(len(encoder.genes), simulate=source.landmarks == "simulated").save(folder / LANDMARKS)
    return written


class _Collected:
    """Landmarks of the parts so far, thinned where they become too many."""

    def __init__(self) -> None:
        self._landmarks: Landmarks | None = None
        self._groups = pd.DataFrame({TERM_ID: [], STUDY: []}, dtype=object)
        self._n_cells = 0

    def add(self, cells: pd.DataFrame, rows: np.ndarray, profiles: csr_matrix) -> None:
        """Take in some cells of a part, with their values."""
        new = Landmarks.of(profiles, rows + self._n_cells)
        self._landmarks = new if self._landmarks is None else Landmarks.join([self._landmarks, new])
        self._groups = pd.concat([self._groups, cells[[TERM_ID, STUDY]].iloc[rows]], ignore_index=True)
        self._n_cells += len(cells)
        if len(self._landmarks) > 2 * MOST:
            self._landmarks = self.joined()

    def joined(self, n_genes: int = 0, *, simulate: bool = False) -> Landmarks:
        """All of them, no more than a segment keeps; with counts drawn like theirs if wanted."""
        if self._landmarks is None:
            raise ValueError("There are no cells to build a reference from: no AnnData was given.")
        kept = _choose(self._groups)
        self._groups = self._groups.iloc[kept].reset_index(drop=True)
        landmarks = self._landmarks.take(kept)
        if simulate:
            groups = self._groups.groupby([TERM_ID, STUDY], sort=True).ngroup().to_numpy()
            landmarks = landmarks.simulated(groups, n_genes, seed=0)
        return landmarks


def _choose(groups: pd.DataFrame) -> np.ndarray:
    """Cells to be landmarks, as many of each label and study."""
    codes, studies = (pd.factorize(groups[name])[0] for name in (TERM_ID, STUDY))
    return choose(codes, studies, seed=0, per_group=PER_GROUP, most=MOST)


def write_blocks(
    folder: Path,
    parts: Iterable[tuple[pd.DataFrame, Iterable[np.ndarray]]],
    *,
    n_cells: int | None,
    known: pd.DataFrame | None = None,
    is_unnamed: bool = False,
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
    known
        See :func:`write_segment`.
    is_unnamed
        See :func:`distinct_ids`.
    """
    writer = SegmentWriter(folder)
    try:
        with progress_bar(n_cells, desc="Building the reference") as bar:
            for described, blocks in parts:
                writer.describe(described)
                for vectors in blocks:
                    writer.append(vectors)
                    bar.update(len(vectors))
        if writer.n_cells == 0:
            raise ValueError("There are no cells to build a reference from: no AnnData was given.")
        cells = writer.cells.select([CELL_ID, TERM_ID, STUDY]).to_pandas()
        ids = distinct_ids(cells[CELL_ID], cells[STUDY].astype(object), known, is_unnamed=is_unnamed)
        writer.close(ids.to_numpy(object))
    except BaseException:
        writer.abort()
        raise
    label_ids = sorted(map(str, cells[TERM_ID].dropna().unique()))
    return Written(writer.n_cells, label_ids, sorted(map(str, cells[STUDY].unique())))


def _n_cells(data: Any) -> int | None:
    """Cells in all, where that can be known beforehand."""
    parts = list(data.values()) if isinstance(data, Mapping) else [data] if hasattr(data, "obs") else data
    if not isinstance(parts, Sequence):
        return None
    return sum(int(part.n_obs) for part in parts if hasattr(part, "n_obs"))


def distinct_ids(
    ids: pd.Series, studies: pd.Series, known: pd.DataFrame | None = None, *, is_unnamed: bool = False
) -> pd.Series:
    """Cell ids of which no two are alike: a repeated one gets its study in front, and then a number.

    Parameters
    ----------
    ids, studies
        Id and study of each cell that is new.
    known
        ``cell_id`` and ``study`` of cells that are there already, and keep their ids.

    is_unnamed
        The studies got their names by counting: cells that are there under their ids may be the same.

    Raises
    ------
    ValueError
        A cell of the same study and id is there already.
    """
    ids, full = ids.astype(object), studies + ":" + ids.astype(object)
    clash = ids.duplicated(keep=False)
    if known is not None:
        own, study = known[CELL_ID].astype(object), known[STUDY].astype(object)
        again = full.isin(pd.Index(pd.concat([own, study + ":" + own])))
        # Some barcodes of 10x occur in every study; half of them or more are the same cells.
        if is_unnamed and ids.isin(pd.Index(own)).mean() >= 0.5:
            again |= ids.isin(pd.Index(own))
        if again.any():
            raise ValueError(
                f"{int(again.sum())} cells are in the reference already, such as {ids[again].iloc[0]!r} of study "
                f"{studies[again].iloc[0]!r}. Leave them out; if they are others of the same names, name their study "
                "(study_key, or a mapping of names to data) another way."
            )
        clash |= ids.isin(pd.Index(own))
    distinct = ids.where(~clash, full)
    number = distinct.groupby(distinct).cumcount()
    return distinct.where(number == 0, distinct + "#" + (number + 1).astype(str))


def compile_terms(ontology: CellOntology, label_ids: Iterable[str], *, stacklevel: int) -> tuple[TermSpace, str]:
    """Arrays of the labels, with the version of the ontology; "flat" if it knows none of them."""
    ids = sorted(set(label_ids))
    outside = [label for label in ids if label not in ontology]
    if len(outside) == len(ids):
        return CellOntology.flat(ids).term_space(ids), "flat"
    if outside:
        shown = ", ".join(map(repr, outside[:8])) + (" ..." if len(outside) > 8 else "")
        warnings.warn(
            f"{len(outside)} of {len(ids)} labels are not in the ontology and stand by themselves: {shown}. "
            "scim.pp.harmonize_labels finds their terms.",
            UserWarning,
            stacklevel=stacklevel,
        )
    return ontology.term_space(ids), ontology.version
