"""Reference: build, open, search and extend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from .._validate import check_option
from ..encoder import Encoder, EncoderFolderError
from ..ontology import CellOntology, TermSpace
from . import _manifest as files
from . import _named as named
from ._backend import make_backend
from ._build import Source, compile_terms, write_blocks, write_segment
from ._calibration import Calibration, Judge
from ._commit import append_segment, create
from ._filters import select
from ._judged import JudgedCells
from ._landmarks import LandmarkKind
from ._search import Hits, check_caps, check_queries, search, unknown_reference
from ._segments import CELL_ID, STUDY, join_cells, open_cells, open_vectors

if TYPE_CHECKING:
    from anndata import AnnData


class Reference(JudgedCells):
    """Labelled cells in the space of an encoder, as a folder that can be searched and extended.

    Make one with :meth:`build`, open one with :meth:`open`.

    Attributes
    ----------
    path
        The folder.
    terms
        Labels of the cells on the ontology.
    n_cells
        Cells in the reference.

    Examples
    --------
    >>> import numpy as np
    >>> import scim
    >>> from scim.genes import GeneSpace
    >>> adata = scim.datasets.pbmc68k()
    >>> genes = GeneSpace.from_adata(adata)
    >>> matrix = np.random.default_rng(0).normal(size=(16, len(genes)))
    >>> encoder = scim.Encoder(genes, {"output.weight": matrix, "output.bias": np.zeros(16)})
    >>> reference = scim.Reference.build("blood.scim", adata[50:], encoder, labels_key="cell_type", study_key="channel")
    >>> len(reference)
    650
    >>> hits = reference.search(encoder.embed(adata[:50]), k=5, where={"label": ["dendritic cell", "B cell"]})
    >>> reference.metadata(hits.indices[0], ["label", "study"]).shape
    (5, 2)
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self._load(manifest)

    def _load(self, manifest: Mapping[str, Any]) -> None:
        try:
            terms, n_latent = TermSpace.from_dict(manifest["terms"]), int(manifest["n_latent"])
            names = [(str(s["name"]), int(s["n_cells"])) for s in manifest["segments"]]
        except (ValueError, KeyError, TypeError) as error:
            raise files.ReferenceFolderError(f"{self.path / files.MANIFEST} is damaged: {error}") from error
        folders = [(self.path / files.SEGMENTS / name, n) for name, n in names]
        segments = [open_vectors(folder, n, n_latent) for folder, n in folders]
        self._cells = join_cells([open_cells(folder, n) for folder, n in folders])
        self._calibration = Calibration.load(self.path / manifest["calibration"])
        self._backend = make_backend(
            manifest["backend"],
            segments,
            seed=manifest["seed"],
            folder=self.path / files.INDEX,
            index=manifest.get("index"),
        )
        self._manifest, self._segments, self.terms = dict(manifest), segments, terms
        self.n_cells = sum(n for _, n in names)
        self._judged: tuple[str, Judge] | None = None
        for name in ("label_codes", "_directed", "_n_directed", "obs", "landmarks"):
            self.__dict__.pop(name, None)

    @property
    def encoder_id(self) -> str:
        """Id of the encoder that the cells were embedded with."""
        return str(self._manifest["encoder_id"])

    @property
    def n_latent(self) -> int:
        """Dimensions of the embedding."""
        return int(self._manifest["n_latent"])

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that the cells were embedded with, read when it is first asked for."""
        try:
            encoder = Encoder.load(self.path / files.ENCODER)
        except EncoderFolderError as error:
            raise files.ReferenceFolderError(f"The reference lost its encoder: {error}") from error
        if encoder.id != self.encoder_id:
            raise files.ReferenceFolderError(
                f"{self.path} was built with encoder {self.encoder_id}, but holds {encoder.id}."
            )
        return encoder

    def __repr__(self) -> str:
        return (
            f"Reference of {self.n_cells:,} cells, {len(self.terms.labels)} labels, "
            f"{len(self._manifest['studies'])} studies ({self._backend.name} search, encoder {self.encoder_id}) "
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
        unlabeled_category: str | None = None,
        landmarks: LandmarkKind = "cells",
        backend: str = "auto",
        recall: float = 0.98,
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
        unlabeled_category
            A label that means "no label", besides missing values, "unknown", "unassigned" and the like.
        landmarks
            ``"cells"`` keeps the counts of up to 300 cells of each label and study (5,000 in all), to label queries
            that lack genes, and to tell novel cells by their expression. ``"simulated"`` keeps counts drawn like theirs
            instead, for a reference that others get; ``"none"`` keeps none.
        backend
            ``"exact"``; ``"faiss"``, which looks through the cells around a query and finds most of its neighbours,
            from 20,000 cells on; ``"pynndescent"``; or ``"auto"``: faiss where it pays.
        recall
            Share of the true neighbours that faiss is to find, measured on cells of the reference when it is built.
            Cells of a study that it does not hold lie farther out, and find one or two hundredths less.
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
        path = Path(path).expanduser()
        if not isinstance(encoder, Encoder):
            raise TypeError(f"encoder must be a scim.Encoder, got {type(encoder).__name__}. See SCIM.to_encoder.")
        known = CellOntology.bundled() if ontology is None else ontology
        check_option(landmarks, get_args(LandmarkKind), argument="landmarks")
        source = Source(labels_key, study_key, obs_columns, layer, gene_column, mod, known, unlabeled_category)
        source = replace(source, landmarks=landmarks)
        create(
            path,
            encoder=encoder,
            ontology=known,
            write=lambda folder: write_segment(folder, adata, encoder, source),
            source={
                "labels_key": labels_key,
                "study_key": study_key,
                "obs_columns": obs_columns,
                "unlabeled_category": unlabeled_category,
                "landmarks": landmarks,
            },
            backend=backend,
            recall=recall,
            overwrite=overwrite,
            seed=seed,
        )
        return cls.open(path)

    @classmethod
    def from_scimilarity(
        cls,
        folder: str | Path,
        path: str | Path,
        *,
        part: Literal["annotation", "cellsearch"] = "annotation",
        aliases: bool = False,
        ontology: CellOntology | None = None,
        backend: str = "auto",
        recall: float = 0.98,
        overwrite: bool = False,
        seed: int = 0,
    ) -> Reference:
        """Make a reference of the cells in a SCimilarity model's folder, and its encoder.

        Neither SCimilarity nor hnswlib is needed. Labels become terms of the Cell Ontology, former names and synonyms
        too; a warning lists those that it does not know, which stand by themselves.

        Parameters
        ----------
        folder
            Folder of the SCimilarity model.
        path
            Folder to make, by custom ``NAME.scim``.
        part
            ``"annotation"``: the labelled cells, read from annotation/labelled_kNN.bin. ``"cellsearch"``: all cells
            with their metadata, labelled as SCimilarity predicted (needs ``pip install 'scim-tools[tiledb]'``).
        aliases
            See :meth:`scim.Encoder.from_scimilarity`.
        ontology, backend, recall, overwrite, seed
            As in :meth:`build`.

        Raises
        ------
        FileNotFoundError
            A file of the model is missing.
        EncoderFolderError, ReferenceFolderError
            (ValueErrors) A file is damaged, or does not fit the others.
        ImportError
            ``part="cellsearch"``, and tiledb is not installed.
        """
        from ._scimilarity import PARTS

        check_option(part, tuple(PARTS), argument="part")
        folder, path = Path(folder).expanduser(), Path(path).expanduser()
        encoder = Encoder.from_scimilarity(folder, aliases=aliases)
        known = CellOntology.bundled() if ontology is None else ontology
        cells = PARTS[part](folder, encoder.n_latent)
        create(
            path,
            encoder=encoder,
            ontology=known,
            write=lambda to: write_blocks(to, cells.blocks(known), n_cells=cells.n_cells),
            source={"labels_key": "label", "study_key": "study", "obs_columns": list(cells.columns)},
            backend=backend,
            recall=recall,
            overwrite=overwrite,
            seed=seed,
        )
        return cls.open(path)

    @classmethod
    def open(cls, reference: Reference | str | Path | None) -> Reference:
        """Open a reference; its files are checked before they are read, the encoder's when it is first used.

        Parameters
        ----------
        reference
            The folder, or the name of a reference that is bundled with scim or installed, see :func:`scim.references`;
            a Reference is returned as it is. None: the bundled reference of blood.

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
            reference = named.DEFAULT
        if not isinstance(reference, str | Path):
            raise TypeError(f"reference must be a Reference or a path, got {type(reference).__name__}.")
        path = Path(reference).expanduser()
        if isinstance(reference, str) and not path.exists() and named.is_name(reference):
            path = named.find(reference)
        if not path.exists():
            parent = path.resolve().parent
            there = [p.parent.name for p in parent.glob(f"*/{files.MANIFEST}")] if parent.is_dir() else []
            raise unknown_reference(path, sorted(there))
        if not path.is_dir():
            raise files.ReferenceFolderError(f"{path} is a file; a reference is a folder with a {files.MANIFEST}.")
        return cls(path, files.verify(path, weights=False))

    def search(
        self,
        vectors: np.ndarray,
        k: int | None = 50,
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
            Hits of each; with fewer cells to find, there are that many, and a warning says so. None: every cell
            within ``max_distance``, found exactly.
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
        queries = check_queries(vectors, self.n_latent)
        allowed = select(self._cells, where=where, exclude=exclude)
        if within is not None:
            within = np.asarray(within)
            if within.shape != (self.n_cells,) or within.dtype != bool:
                raise ValueError(f"within must be bool ({self.n_cells},), got {within.dtype} {within.shape}.")
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

    def add(
        self,
        adata: AnnData | Iterable[AnnData] | Mapping[str, AnnData],
        *,
        encoder: Encoder | None = None,
        labels_key: str | None = None,
        study_key: str | None = None,
        obs_columns: Sequence[str] | None = None,
        layer: str | None = None,
        gene_column: str | None = None,
        mod: str | None = None,
        ontology: CellOntology | None = None,
    ) -> None:
        """Embed more cells and append them.

        What is on disk changes in a single step at the end; others who have the reference open keep what they opened.
        Cells without any label may be added: they are found by searches but never vote.

        Parameters
        ----------
        adata, layer, gene_column, mod
            As in :meth:`build`. Without ``study_key`` or a name (a mapping), each AnnData is a new study.
        encoder
            Only to make sure: it must be the reference's own.
        labels_key, study_key, obs_columns
            Columns of ``obs``; those of :meth:`build` by default.
        ontology
            The one that the reference was built with, where that is not the bundled one.

        Raises
        ------
        PermissionError
            The folder is read-only.
        ValueError
            ``encoder`` or ``ontology`` is another one; some cells are there already; somebody else changed the
            reference since it was opened.
        """
        if encoder is not None and encoder.id != self.encoder_id:
            raise ValueError(
                f"The reference was built with encoder {self.encoder_id}, not with {encoder.id}: their vectors "
                "cannot be compared. Build a reference of its own with the other one."
            )
        before = self._manifest["source"]
        if study_key is None and not isinstance(adata, Mapping):
            study_key = before["study_key"]
        known = self._ontology(ontology)
        source = Source(
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
            there = self.metadata(columns=[CELL_ID, STUDY])
            written = write_segment(folder, adata, self.encoder, source, known=there)
            old = {str(label) for label in self.terms.label_ids}
            terms, version = compile_terms(known, old | set(written.label_ids), stacklevel=5)
            return written.n_cells, {
                "terms": terms.to_dict(),
                "ontology_version": version,
                "studies": sorted({*self._manifest["studies"], *written.studies}),
            }

        self._load(append_segment(self.path, self._manifest, self.encoder, write))

    def info(self) -> dict[str, Any]:
        """Say what there is to know of the reference, as plain values."""
        manifest = self._manifest
        return {
            "cells": self.n_cells,
            "labelled_cells": int((self.label_codes >= 0).sum()),
            "labels": [str(name) for name in self.terms.term_names[self.terms.label_term]],
            "studies": list(manifest["studies"]),
            "columns": list(self._cells.column_names),
            "backend": self._backend.name,
            "encoder": self.encoder_id,
            "genes": int(self._manifest["n_genes"]),
            "latent": self.n_latent,
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
        files.verify(self.path)

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
