"""Changes of a reference: add, remove, compact, reindex. Each takes a snapshot and returns the next one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...labels import thinned
from .. import store
from .._snapshot import Snapshot
from ..build import Recipe, check_counts, write_segment
from ..store import STUDY, SegmentWriter, save_landmarks
from ._commit import commit, compile_terms
from ._writer import add_segment, sweep, writing

if TYPE_CHECKING:
    import pyarrow as pa

    from .._cluster import Cluster

#: Cells of a block that is copied.
_BLOCK_CELLS = 65_536


def add(now: Snapshot, data: Any, recipe: Recipe, *, cluster: Cluster | None = None) -> Snapshot:
    """Embed labelled data, append them as a segment, and return the next version."""

    def write(folder: Path) -> tuple[int, dict[str, Any]]:
        written = write_segment(
            folder,
            data,
            now.encoder,
            recipe,
            known=[now.metadata.living_table()],
            cluster=cluster,
            encoder_folder=now.root / store.ENCODER,
        )
        check_counts(folder, written.n_cells)
        old = {str(label) for label in now.terms.label_ids}
        terms, version = compile_terms(recipe.ontology, old | set(written.label_ids))
        return written.n_cells, {
            "terms": terms.to_dict(),
            "ontology_version": version,
            "studies": sorted({*now.manifest["studies"], *written.studies}),
        }

    with writing(now.root, now.manifest, "add") as version:
        manifest = commit(now.root, add_segment(now.root, version, write))
    return Snapshot.of(now.root, manifest)


def remove(now: Snapshot, chosen: np.ndarray) -> Snapshot:
    """Mark the cells of a mask, bool (n_rows,), as removed, and return the next version."""
    living = ~chosen if now.metadata.living is None else now.metadata.living & ~chosen
    if not (now.label_codes[living] >= 0).any():
        raise ValueError(
            f"No labelled cell of {now.metadata.n_cells:,} would be left. A reference needs labelled cells: build "
            "another reference, or delete the folder."
        )
    if not chosen.any():
        return now
    with writing(now.root, now.manifest, "remove") as version:
        manifest = commit(now.root, replace(version, living=living))
    return Snapshot.of(now.root, manifest)


def compact(now: Snapshot) -> Snapshot:
    """Copy the cells that were not removed to one segment. If all cells are in one segment, delete retired files."""
    with writing(now.root, now.manifest, "compact") as version:
        if version.living is None and len(version.segments) == 1:
            sweep(now.root, retired=True)
            return now
        compacted = add_segment(now.root, version, lambda folder: (_copy_living(now, folder), {}))
        new = replace(compacted, segments=compacted.segments[-1:], living=None, reindex=True)
        manifest = commit(now.root, new)
    return Snapshot.of(now.root, manifest)


def reindex(now: Snapshot) -> Snapshot:
    """Build the index of all cells again, and calibrate again."""
    with writing(now.root, now.manifest, "reindex") as version:
        manifest = commit(now.root, replace(version, reindex=True))
    return Snapshot.of(now.root, manifest)


def _copy_living(now: Snapshot, folder: Path) -> int:
    """Copy the cells that were not removed to a new segment, and return their number."""
    writer = SegmentWriter(folder)
    try:
        rows = now.metadata.first()
        for start in range(0, len(rows), _BLOCK_CELLS):
            writer.append_fixed(now.vectors.gather(rows[start : start + _BLOCK_CELLS]))
        for table in _living_tables(now):
            writer.describe(table)
        writer.close()
        writer.discard_stages()
        if now.landmarks is not None:
            codes = now.label_codes[now.landmarks.rows]
            kept = thinned(now.landmarks, codes, now.metadata.codes(STUDY)[now.landmarks.rows])
            save_landmarks(folder / store.LANDMARKS, replace(kept, rows=np.searchsorted(rows, kept.rows)))
    finally:
        writer.abort()
    return writer.n_cells


def _living_tables(now: Snapshot) -> Iterator[pa.Table]:
    """Yield the metadata batch by batch, without removed cells."""
    import pyarrow as pa

    start = 0
    now.metadata.check(now.metadata.columns)
    for batch in now.metadata.table.to_batches(max_chunksize=_BLOCK_CELLS):
        table = pa.Table.from_batches([batch])
        if now.metadata.living is not None:
            table = table.filter(pa.array(now.metadata.living[start : start + len(batch)]))
        start += len(batch)
        if table.num_rows:
            yield table
