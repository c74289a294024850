"""From labelled cells to the files of a segment."""

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
from ..store import (
    LANDMARKS,
    STUDY,
    TERM_ID,
    SegmentWriter,
    distinct_values,
    n_empty,
    save_landmarks,
)
from ._ids import distinct_ids
from ._journal import Journal
from ._parts import PartWriter
from ._recipe import Recipe
from ._sources import count_cells, is_listed, is_named, list_parts

if TYPE_CHECKING:
    import pyarrow as pa

    from .._cluster import Cluster

#: Share of cells without counts that is passed over.
_A_FEW = 0.01


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
    source: Recipe,
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
                save_landmarks(folder / LANDMARKS, landmarks)
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
        Metadata as :meth:`Recipe.cells` gives them, and unit vectors (n_i, d), block by block.
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
