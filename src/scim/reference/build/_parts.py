"""Embed the data part by part, and record finished work."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..._disk import sha256, sync
from ...counts import Values, find_values
from ...encoder import Encoder, embed_value_blocks
from ...index import to_fixed
from ...labels import LANDMARKS_PER_GROUP, LANDMARKS_PER_SEGMENT, Landmarks, balanced_sample
from ..store import STUDY, TERM_ID, SegmentWriter, column_kinds, read_table
from ._journal import STAGE, Journal
from ._remote import RemoteEmbedder
from ._sources import Part, content_stamp

if TYPE_CHECKING:
    import pyarrow as pa
    from anndata import AnnData
    from tqdm.std import tqdm

    from .._cluster import Cluster
    from ._recipe import Recipe

#: Ending of the landmarks of a part.
_LANDMARKS = ".landmarks.npz"


class PartWriter:
    """Write a segment from labelled data in stages of 20,000 cells. A finished stage is not repeated.

    Without a ``journal``, the build cannot continue later. ``known`` are the metadata of the cells of the reference.
    The workers of a ``cluster`` embed files with the encoder in ``encoder_folder``; without it, this process embeds
    them. ``parts`` are the parts of the data by number, if they are known beforehand.
    """

    def __init__(
        self,
        folder: Path,
        encoder: Encoder,
        recipe: Recipe,
        journal: Journal | None,
        bar: tqdm,
        known: Sequence[pa.Table] = (),
        *,
        cluster: Cluster | None = None,
        encoder_folder: Path | None = None,
        parts: Mapping[int, Part] | None = None,
    ) -> None:
        self._folder, self._encoder, self._recipe, self._known = folder, encoder, recipe, known
        self._journal, self._bar = journal, bar
        self.segment = self._open()
        self._kinds = column_kinds([*known, *self.segment.tables()])
        #: Labels of the cells, as the data have them.
        self.labels: dict[str, None] = {}
        self._found: tuple[AnnData, Values] | None = None
        self._remote = None
        if cluster is not None and encoder_folder is not None:
            where = {"layer": recipe.layer, "gene_column": recipe.gene_column, "mod": recipe.mod}
            self._remote = RemoteEmbedder(
                cluster, encoder, encoder_folder, where, rows=STAGE, parts=parts or {}, first_of=self._first
            )

    def close(self) -> None:
        """Close the segment, and stop the workers."""
        self.segment.abort()
        if self._remote is not None:
            self._remote.close()

    def _first(self, number: int, part: Part) -> int | None:
        """Return the first cell of a part that is not finished. None: all cells are finished."""
        done = self._journal.done(number) if self._journal else []
        if any(_stamp(part, part.stamp) not in (None, record["stamp"]) for record in done):
            return 0
        return None if done and done[-1]["is_last"] else sum(int(record["n_cells"]) for record in done)

    def _open(self) -> SegmentWriter:
        journal = self._journal
        if journal is None:
            return SegmentWriter(self._folder)
        # The bar estimates the remaining time from new cells only.
        self._bar.initial = self._bar.n = journal.n_cells
        n_stages = len(journal.records)
        return SegmentWriter(self._folder, stages=journal.stages, n_cells=journal.n_cells, n_stages=n_stages)

    def write(self, part: Part, number: int) -> None:
        """Embed and describe the unfinished cells of one part."""
        done = self._journal.done(number) if self._journal else []
        is_done = bool(done) and done[-1]["is_last"]
        if is_done and part.stamp is not None and done[-1]["stamp"] == _stamp(part, part.stamp):
            return  # without opening the file
        with part.open() as opened:
            adata, obs = self._recipe.read_part(opened)
            self.labels |= dict.fromkeys(self._recipe.labels(obs))
            stamp = _stamp(part, part.stamp)
            if self._journal is not None and stamp is None:
                stamp = _stamp(part, content_stamp(adata, obs, self._values(adata).X))
            if any(record["stamp"] != stamp for record in done):
                self.rewind(number)
                done, is_done = [], False
            if not is_done:
                self._kinds = self._recipe.check_kinds(obs, part.name, self._kinds)
                stages = [self.segment.stages / name for r in done for name in r["files"] if _LANDMARKS not in name]
                first = sum(int(record["n_cells"]) for record in done)
                chunks = self._chunks(adata, part, number, first)
                self._embed(adata, obs, self._recipe.describer(obs, part.name), stages, chunks, first, (number, stamp))
        self._found = None

    def _values(self, adata: AnnData) -> Values:
        """Find the values of a part, once."""
        if self._found is None or self._found[0] is not adata:
            layer, gene_column = self._recipe.layer, self._recipe.gene_column
            found = find_values(adata, self._encoder.genes, layer=layer, gene_column=gene_column)
            self._found = adata, found
        return self._found[1]

    def _embed(
        self,
        adata: AnnData,
        obs: pd.DataFrame,
        describe: Callable[[slice], pd.DataFrame],
        stages: list[Path],
        chunks: Iterator[tuple[slice, np.ndarray]],
        start: int,
        about: tuple[int, str | None],
    ) -> None:
        """Write the vectors of a part from ``start`` on. ``stages`` are files of metadata of the cells before."""
        begin = self.segment.n_cells - start
        for span, vectors in chunks:
            self.segment.append_fixed(vectors)
            self._bar.update(len(vectors))
            is_last = span.stop == len(obs)
            if is_last or span.stop - start >= STAGE:
                stages.append(self.segment.describe(describe(slice(start, span.stop))))
                written = stages[-1:]
                if is_last and self._recipe.landmarks != "none":
                    written = [*written, self._keep_landmarks(adata, stages, begin)]
                self._note(written, span.stop - start, is_last, about)
                start = span.stop

    def _chunks(self, adata: AnnData, part: Part, number: int, start: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Embed the cells of a part from ``start`` on. Yield positions and fixed-point vectors."""
        if self._remote is not None:
            if self._remote.takes(part):
                by_columns = self._values(adata).by_columns
                yield from self._remote.chunks(number, part, start, by_columns=by_columns)
                return
            self._remote.leave(part)
        for span, vectors in embed_value_blocks(self._encoder, self._values(adata), start=start):
            yield span, to_fixed(vectors)

    def _note(self, written: list[Path], n_cells: int, is_last: bool, about: tuple[int, str | None]) -> None:
        if self._journal is not None:
            self.segment.flush()
            for path in written:
                sync(path)
            record = {"part": about[0], "stamp": about[1], "n_cells": n_cells, "is_last": is_last}
            vectors = {"bytes": self.segment.n_bytes, "vectors": self.segment.hash.hexdigest()}
            self._journal.append(record | vectors | {"files": {path.name: sha256(path) for path in written}})
        self.segment.begin_stage()

    def rewind(self, number: int) -> None:
        """Delete the work of an interrupted build on this part of the data and the parts after it."""
        if self._journal is None or not any(record["part"] >= number for record in self._journal.records):
            return
        self.segment.abort()
        self._journal.rewind(sum(record["part"] < number for record in self._journal.records))
        self.segment = self._open()
        self._kinds = column_kinds([*self._known, *self.segment.tables()])

    def _keep_landmarks(self, adata: AnnData, stages: list[Path], begin: int) -> Path:
        """Write counts of a part's cells, from which the landmarks of the segment are chosen at the end."""
        import pyarrow as pa

        tables = [read_table(stage).select([TERM_ID, STUDY]) for stage in stages]
        groups = pa.concat_tables(tables).unify_dictionaries().to_pandas()
        rows = _chosen_landmarks(groups)
        landmarks = Landmarks.of(self._values(adata).linear(rows), rows + begin)
        names = {name: groups[name].iloc[rows].astype(str).to_numpy(dtype=np.str_) for name in (TERM_ID, STUDY)}
        path = stages[-1].with_suffix(_LANDMARKS)
        np.savez(path, **landmarks.__dict__, **names)
        return path

    def landmarks(self, n_genes: int, *, simulate: bool) -> Landmarks:
        """Choose a segment's landmarks from those of its parts. Simulate their counts if asked.

        If they become too many on the way, they are thinned.
        """
        chosen, groups = None, pd.DataFrame({TERM_ID: [], STUDY: []}, dtype=object)
        for path in sorted(self.segment.stages.glob(f"*{_LANDMARKS}")):
            with np.load(path, allow_pickle=False) as saved:
                new = Landmarks(*(saved[name] for name in ("rows", "indptr", "genes", "values")))
                names = pd.DataFrame({name: saved[name].astype(object) for name in (TERM_ID, STUDY)})
            chosen = new if chosen is None else Landmarks.join([chosen, new])
            groups = pd.concat([groups, names], ignore_index=True)
            if len(chosen) > 2 * LANDMARKS_PER_SEGMENT:
                chosen, groups = _thinned(chosen, groups)
        if chosen is None:
            raise ValueError("There are no cells to build a reference from: no AnnData was given.")
        chosen, groups = _thinned(chosen, groups)
        if simulate:
            codes = groups.groupby([TERM_ID, STUDY], sort=True).ngroup().to_numpy()
            chosen = chosen.simulated(codes, n_genes, seed=0)
        return chosen


def _thinned(landmarks: Landmarks, groups: pd.DataFrame) -> tuple[Landmarks, pd.DataFrame]:
    kept = _chosen_landmarks(groups)
    return landmarks.take(kept), groups.iloc[kept].reset_index(drop=True)


def _chosen_landmarks(groups: pd.DataFrame) -> np.ndarray:
    """Choose landmarks: a balanced sample of labels and studies."""
    codes, studies = (pd.factorize(groups[name])[0] for name in (TERM_ID, STUDY))
    return balanced_sample(codes, studies, seed=0, per_group=LANDMARKS_PER_GROUP, most=LANDMARKS_PER_SEGMENT)


def _stamp(part: Part, content: str | None) -> str | None:
    """Join the name of a part, which its study may have, with its stamp. None: there is no stamp."""
    return None if content is None else f"{part.name}|{content}"
