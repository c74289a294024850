"""Write labelled cells as the files of a segment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..._progress import progress_bar
from ..._warn import warn
from ...encoder import Encoder
from ...ontology import report_synonyms
from ..store import LANDMARKS, STUDY, TERM_ID, SegmentWriter, distinct_values, n_empty, save_landmarks
from ._ids import distinct_ids
from ._journal import Journal
from ._parts import PartWriter
from ._recipe import Recipe
from ._sources import count_cells, is_listed, is_named, list_parts

if TYPE_CHECKING:
    import pyarrow as pa

    from .._cluster import Cluster

#: Warn if more than this share of the cells have no count.
_WARN_EMPTY_SHARE = 0.01


@dataclass(frozen=True)
class Written:
    """Number of cells, term ids of the labels, and studies of a segment."""

    n_cells: int
    label_ids: list[str]
    studies: list[str]


def check_counts(folder: Path, n_cells: int) -> None:
    """Refuse a new segment whose cells have no count, and warn if more than a few cells have no count."""
    n = n_empty(folder)
    if n == n_cells:
        raise ValueError(
            "No cell has a count in any gene of the encoder, so that no search could find a cell. Check the values of "
            "adata.X or of layer=."
        )
    if n > _WARN_EMPTY_SHARE * n_cells:
        warn(f"{n:,} of {n_cells:,} cells have no count in any gene of the encoder. No search finds them.")


def write_segment(
    folder: Path,
    data: Any,
    encoder: Encoder,
    recipe: Recipe,
    *,
    known: Sequence[pa.Table] = (),
    journal: Journal | None = None,
    cluster: Cluster | None = None,
    encoder_folder: Path | None = None,
) -> Written:
    """Embed labelled data block by block and write them as a segment.

    ``folder`` is to be made, or that of an interrupted build. ``data`` are as in
    :func:`~scim.reference.build._sources.list_parts`, the others as in
    :class:`~scim.reference.build._parts.PartWriter`. No cells, a cell that is already in the reference, or a column
    with text and numbers are a ValueError.
    """
    with progress_bar(count_cells(data), desc="Building the reference") as bar:
        ahead = dict(enumerate(list_parts(data, recipe.taken))) if cluster is not None and is_listed(data) else None
        work = PartWriter(
            folder, encoder, recipe, journal, bar, known, cluster=cluster, encoder_folder=encoder_folder, parts=ahead
        )
        try:
            n_parts = 0
            for n_parts, part in enumerate(list_parts(data, recipe.taken), start=1):
                work.write(part, n_parts - 1)
            report_synonyms(recipe.ontology, work.labels)
            work.rewind(n_parts)  # an interrupted build may have had more parts
            written = _finish(work.segment, known, is_unnamed=recipe.study_key is None and not is_named(data))
            if recipe.landmarks != "none":
                landmarks = work.landmarks(len(encoder.genes), simulate=recipe.landmarks == "simulated")
                save_landmarks(folder / LANDMARKS, landmarks)
            work.segment.discard_stages()
        finally:
            work.close()
    return written


def write_blocks(
    folder: Path, parts: Iterable[tuple[pd.DataFrame, Iterable[np.ndarray]]], *, n_cells: int | None
) -> Written:
    """Write a segment from parts with metadata, as of :meth:`Recipe.cells`, and blocks of unit vectors (n_i, d)."""
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
    """Make the ids of the cells unique, and write the metadata."""
    if writer.n_cells == 0:
        raise ValueError("There are no cells to build a reference from: no AnnData was given.")
    ids = distinct_ids(writer.tables, known, is_unnamed=is_unnamed)
    writer.close(ids, known=known[0] if known else None)
    return Written(writer.n_cells, *(distinct_values(writer.tables(), column) for column in (TERM_ID, STUDY)))
