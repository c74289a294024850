"""Reference: build, open, search and extend."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validate import check_key, check_option
from ..encoder import Encoder
from ..ontology import CellOntology, TermSpace
from . import _manifest as files
from ._backend import BACKENDS, make_backend
from ._build import Source, compile_terms, write_segment
from ._calibration import Calibration, CalibrationKind, take_vectors
from ._commit import check_target, commit, move_into_place
from ._filters import select
from ._search import Hits, check_caps, check_queries, search, unknown_reference
from ._segments import TERM_ID, dictionary, join_cells, open_cells, open_vectors

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


class Reference:
    """Labelled cells in the space of an encoder, as a folder that can be searched and extended.

    Make one with :meth:`build`, open one with :meth:`open`.

    Attributes
    ----------
    path
        The folder.
    encoder
        The encoder that the cells were embedded with.
    terms
        Labels of the cells on the ontology.
    n_cells
        Cells in the reference.

    Examples
    --------
    >>> import scim
    >>> reference = scim.Reference.build(  # doctest: +SKIP
    ...     "blood.scim", adata, encoder, labels_key="cell_type", study_key="study"
    ... )
    >>> hits = reference.search(vectors, k=50, where={"tissue": ["blood"]})  # doctest: +SKIP
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self._load(manifest)

    def _load(self, manifest: Mapping[str, Any]) -> None:
        self._manifest = dict(manifest)
        self.encoder = Encoder.load(self.path / files.ENCODER)
        if self.encoder.id != manifest["encoder_id"]:
            raise files.ReferenceFolderError(
                f"{self.path} was built with encoder {manifest['encoder_id']}, but holds {self.encoder.id}."
            )
        try:
            self.terms = TermSpace.from_dict(manifest["terms"])
            names = [(str(s["name"]), int(s["n_cells"])) for s in manifest["segments"]]
        except (ValueError, KeyError, TypeError) as error:
            raise files.ReferenceFolderError(f"{self.path / files.MANIFEST} is damaged: {error}") from error
        folders = [(self.path / files.SEGMENTS / name, n) for name, n in names]
        self._segments = [open_vectors(folder, n, self.encoder.n_latent) for folder, n in folders]
        self._cells = join_cells([open_cells(folder, n) for folder, n in folders])
        self._calibration = Calibration.load(self.path / manifest["calibration"])
        self._backend = make_backend(manifest["backend"], self._segments, seed=manifest["seed"])
        self.n_cells = sum(n for _, n in names)
        for name in ("label_codes", "_directed", "_n_directed", "obs"):
            self.__dict__.pop(name, None)

    def __len__(self) -> int:
        return self.n_cells

    def __repr__(self) -> str:
        return (
            f"Reference of {self.n_cells:,} cells, {len(self.terms.labels)} labels, "
            f"{len(self._manifest['studies'])} studies ({self._backend.name} search, encoder {self.encoder.id}) "
            f"at {self.path}"
        )

    @classmethod
    def build(
        cls,
        path: str | Path,
        adata: AnnData | Iterable[AnnData] | Mapping[str, AnnData],
        encoder: Encoder,
        *,
        labels_key: str,
        study_key: str | None = None,
        obs_columns: Sequence[str] | None = None,
        layer: str | None = None,
        gene_column: str | None = None,
        mod: str | None = None,
        ontology: CellOntology | None = None,
        backend: str = "auto",
        overwrite: bool = False,
        seed: int = 0,
    ) -> Reference:
        """Embed labelled cells and write them as a reference.

        The folder appears when it is whole; an error or an interrupt leaves nothing, and an old one as it was.

        Parameters
        ----------
        path
            Folder to make, by custom ``NAME.scim``.
        adata
            Labelled cells: an AnnData (in memory, backed or Dask), a MuData with ``mod``, several of them, or a mapping
            of study names to them.
        encoder
            What to embed them with.
        labels_key
            Column of ``obs`` with the labels: Cell Ontology ids or names, or labels of your own. Cells without a label
            are found by searches but never vote.
        study_key
            Column of ``obs`` with the study; None: each AnnData is one.
        obs_columns
            Columns of ``obs`` to keep as metadata; by default donor, sample, assay, tissue, disease and batch, where
            they are there.
        layer, gene_column, mod
            Where values and genes are, see :meth:`scim.Encoder.embed`.
        ontology
            The bundled Cell Ontology by default, or none if it knows none of the labels.
        backend
            ``"exact"``, ``"pynndescent"``, or ``"auto"``, which is exact.
        overwrite
            Replace a reference at ``path``.
        seed
            Seed of what is drawn at random.

        Raises
        ------
        FileExistsError
            ``path`` exists.
        PermissionError
            The folder cannot be written to.
        KeyError
            A column is not in ``obs``.
        ValueError
            No cell has a label, or the data cannot be embedded.
        """
        path = Path(path)
        check_option(backend, BACKENDS, argument="backend")
        if not isinstance(encoder, Encoder):
            raise TypeError(f"encoder must be a scim.Encoder, got {type(encoder).__name__}. See SCIM.to_encoder.")
        check_target(path, overwrite=overwrite)
        source = Source(labels_key, study_key, obs_columns, layer, gene_column, mod, ontology)
        scratch = Path(tempfile.mkdtemp(dir=path.resolve().parent, prefix=f".{path.name}.building-"))
        try:
            encoder.save(scratch / files.ENCODER)
            written = write_segment(scratch / files.SEGMENTS / "0001", adata, encoder, source)
            terms = compile_terms(written.ontology, written.label_ids)
            if len(written.studies) == 1:
                warnings.warn(
                    "All cells come from one study: distances are judged by that study alone, which makes new data look "
                    "more unusual than they are. Name the studies with study_key, or add others.",
                    UserWarning,
                    stacklevel=2,
                )
            chosen = "exact" if backend == "auto" else backend
            commit(
                scratch,
                segments=[{"name": "0001", "n_cells": written.n_cells}],
                encoder=encoder,
                ontology_version=written.ontology.version,
                terms=terms,
                studies=written.studies,
                backend=chosen,
                seed=seed,
            )
            scratch.chmod(0o755)
            move_into_place(scratch, path)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        return cls.open(path)

    @classmethod
    def open(cls, reference: Reference | str | Path | None) -> Reference:
        """Open a reference; its files are checked before they are read.

        Parameters
        ----------
        reference
            The folder; a Reference is returned as it is.

        Raises
        ------
        FileNotFoundError
            There is no such folder.
        ReferenceFolderError
            (a ValueError) The folder is something else, or a file of it is missing, truncated or changed.
        """
        if isinstance(reference, Reference):
            return reference
        if reference is None:
            raise ValueError(
                "No reference is bundled with this version. Give reference=: the path of one that Reference.build made."
            )
        if not isinstance(reference, str | Path):
            raise TypeError(f"reference must be a Reference or a path, got {type(reference).__name__}.")
        path = Path(reference)
        if not path.exists():
            parent = path.resolve().parent
            there = [p.parent.name for p in parent.glob(f"*/{files.MANIFEST}")] if parent.is_dir() else []
            raise unknown_reference(str(reference), sorted(there))
        if not path.is_dir():
            raise files.ReferenceFolderError(f"{path} is a file; a reference is a folder with a {files.MANIFEST}.")
        manifest = files.read_manifest(path)
        files.check_files(path, manifest["files"])
        return cls(path, manifest)

    def search(
        self,
        vectors: np.ndarray,
        k: int = 50,
        *,
        where: Any = None,
        exclude: Any = None,
        max_distance: float | None = None,
        max_per_group: Mapping[str, int] | None = None,
        within: np.ndarray | None = None,
    ) -> Hits:
        """Find the nearest cells of each query.

        Parameters
        ----------
        vectors
            Embedded cells (m, d).
        k
            Hits of each; with fewer cells to find, the rest is -1 and inf, and a warning says so.
        where, exclude
            Filters on the metadata: ``{"tissue": ["lung", "blood"], "disease": "normal"}`` (any of the values, in all
            of the columns) or a ``pyarrow.compute`` expression.
        max_distance
            Largest cosine distance of a hit, 0 to 2.
        max_per_group
            Column -> most hits of one group, such as ``{"donor": 50}``.
        within
            Cells that may be found beside all that, bool (n_cells,).

        Raises
        ------
        ValueError, KeyError, TypeError
            An argument does not fit; a filter names an unknown column or value, or leaves no cell.
        """
        queries = check_queries(vectors, self.encoder.n_latent)
        allowed = select(self._cells, where=where, exclude=exclude)
        if within is not None:
            allowed = within if allowed is None else allowed & within
            if not allowed.any():
                raise ValueError("No cell of the reference passes both the filter and the choice of labels.")
        caps = check_caps(max_per_group, self._cells.column_names)
        return search(
            self._backend,
            queries,
            k,
            n_cells=self._n_directed,
            allowed=allowed if allowed is None else allowed & self._directed,
            max_distance=max_distance,
            groups={column: (self._codes(column), most) for column, most in caps.items()},
        )

    def allowed(self, *, where: Any = None, exclude: Any = None) -> np.ndarray:
        """Cells that pass the filters of :meth:`search`, bool (n_cells,)."""
        allowed = select(self._cells, where=where, exclude=exclude)
        return np.ones(self.n_cells, dtype=bool) if allowed is None else allowed

    def vectors(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Vectors of some or all cells, float32 (n, d), as they are stored."""
        rows = np.arange(self.n_cells) if rows is None else np.asarray(rows, dtype=np.int64)
        return take_vectors(self._segments, rows)

    def metadata(self, rows: np.ndarray | None = None, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Metadata of some or all cells: cell_id, label, term_id, study, and the columns kept."""
        for column in columns or ():
            check_key(dict.fromkeys(self._cells.column_names), column, argument="columns", where="the metadata")
        table = self._cells if columns is None else self._cells.select(list(columns))
        return (table if rows is None else table.take(np.asarray(rows, dtype=np.int64))).to_pandas()

    @cached_property
    def obs(self) -> pd.DataFrame:
        """Metadata of all cells."""
        return self.metadata()

    @cached_property
    def label_codes(self) -> np.ndarray:
        """Position of each cell's label in ``terms.labels``, int32 (n_cells,); -1 for a cell without a label."""
        codes, ids = self._codes(TERM_ID), self._values(TERM_ID)
        place = {str(term): i for i, term in enumerate(self.terms.label_ids)}
        table = np.array([place.get(str(i), -1) if i is not None else -1 for i in ids] + [-1], dtype=np.int32)
        return table[codes]

    def background(self) -> np.ndarray:
        """Sorted cosine distances of reference cells to their nearest cell of another study, float32 (n,)."""
        return self._calibration.background

    @property
    def calibration_kind(self) -> CalibrationKind:
        """``"within-study"`` where the reference has one study and :meth:`background` had to do without others."""
        return self._calibration.kind

    def distance_pvalue(self, distances: np.ndarray) -> np.ndarray:
        """P-value of nearest-neighbour distances: the share of the reference's own that are as large."""
        return self._calibration.pvalue(distances)

    def add(
        self,
        adata: AnnData | Iterable[AnnData] | Mapping[str, AnnData],
        *,
        labels_key: str,
        study_key: str | None = None,
        obs_columns: Sequence[str] | None = None,
        layer: str | None = None,
        gene_column: str | None = None,
        mod: str | None = None,
        ontology: CellOntology | None = None,
    ) -> None:
        """Embed more labelled cells and append them; parameters as in :meth:`build`.

        What is on disk changes in a single step at the end; others who have the reference open keep what they opened.
        """
        if not os.access(self.path, os.W_OK):
            raise PermissionError(f"{self.path} cannot be written to. Copy the reference to a place of your own.")
        known = ontology or self._ontology()
        source = Source(labels_key, study_key, obs_columns, layer, gene_column, mod, known)
        name = f"{max(int(s['name']) for s in self._manifest['segments']) + 1:04d}"
        folder = self.path / files.SEGMENTS / name
        scratch = self.path / files.SEGMENTS / f".{name}.{os.getpid()}"
        try:
            written = write_segment(scratch, adata, self.encoder, source, ontology=known)
            if folder.exists():  # left by an add that was killed before its manifest
                shutil.rmtree(folder)
            os.replace(scratch, folder)
            segments = [*self._manifest["segments"], {"name": name, "n_cells": written.n_cells}]
            manifest = commit(
                self.path,
                segments=segments,
                encoder=self.encoder,
                ontology_version=self._manifest["ontology_version"],
                terms=compile_terms(known, {*map(str, self.terms.label_ids), *written.label_ids}),
                studies=sorted({*self._manifest["studies"], *written.studies}),
                backend=self._manifest["backend"],
                seed=self._manifest["seed"],
            )
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        self._load(manifest)

    def info(self) -> dict[str, Any]:
        """What there is to know of the reference, as plain values."""
        manifest = self._manifest
        return {
            "cells": self.n_cells,
            "labelled_cells": int((self.label_codes >= 0).sum()),
            "labels": [str(name) for name in self.terms.term_names[self.terms.label_term]],
            "studies": list(manifest["studies"]),
            "columns": list(self._cells.column_names),
            "backend": self._backend.name,
            "encoder": self.encoder.id,
            "genes": len(self.encoder.genes),
            "latent": self.encoder.n_latent,
            "ontology": manifest["ontology_version"],
            "calibration": f"{self.calibration_kind}, {len(self.background()):,} distances",
            "bytes": sum(int(f["bytes"]) for f in manifest["files"].values()),
            "made_with": dict(manifest["engines"]),
        }

    def verify(self) -> None:
        """Check every file against the manifest.

        Raises
        ------
        ReferenceFolderError
            A file is missing, truncated or changed; the message names it.
        """
        files.check_files(self.path, files.read_manifest(self.path)["files"])

    @cached_property
    def _directed(self) -> np.ndarray:
        """Cells that have a direction, bool (n_cells,): those with counts."""
        return np.concatenate([np.asarray(segment).any(axis=1) for segment in self._segments])

    @cached_property
    def _n_directed(self) -> int:
        return int(self._directed.sum())

    def _codes(self, column: str) -> np.ndarray:
        return dictionary(self._cells, column)[0]

    def _values(self, column: str) -> list[Any]:
        return dictionary(self._cells, column)[1]

    def _ontology(self) -> CellOntology:
        bundled = CellOntology.bundled()
        version = self._manifest["ontology_version"]
        if version == "flat":
            return CellOntology.flat(self.terms.label_ids)
        if version != bundled.version:
            raise ValueError(
                f"The reference was built with version {version!r} of its ontology. Give the same one with ontology=."
            )
        return bundled
