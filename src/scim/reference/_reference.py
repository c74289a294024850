"""Reference: build, open, search and extend."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from .._validate import check_option
from ..encoder import Encoder, EncoderFolderError
from ..encoder._folder import check_files
from ..ontology import CellOntology, TermSpace
from . import _manifest as files
from . import _named as named
from ._backend import index_files, make_backend
from ._build import Source, write_blocks, write_segment
from ._calibration import Calibration, Judge
from ._cluster import connect
from ._commit import create
from ._landmarks import LandmarkKind
from ._removed import LivingCells, findable_cells, load_living
from ._search import Hits, check_caps, check_queries, search, unknown_reference
from ._segments import join_cells, open_cells, open_vectors
from ._writing import WritableCells

if TYPE_CHECKING:
    from anndata import AnnData


class Reference(WritableCells):
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
    n_rows
        Positions of cells, those included that were removed: more than ``n_cells`` until the reference is compacted.

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
        cells = join_cells([open_cells(folder, n) for folder, n in folders])
        calibration = Calibration.load(self.path / manifest["calibration"])
        n_rows, removed = cells.num_rows, manifest.get("removed")
        living = load_living(self.path / removed["file"], n_rows) if removed else None
        findable = findable_cells(self.path, manifest, segments, living)
        backend = make_backend(
            manifest["backend"],
            segments,
            seed=manifest["seed"],
            folder=self.path / files.INDEX,
            index=manifest.get("index"),
        )
        self._backend = backend if living is None or findable is None else LivingCells(backend, findable)
        self._cells, self._calibration, self._living, self._findable = cells, calibration, living, findable
        self._manifest, self._segments, self.terms = dict(manifest), segments, terms
        self.n_rows, self.n_cells = n_rows, n_rows if living is None else int(living.sum())
        self._n_findable = n_rows if findable is None else int(findable.sum())
        # What was hashed is as it was written, and need not be looked through before it is used.
        names_of = [f"{files.SEGMENTS}/{name}/{files.CELLS}" for name, _ in names]
        hashed = all(files.is_small(manifest["files"][name]) for name in names_of)
        self._sound = set(cells.column_names) if hashed else set()
        self._judged: dict[str, Judge] = {}
        for name in ("label_codes", "landmarks"):
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
        adata: AnnData | str | Path | Iterable[AnnData | str | Path] | Mapping[str, AnnData | str | Path],
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
        resume: bool = True,
        seed: int = 0,
        client: Any = None,
    ) -> Reference:
        """Embed labelled cells and write them as a reference.

        The folder appears when it is whole, and an old one stays as it was until then. Memory does not grow with the
        number of cells in files, but for about 30 bytes a cell at the end. What is done is noted every 20,000 cells in
        a hidden folder beside ``path``: a build that was killed, or that an error or an interrupt ended after that
        many, goes on from there when it is called again with the same arguments and data; else nothing is left.

        Parameters
        ----------
        path
            Folder to make, by custom ``NAME.scim``.
        adata
            Labelled cells: an AnnData (in memory, backed or Dask), a MuData with ``mod``, the path of an .h5ad or .zarr
            file, or of a folder of such; several of these, or a mapping of study names to them. Files are opened
            one at a time, and each is a study of its name unless ``study_key`` tells them.
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
        resume
            Go on with a build that was interrupted; False: begin afresh.
        seed
            Seed of what is drawn at random.
        client
            A ``distributed.Client`` (``pip install 'scim-tools[dask]'``): the workers of its cluster, which see the
            folder of ``path`` and the files under the same paths, embed the files, and this process writes what it
            would have written without them. Data in memory are embedded here.

        Raises
        ------
        FileExistsError
            ``path`` exists.
        FileNotFoundError
            A file of the data does not.
        BlockingIOError
            Another process is building it.
        PermissionError
            The folder cannot be written to.
        KeyError
            A column is not in ``obs``.
        ValueError
            No cell has a label, or the data cannot be embedded.
        ImportError, RuntimeError
            dask.distributed is not installed; a worker has another scim, or workers died repeatedly.
        """
        path = Path(path).expanduser()
        if not isinstance(encoder, Encoder):
            raise TypeError(f"encoder must be a scim.Encoder, got {type(encoder).__name__}. See SCIM.to_encoder.")
        known = CellOntology.bundled() if ontology is None else ontology
        check_option(landmarks, get_args(LandmarkKind), argument="landmarks")
        cluster = None if client is None else connect(client)
        source = Source(labels_key, study_key, obs_columns, layer, gene_column, mod, known, unlabeled_category)
        source = replace(source, landmarks=landmarks)
        create(
            path,
            encoder=encoder,
            ontology=known,
            write=lambda to: write_segment(
                to.segment,
                adata,
                encoder,
                source,
                journal=to,
                cluster=cluster,
                encoder_folder=to.folder / files.ENCODER,
            ),
            plan=source.plan(encoder),
            resume=resume,
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
            write=lambda to: write_blocks(to.segment, cells.blocks(known), n_cells=cells.n_cells),
            source={"labels_key": "label", "study_key": "study", "obs_columns": list(cells.columns)},
            backend=backend,
            recall=recall,
            overwrite=overwrite,
            seed=seed,
        )
        made = cls.open(path)
        if made.info()["ontology"] == "flat":
            warnings.warn(
                f"None of the {len(made.terms.labels)} labels, such as {made.terms.labels[0]!r}, is in the ontology: "
                "each stands by itself, and none is above another.",
                UserWarning,
                stacklevel=2,
            )
        return made

    @classmethod
    def open(cls, reference: Reference | str | Path | None, *, verify: files.Verify = "sizes") -> Reference:
        """Open a reference; its files are checked before they are read, the encoder's when it is first used.

        Vectors and metadata are mapped into memory, and only what is asked for is read.

        Parameters
        ----------
        reference
            The folder, or the name of a reference that is bundled with scim or installed, see :func:`scim.references`;
            a Reference is returned as it is. None: the bundled reference of blood.
        verify
            ``"sizes"``: that all files are there with their sizes, and the content (SHA-256) of those up to 8 MiB, at
            once, and of others that are read as a whole, then. A large file of vectors or metadata that was changed and
            kept its size is not noticed. ``"sample"``: some blocks of the large files too. ``"full"``: all of all.

        Raises
        ------
        FileNotFoundError
            There is no such folder.
        ReferenceFolderError
            (a ValueError) The folder is something else, or a file of it is missing, truncated or changed.
        """
        check_option(verify, get_args(files.Verify), argument="verify")
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
        while True:
            manifest = files.read_manifest(path)
            try:
                return cls(path, files.verify(path, verify, weights=False))
            except (files.ReferenceFolderError, FileNotFoundError):
                # A writer may have put a new version in its place while this one was read.
                if files.read_manifest(path)["sha256"] == manifest["sha256"]:
                    raise

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
        client: Any = None,
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
            Cells that may be found beside all that, bool (n_rows,).
        client
            A ``distributed.Client`` (``pip install 'scim-tools[dask]'``): the workers of its cluster, which see the
            folder under the same path, each search a part of the cells. What is searched exactly in one process is so
            here, with the same hits; of an index of short codes, each worker searches some lists, with at least the
            recall of one process.

        Raises
        ------
        ValueError, KeyError, TypeError
            An argument does not fit; a filter names an unknown column or value, or leaves no cell.
        ImportError, FileNotFoundError, RuntimeError
            dask.distributed is not installed; a worker does not see the folder, has another scim, or died repeatedly.
        """
        queries = check_queries(vectors, self.n_latent)
        allowed = self._select(where, exclude)
        if within is not None:
            within = np.asarray(within)
            if within.shape != (self.n_rows,) or within.dtype != bool:
                raise ValueError(f"within must be bool ({self.n_rows},), got {within.dtype} {within.shape}.")
            allowed = within if allowed is None else allowed & within
            if not allowed.any():
                raise ValueError("No cell of the reference passes both the filter and the choice of labels.")
        caps = check_caps(max_per_group, self._cells.column_names)
        backend, find_within = self._searcher(client)
        return search(
            backend,
            queries,
            k,
            n_cells=self._n_findable,
            allowed=allowed if allowed is None or self._findable is None else allowed & self._findable,
            max_distance=max_distance,
            groups={column: (self._codes(column), most) for column, most in caps.items()},
            find_within=find_within,
        )

    def allowed(self, *, where: Any = None, exclude: Any = None) -> np.ndarray:
        """Cells that pass the filters of :meth:`search` and were not removed, bool (n_rows,)."""
        allowed = self._select(where, exclude)
        return np.ones(self.n_rows, dtype=bool) if allowed is None else allowed.copy()

    def info(self) -> dict[str, Any]:
        """Say what there is to know of the reference, as plain values."""
        manifest = self._manifest
        return {
            "cells": self.n_cells,
            "labelled_cells": int((self.label_codes >= 0).sum()),
            "labels": [str(name) for name in self.terms.term_names[self.terms.label_term]],
            "studies": list(manifest["studies"]),
            "columns": list(self._cells.column_names),
            "labels_key": manifest["source"]["labels_key"],
            "study_key": manifest["source"]["study_key"],
            "backend": self._backend.name,
            "encoder": self.encoder_id,
            "genes": int(self._manifest["n_genes"]),
            "latent": self.n_latent,
            "ontology": manifest["ontology_version"],
            "calibration": f"{self.calibration_kind}, {len(self.background()):,} distances",
            "bytes": sum(int(f["bytes"]) for f in manifest["files"].values()),
            "made_with": dict(manifest["engines"]),
        }

    def verify(self, how: files.Verify = "full") -> None:
        """Check the files against the manifest.

        Parameters
        ----------
        how
            ``"full"``: the content of all; ``"sample"``, ``"sizes"``: see :meth:`open`.

        Raises
        ------
        ReferenceFolderError
            A file is missing, truncated or changed; the message names it. Where it is of the index, which searches make
            again in memory, :meth:`reindex` mends it.
        """
        check_option(how, get_args(files.Verify), argument="how")
        index = index_files(files.verify(self.path, how).get("index"))
        try:
            check_files(self.path / files.INDEX, index, files.ReferenceFolderError, content=lambda _: how == "full")
        except files.ReferenceFolderError as error:
            raise files.ReferenceFolderError(f"{error} Or make the index anew: Reference.reindex().") from error
