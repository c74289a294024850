"""Embed the data part by part, and note what is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..._disk import sha256, sync
from ...counts import values_of
from ...encoder import Encoder
from ...index import to_fixed
from ...labels import MOST, PER_GROUP, Landmarks, balanced_sample
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

_LANDMARKS = ".landmarks.npz"


class PartWriter:
    """Write a segment from labelled data, stage by stage: some thousand cells, after which they need not be done again.

    Parameters
    ----------
    folder
        Folder of the segment.
    encoder
        What to embed with.
    source
        Where things are in the data.
    journal
        Where finished stages are noted, and found; None: nowhere.
    bar
        Counts cells.
    cluster
        Embeds the files; None: this process does.
    encoder_folder
        Where workers find the encoder.
    parts
        All that will be written, by number, where that is known beforehand.
    known
        Metadata of the cells that are there already.
    """

    def __init__(
        self,
        folder: Path,
        encoder: Encoder,
        source: Recipe,
        journal: Journal | None,
        bar: tqdm,
        *,
        cluster: Cluster | None = None,
        encoder_folder: Path | None = None,
        parts: Mapping[int, Part] | None = None,
        known: Sequence[pa.Table] = (),
    ) -> None:
        self._folder, self._encoder, self._source, self._known = folder, encoder, source, known
        self._journal, self._bar = journal, bar
        self.segment = self._open()
        self._kinds = column_kinds([*known, *self.segment.tables()])
        self._remote = None
        if cluster is not None and encoder_folder is not None:
            where = {"layer": source.layer, "gene_column": source.gene_column, "mod": source.mod}
            self._remote = RemoteEmbedder(
                cluster, encoder, encoder_folder, where, rows=STAGE, parts=parts or {}, first_of=self._first
            )

    def close(self) -> None:
        """Close what is open, and let workers stop."""
        self.segment.abort()
        if self._remote is not None:
            self._remote.close()

    def _first(self, number: int, part: Part) -> int | None:
        """Cell that a part will most likely be begun at, or None if it is done."""
        done = self._journal.done(number) if self._journal else []
        if any(_stamp(part, part.stamp) not in (None, record["stamp"]) for record in done):
            return 0
        return None if done and done[-1]["is_last"] else sum(int(record["n_cells"]) for record in done)

    def _open(self) -> SegmentWriter:
        journal = self._journal
        if journal is None:
            return SegmentWriter(self._folder)
        # What was done before says nothing of how long the rest takes.
        self._bar.initial = self._bar.n = journal.n_cells
        n_stages = len(journal.records)
        return SegmentWriter(self._folder, stages=journal.stages, n_cells=journal.n_cells, n_stages=n_stages)

    def write(self, part: Part, number: int) -> None:
        """Embed and describe what is not done yet of one part."""
        done = self._journal.done(number) if self._journal else []
        is_done = bool(done) and done[-1]["is_last"]
        if is_done and part.stamp is not None and done[-1]["stamp"] == _stamp(part, part.stamp):
            return  # a file need not even be opened
        with part.open() as opened:
            adata, obs = self._source.look_into(opened)
            stamp = _stamp(part, part.stamp)
            if self._journal is not None and stamp is None:
                stamp = _stamp(part, content_stamp(adata, obs, self._prepared(adata)))
            if any(record["stamp"] != stamp for record in done):
                self.rewind(number)
                done, is_done = [], False
            if not is_done:
                self._kinds = self._source.check_kinds(obs, part.name, self._kinds)
                stages = [self.segment.stages / name for r in done for name in r["files"] if _LANDMARKS not in name]
                first = sum(int(record["n_cells"]) for record in done)
                chunks = self._chunks(adata, part, number, first)
                self._embed(adata, obs, self._source.describer(obs, part.name), stages, chunks, first, (number, stamp))

    def _prepared(self, adata: AnnData) -> Any:
        return self._encoder._prepare(adata, self._source.layer, self._source.gene_column)[1]

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
        """Write the vectors of a part from ``start`` on; ``stages`` hold the metadata of the cells before."""
        begin = self.segment.n_cells - start
        for span, vectors in chunks:
            self.segment.append_fixed(vectors)
            self._bar.update(len(vectors))
            is_last = span.stop == len(obs)
            if is_last or span.stop - start >= STAGE:
                stages.append(self.segment.describe(describe(slice(start, span.stop))))
                written = stages[-1:]
                if is_last and self._source.landmarks != "none":
                    written = [*written, self._keep_landmarks(adata, stages, begin)]
                self._note(written, span.stop - start, is_last, about)
                start = span.stop

    def _chunks(self, adata: AnnData, part: Part, number: int, start: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Embed the cells of a part from ``start`` on: yield positions and fixed-point vectors."""
        if self._remote is not None:
            if self._remote.takes(part):
                yield from self._remote.chunks(number, part, start, self._prepared(adata))
                return
            self._remote.leave(part)
        layer, genes = self._source.layer, self._source.gene_column
        for span, vectors in self._encoder.embed_chunks(adata, layer=layer, gene_column=genes, start=start):
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
        """Forget what an interrupted build did of this part of the data and those behind it."""
        if self._journal is None or not any(record["part"] >= number for record in self._journal.records):
            return
        self.segment.abort()
        self._journal.rewind(sum(record["part"] < number for record in self._journal.records))
        self.segment = self._open()
        self._kinds = column_kinds([*self._known, *self.segment.tables()])

    def _keep_landmarks(self, adata: AnnData, stages: list[Path], begin: int) -> Path:
        """Write the values of some cells of a part, to choose from when all parts are there."""
        import pyarrow as pa

        tables = [read_table(stage).select([TERM_ID, STUDY]) for stage in stages]
        groups = pa.concat_tables(tables).unify_dictionaries().to_pandas()
        rows = _choose(groups)
        layer, genes = self._source.layer, self._source.gene_column
        read, _ = values_of(self._encoder.genes, adata, layer=layer, gene_column=genes)
        landmarks = Landmarks.of(read(rows), rows + begin)
        names = {name: groups[name].iloc[rows].astype(str).to_numpy(dtype=np.str_) for name in (TERM_ID, STUDY)}
        path = stages[-1].with_suffix(_LANDMARKS)
        np.savez(path, **landmarks.__dict__, **names)
        return path

    def landmarks(self, n_genes: int, *, simulate: bool) -> Landmarks:
        """Choose among the landmarks of all parts as many as a segment keeps, with counts drawn like theirs if wanted.

        Where they become too many on the way, they are thinned.
        """
        chosen, groups = None, pd.DataFrame({TERM_ID: [], STUDY: []}, dtype=object)
        for path in sorted(self.segment.stages.glob(f"*{_LANDMARKS}")):
            with np.load(path, allow_pickle=False) as saved:
                new = Landmarks(*(saved[name] for name in ("rows", "indptr", "genes", "values")))
                names = pd.DataFrame({name: saved[name].astype(object) for name in (TERM_ID, STUDY)})
            chosen = new if chosen is None else Landmarks.join([chosen, new])
            groups = pd.concat([groups, names], ignore_index=True)
            if len(chosen) > 2 * MOST:
                chosen, groups = _thinned(chosen, groups)
        if chosen is None:
            raise ValueError("There are no cells to build a reference from: no AnnData was given.")
        chosen, groups = _thinned(chosen, groups)
        if simulate:
            codes = groups.groupby([TERM_ID, STUDY], sort=True).ngroup().to_numpy()
            chosen = chosen.simulated(codes, n_genes, seed=0)
        return chosen


def _thinned(landmarks: Landmarks, groups: pd.DataFrame) -> tuple[Landmarks, pd.DataFrame]:
    kept = _choose(groups)
    return landmarks.take(kept), groups.iloc[kept].reset_index(drop=True)


def _choose(groups: pd.DataFrame) -> np.ndarray:
    """Cells to be landmarks, as many of each label and study."""
    codes, studies = (pd.factorize(groups[name])[0] for name in (TERM_ID, STUDY))
    return balanced_sample(codes, studies, seed=0, per_group=PER_GROUP, most=MOST)


def _stamp(part: Part, content: str | None) -> str | None:
    """Join what a part is called, which its study may be, with what is in it; None where that is not known."""
    return None if content is None else f"{part.name}|{content}"
