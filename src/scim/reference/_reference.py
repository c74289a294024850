"""Reference: what is opened, searched and extended."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np

from .._disk import check_files
from .._validate import check_option
from ..encoder import Encoder, EncoderFolderError
from ..index import Hits, MaskedIndex, check_queries, index_files, open_index, search
from ..labels import MatchedModel
from ..ontology import TermSpace
from . import store
from ._making import MadeCells
from .cells import check_caps
from .store import (
    findable_cells,
    join_cells,
    load_calibration,
    load_living,
    open_cells,
    open_vectors,
    unknown_reference,
)


class Reference(MadeCells):
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
    >>> from scim.genes._space import GeneSpace
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
            raise store.ReferenceFolderError(f"{self.path / store.MANIFEST} is damaged: {error}") from error
        folders = [(self.path / store.SEGMENTS / name, n) for name, n in names]
        segments = [open_vectors(folder, n, n_latent) for folder, n in folders]
        cells = join_cells([open_cells(folder, n) for folder, n in folders])
        calibration = load_calibration(self.path / manifest["calibration"])
        n_rows, removed = cells.num_rows, manifest.get("removed")
        living = load_living(self.path / removed["file"], n_rows) if removed else None
        findable = findable_cells(self.path, manifest, segments, living)
        backend = open_index(
            manifest["backend"],
            segments,
            seed=manifest["seed"],
            folder=self.path / store.INDEX,
            index=manifest.get("index"),
        )
        self._backend = backend if living is None or findable is None else MaskedIndex(backend, findable)
        self._cells, self._calibration, self._living, self._findable = cells, calibration, living, findable
        self._manifest, self._segments, self.terms = dict(manifest), segments, terms
        self.n_rows, self.n_cells = n_rows, n_rows if living is None else int(living.sum())
        self._n_findable = n_rows if findable is None else int(findable.sum())
        # What was hashed is as it was written, and need not be looked through before it is used.
        names_of = [f"{store.SEGMENTS}/{name}/{store.CELLS}" for name, _ in names]
        hashed = all(store.is_small(manifest["files"][name]) for name in names_of)
        self._sound = set(cells.column_names) if hashed else set()
        self._judged: dict[str, MatchedModel] = {}
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
            encoder = Encoder.load(self.path / store.ENCODER)
        except EncoderFolderError as error:
            raise store.ReferenceFolderError(f"The reference lost its encoder: {error}") from error
        if encoder.id != self.encoder_id:
            raise store.ReferenceFolderError(
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
    def open(cls, reference: Reference | str | Path | None, *, verify: store.Verify = "sizes") -> Reference:
        """Open a reference; its files are checked before they are read, the encoder's when it is first used.

        Vectors and metadata are mapped into memory, and only what is asked for is read.

        Parameters
        ----------
        reference
            The folder, or the name of a reference that is bundled with scim or installed, see :func:`scim.references`;
            a Reference is returned as it is. None: the bundled reference of blood. A folder that is no reference does
            not stand in the way of a name.
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
        ValueError
            A folder here and a reference that is bundled or installed have the same name.
        """
        check_option(verify, get_args(store.Verify), argument="verify")
        if isinstance(reference, Reference):
            return reference
        if reference is None:
            reference = store.path_of_named(store.DEFAULT)
        if not isinstance(reference, str | Path):
            raise TypeError(f"reference must be a Reference or a path, got {type(reference).__name__}.")
        path = Path(reference).expanduser()
        if isinstance(reference, str) and store.looks_like_name(reference):
            path = store.path_of(path)
        if not path.exists():
            parent = path.resolve().parent
            there = [p.parent.name for p in parent.glob(f"*/{store.MANIFEST}")] if parent.is_dir() else []
            raise unknown_reference(path, sorted(there))
        if not path.is_dir():
            raise store.ReferenceFolderError(f"{path} is a file; a reference is a folder with a {store.MANIFEST}.")
        if store.is_bundled(path) and verify == "sizes":
            return cls._opened_once(path)
        return cls._open(path, verify)

    @classmethod
    @cache
    def _opened_once(cls, path: Path) -> Reference:
        # Nobody writes to it, and what it learns of the genes of a query is of use to the next.
        return cls._open(path, "sizes")

    @classmethod
    def _open(cls, path: Path, verify: store.Verify) -> Reference:
        while True:
            manifest = store.read_manifest(path)
            try:
                return cls(path, store.verify(path, verify, weights=False))
            except (store.ReferenceFolderError, FileNotFoundError):
                # A writer may have put a new version in its place while this one was read.
                if store.read_manifest(path)["sha256"] == manifest["sha256"]:
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
        recall: float | None = None,
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
        recall
            Share of the true neighbours to find, 0 to 1, where the cells are so many that an index is searched; None:
            what the reference was built for. Less is quicker; 1 looks far, and is not exact as ``backend="exact"`` is.
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
            recall=recall,
            find_within=find_within,
        )

    def allowed(self, *, where: Any = None, exclude: Any = None) -> np.ndarray:
        """Cells that pass the filters of :meth:`search` and were not removed, bool (n_rows,)."""
        allowed = self._select(where, exclude)
        return np.ones(self.n_rows, dtype=bool) if allowed is None else allowed.copy()

    def info(self) -> dict[str, Any]:
        """Say what there is to know of the reference, as plain values."""
        manifest = self._manifest
        listed = [*manifest["files"].values(), *index_files(manifest.get("index")).values()]
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
            "bytes": sum(int(file["bytes"]) for file in listed),
            "made_with": dict(manifest["engines"]),
        }

    def verify(self, how: store.Verify = "full") -> None:
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
        check_option(how, get_args(store.Verify), argument="how")
        index = index_files(store.verify(self.path, how).get("index"))
        try:
            check_files(self.path / store.INDEX, index, store.ReferenceFolderError, content=lambda _: how == "full")
        except store.ReferenceFolderError as error:
            raise store.ReferenceFolderError(f"{error} Or make the index anew: Reference.reindex().") from error
