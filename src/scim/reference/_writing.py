"""What changes a reference that is there: each change is a new version, which appears in a single step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..index import gather_fixed
from ..labels import thinned
from ..ontology import CellOntology
from . import store
from ._cluster import connect
from ._judged import JudgedCells
from .build import Recipe, check_counts, write_segment
from .store import STUDY, SegmentWriter, save_landmarks
from .versions import Version, add_segment, commit, compile_terms, living_tables, sweep, writing

if TYPE_CHECKING:
    from anndata import AnnData

    from ..encoder import Encoder

#: Cells that are copied at a time.
_BLOCK = 65_536


class WritableCells(JudgedCells):
    """Cells that others can be added to, and that can be removed."""

    if TYPE_CHECKING:

        @property
        def encoder_id(self) -> str:
            """Id of the encoder that the cells were embedded with."""

        def _load(self, manifest: Mapping[str, Any]) -> None: ...

    def refresh(self) -> None:
        """Take the newest version of the folder, if somebody else has written to it since it was opened.

        Raises
        ------
        ReferenceFolderError
            The folder is gone, or damaged.
        """
        if store.read_manifest(self.path)["sha256"] != self._manifest["sha256"]:
            self._load(store.verify(self.path, "sizes", weights=False))

    def add(
        self,
        adata: AnnData | str | Path | Iterable[AnnData | str | Path] | Mapping[str, AnnData | str | Path],
        *,
        encoder: Encoder | None = None,
        labels_key: str | None = None,
        study_key: str | None = None,
        obs_columns: Sequence[str] | None = None,
        layer: str | None = None,
        gene_column: str | None = None,
        mod: str | None = None,
        ontology: CellOntology | None = None,
        client: Any = None,
    ) -> None:
        """Embed more cells and append them.

        What is on disk changes in a single step at the end; others who have the reference open keep what they opened.
        Cells without any label may be added: they are found by searches but never vote. The cells are found at once;
        the index takes them in when more than a tenth of all cells are beyond it (and 20,000 or more), or with
        :meth:`reindex`, and until then they are searched exactly. The calibration is made anew.

        Parameters
        ----------
        adata, layer, gene_column, mod
            As in :meth:`build`. Without ``study_key`` or a name (a mapping, files), each AnnData is a new study.
        encoder
            Only to make sure: it must be the reference's own.
        labels_key, study_key, obs_columns
            Columns of ``obs``; those of :meth:`build` by default.
        ontology
            The one that the reference was built with, where that is not the bundled one.
        client
            A ``distributed.Client``: workers embed the files, see :meth:`build`.

        Raises
        ------
        PermissionError
            The folder is read-only.
        BlockingIOError
            Somebody else is writing to the reference; the message says who.
        ValueError
            ``encoder`` or ``ontology`` is another one; some cells are there already; somebody else changed the
            reference since it was opened.
        ImportError, FileNotFoundError, RuntimeError
            dask.distributed is not installed; a worker does not see a file, has another scim, or died repeatedly.
        """
        if encoder is not None and encoder.id != self.encoder_id:
            raise ValueError(
                f"The reference was built with encoder {self.encoder_id}, not with {encoder.id}: their vectors "
                "cannot be compared. Build a reference of its own with the other one."
            )
        cluster = None if client is None else connect(client)
        before = self._manifest["source"]
        if study_key is None and not isinstance(adata, Mapping):
            study_key = before["study_key"]
        known = self._ontology(ontology)
        source = Recipe(
            before["labels_key"] if labels_key is None else labels_key,
            study_key,
            before["obs_columns"] if obs_columns is None else obs_columns,
            layer,
            gene_column,
            mod,
            known,
            before.get("unlabeled_category"),
            frozenset(self._manifest["studies"]),
            before.get("landmarks", "cells"),
        )

        def write(folder: Path) -> tuple[int, dict[str, Any]]:
            written = write_segment(
                folder,
                adata,
                self.encoder,
                source,
                known=[self._living_table()],
                cluster=cluster,
                encoder_folder=self.path / store.ENCODER,
            )
            check_counts(folder, written.n_cells)
            old = {str(label) for label in self.terms.label_ids}
            terms, version = compile_terms(known, old | set(written.label_ids))
            return written.n_cells, {
                "terms": terms.to_dict(),
                "ontology_version": version,
                "studies": sorted({*self._manifest["studies"], *written.studies}),
            }

        with writing(self.path, self._manifest, "add") as version:
            manifest = commit(self.path, add_segment(self.path, version, write))
        self._load(manifest)

    def remove(self, *, where: Any = None, exclude: Any = None, rows: np.ndarray | None = None) -> int:
        """Remove cells: no search, vote, table or count has them from now on, and what was calibrated is so anew.

        The positions of the others stay as they are, and those of the cells removed are refused, until
        :meth:`compact` rewrites the files and numbers the cells anew: until then their vectors and metadata are yet in
        the files.

        Parameters
        ----------
        where, exclude
            Filters on the metadata, see :meth:`search`, of the cells to remove.
        rows
            Positions of cells to remove, or bool (n_rows,); with filters, those of them that pass.

        Returns
        -------
        How many cells were removed.

        Raises
        ------
        PermissionError, BlockingIOError
            The folder is read-only, or somebody else is writing to it.
        ValueError, KeyError, TypeError
            Nothing says which cells; a filter names an unknown column or value, or no cell; no labelled cell would be
            left; somebody else changed the reference since it was opened.
        IndexError
            There are no such rows.
        """
        if where is None and exclude is None and rows is None:
            raise ValueError("Nothing says which cells to remove. Give where=, exclude= or rows=.")
        passed = self._select(where, exclude)
        chosen = np.ones(self.n_rows, dtype=bool) if passed is None else passed.copy()
        if rows is not None:
            named = np.zeros(self.n_rows, dtype=bool)
            named[self._rows(np.asarray(rows))] = True
            chosen &= named
        living = ~chosen if self._living is None else self._living & ~chosen
        if not (self.label_codes[living] >= 0).any():
            raise ValueError(
                f"No labelled cell of {self.n_cells:,} would be left. A reference needs some: build another one, or "
                "delete the folder."
            )
        if not chosen.any():
            return 0
        with writing(self.path, self._manifest, "remove") as version:
            manifest = commit(self.path, replace(version, living=living))
        self._load(manifest)
        return int(chosen.sum())

    def compact(self) -> None:
        """Rewrite the files without the cells that were removed, as one segment, and index them.

        Positions are those among the cells that are left. The old files stay for others who have them open, until the
        next change, or the next call of this method, which deletes them at once if there is nothing to rewrite.

        Raises
        ------
        PermissionError, BlockingIOError, ValueError
            As of :meth:`reindex`.
        """
        with writing(self.path, self._manifest, "compact") as version:
            if version.living is None and len(version.segments) == 1:
                sweep(self.path, retired=True)
                return

            def write(folder: Path) -> tuple[int, dict[str, Any]]:
                return self._rewrite(folder, version), {}

            compacted = add_segment(self.path, version, write)
            new = replace(compacted, segments=compacted.segments[-1:], living=None, reindex=True)
            manifest = commit(self.path, new)
        self._load(manifest)

    def _rewrite(self, folder: Path, version: Version) -> int:
        """Copy the cells that are left to another segment."""
        writer = SegmentWriter(folder)
        try:
            rows = self._first(self.n_cells)
            for start in range(0, len(rows), _BLOCK):
                writer.append_fixed(gather_fixed(self._segments, rows[start : start + _BLOCK]))
            folders = [(self.path / store.SEGMENTS / s["name"], int(s["n_cells"])) for s in version.segments]
            for table in living_tables(folders, version.living):
                writer.describe(table)
            writer.close()
            writer.discard_stages()
            if self.landmarks is not None:
                codes, studies = self.label_codes[self.landmarks.rows], self._codes(STUDY)[self.landmarks.rows]
                kept = thinned(self.landmarks, codes, studies)
                kept = replace(kept, rows=np.searchsorted(rows, kept.rows))
                save_landmarks(folder / store.LANDMARKS, kept)
        finally:
            writer.abort()
        return writer.n_cells

    def reindex(self) -> None:
        """Build the index anew, of all cells, and calibrate.

        Raises
        ------
        PermissionError
            The folder is read-only.
        BlockingIOError
            Somebody else is writing to the reference; the message says who.
        ValueError
            Somebody else changed the reference since it was opened.
        """
        with writing(self.path, self._manifest, "reindex") as version:
            manifest = commit(self.path, replace(version, reindex=True))
        self._load(manifest)

    def _ontology(self, given: CellOntology | None) -> CellOntology:
        """Ontology for the labels of more cells: the very one that the reference was built with."""
        version = self._manifest["ontology_version"]
        known = CellOntology.bundled() if given is None else given
        # A flat reference knows no term yet: any ontology fits.
        if version not in ("flat", known.version):
            raise ValueError(
                f"The reference was built with version {version!r} of its ontology, not with {known.version!r}. "
                "Give the same one with ontology=."
            )
        return known
