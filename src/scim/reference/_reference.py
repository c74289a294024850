"""Reference: labelled cells that can be opened, searched and extended."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from .._validate import check_option
from ..encoder import Encoder
from ..index import Hits, IndexPlan, Query, check_queries, search
from ..labels import LabelModel, LandmarkKind, Landmarks
from ..ontology import CellOntology, TermSpace
from . import store, versions
from ._cluster import connect
from ._snapshot import Snapshot, bundled_snapshot
from .build import Recipe
from .cells import CellTable, ask_sql, to_anndata

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


class Reference:
    """Labelled cells in the space of an encoder, as a folder that can be searched and extended.

    Make one with :meth:`build`, open one with :meth:`open`. :meth:`add`, :meth:`remove`, :meth:`compact` and
    :meth:`reindex` change the folder in a single step at the end. They raise a PermissionError if it is read-only, a
    BlockingIOError if another process is writing to it, and a ValueError if another process changed it since it was
    opened (see :meth:`refresh`). Other processes keep the version that they opened.

    Examples
    --------
    >>> import scim
    >>> reference = scim.Reference.open("blood")
    >>> hits = reference.search(reference.vectors([0, 1]), k=3, where={"label": ["dendritic cell", "B cell"]})
    >>> reference.metadata(hits.indices[0], ["label", "study"]).shape
    (3, 2)
    """

    def __init__(self, snapshot: Snapshot) -> None:
        # Each method reads it once, so that it sees one version even while another thread adds.
        self._now = snapshot
        #: Held by a thread while it changes the folder, so that threads of one process wait for each other.
        self._changing = threading.RLock()

    def __len__(self) -> int:
        return self.n_cells

    def __repr__(self) -> str:
        now = self._now
        return (
            f"Reference of {now.metadata.n_cells:,} cells, {len(now.terms.labels)} labels, "
            f"{len(now.manifest['studies'])} studies ({now.index.name} search, encoder {now.encoder_id}) at {now.root}"
        )

    def _repr_html_(self) -> str:
        return self._now.to_html()

    @property
    def path(self) -> Path:
        """Folder of the reference."""
        return self._now.root

    @property
    def terms(self) -> TermSpace:
        """Labels of the cells on the ontology."""
        return self._now.terms

    @property
    def n_cells(self) -> int:
        """Number of cells in the reference."""
        return self._now.metadata.n_cells

    @property
    def n_rows(self) -> int:
        """Number of positions of cells. Removed cells keep their positions until :meth:`compact`."""
        return self._now.metadata.n_rows

    @property
    def encoder_id(self) -> str:
        """Id of the encoder that the cells were embedded with."""
        return self._now.encoder_id

    @property
    def n_latent(self) -> int:
        """Dimensions of the embedding."""
        return self._now.n_latent

    @property
    def encoder(self) -> Encoder:
        """The encoder that the cells were embedded with, read when it is first needed."""
        return self._now.encoder

    @property
    def landmarks(self) -> Landmarks | None:
        """Labelled cells whose counts the reference keeps. None if there are none."""
        return self._now.landmarks

    @property
    def label_codes(self) -> np.ndarray:
        """Position of each cell's label in ``terms.labels``, int32 (n_rows,); -1 for no label or a removed cell."""
        return self._now.label_codes

    @property
    def label_model(self) -> LabelModel:
        """The model that labels cells. It can be matched to the genes of a query."""
        return self._now.label_model

    @property
    def obs(self) -> CellTable:
        """Metadata of all cells, read column by column when it is needed."""
        return CellTable(self._now.metadata)

    @classmethod
    def open(cls, reference: Reference | str | Path | None, *, verify: store.Verify = "sizes") -> Reference:
        """Open a reference. Its files are checked, mapped into memory, and read when they are needed.

        Parameters
        ----------
        reference
            The folder, or the name of a bundled or installed reference (:func:`scim.references`). A Reference is
            returned as it is. None opens the bundled reference of the human body, ``"human"``.
        verify
            ``"sizes"`` compares the sizes of all files, and the content (SHA-256) of files up to 8 MiB and of files
            that are read as a whole, when they are read. It does not notice a change of a larger file of vectors or
            metadata that keeps its size. ``"sample"`` also compares random blocks of these. ``"full"`` compares the
            content of all files.

        Raises
        ------
        FileNotFoundError, ReferenceFolderError, ValueError
            The folder does not exist; it is not a reference, or a file of it is missing, truncated or changed; a folder
            here and a bundled or installed reference have this name.
        """
        check_option(verify, get_args(store.Verify), argument="verify")
        if isinstance(reference, Reference):
            return reference
        path = store.path_of_reference(reference)
        is_shared = store.is_bundled(path) and verify == "sizes"
        return cls(bundled_snapshot(path) if is_shared else Snapshot.open(path, verify))

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

        The folder appears when it is complete. Until then, an existing reference at ``path`` does not change. Memory
        does not grow with the number of cells in files, except for about 30 bytes a cell at the end. Progress is
        recorded every 20,000 cells in a hidden folder next to ``path``: a build that stopped continues from there if
        you call it again with the same arguments and data. A build that fails earlier leaves no files.

        Parameters
        ----------
        path
            Folder to create, usually ``NAME.scim``.
        adata
            Labelled cells: an AnnData (in memory, backed or Dask), a MuData with ``mod``, the path of an .h5ad or .zarr
            file, or of a folder of such files; or a list of these, or a mapping of study names to them. Files are
            opened one at a time. Each file is a study of its name unless ``study_key`` names a column.
        encoder
            Encoder that embeds the cells.
        labels_key
            Column of ``obs`` with the labels: Cell Ontology ids or names, or your own labels. Searches find cells
            without a label, but these cells do not vote.
        study_key
            Column of ``obs`` with the study. None treats each AnnData as one study.
        obs_columns
            Columns of ``obs`` to keep as metadata. The default is donor, sample, assay, tissue, disease and batch, if
            they exist.
        layer, gene_column, mod
            As in :meth:`scim.Encoder.embed`.
        ontology
            Ontology of the labels. The default is the bundled Cell Ontology, or none if it has none of the labels.
        unlabeled_category
            A label that means "no label", besides missing values, "unknown", "unassigned" and the like.
        landmarks
            ``"cells"`` keeps the counts of up to 300 cells of each label and study (5,000 in all), to label queries
            that lack genes and to detect novel cells by their expression. ``"simulated"`` keeps simulated counts
            instead, so that you can share the reference; its p-values of novelty are somewhat too small for labels
            that contain several cell types. ``"none"`` keeps no counts.
        backend
            ``"exact"`` compares all cells. ``"faiss"`` uses an index from 20,000 cells on and finds most neighbours.
            ``"pynndescent"`` uses a graph. ``"auto"`` uses faiss if the reference is large enough.
        recall
            Share of the true neighbours that faiss finds, measured on cells of the reference. It is one or two
            hundredths lower for cells of a new study.
        overwrite, resume
            Replace a reference at ``path``; continue an interrupted build (False starts again).
        seed
            Random seed.
        client
            A ``distributed.Client`` (``pip install 'scim-tools[dask]'``). The workers of its cluster embed the files,
            and need to see them and ``path`` under the same paths. This process embeds data in memory, and writes the
            same reference as without a client.

        Raises
        ------
        FileExistsError, FileNotFoundError, BlockingIOError, PermissionError
            ``path`` exists; a file of the data does not; another process is building it; it cannot be written to.
        KeyError, ValueError, ImportError, RuntimeError
            A column is not in ``obs``; no cell has a label, or the data cannot be embedded; dask.distributed is not
            installed; a worker has another scim, or workers died repeatedly.
        """
        if not isinstance(encoder, Encoder):
            raise TypeError(f"encoder must be a scim.Encoder, got {type(encoder).__name__}. See SCIM.to_encoder.")
        check_option(landmarks, get_args(LandmarkKind), argument="landmarks")
        ontology = CellOntology.bundled() if ontology is None else ontology
        recipe = Recipe(
            labels_key, study_key, obs_columns, layer, gene_column, mod, ontology, unlabeled_category, landmarks
        )
        path, plan = Path(path).expanduser(), IndexPlan(backend, recall, seed)
        cluster = None if client is None else connect(client)
        made = versions.create_from_data(
            path, adata, encoder, recipe, plan, overwrite=overwrite, resume=resume, cluster=cluster
        )
        return cls(made)

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
        """Make a reference from the cells in the folder of a SCimilarity model, with its encoder.

        Neither SCimilarity nor hnswlib is needed. Labels are matched to Cell Ontology terms, also by former names and
        synonyms. A warning lists the labels without a term, which have no ancestors.

        Parameters
        ----------
        folder, aliases
            As in :meth:`scim.Encoder.from_scimilarity`. An error names a file that is missing or damaged.
        part
            ``"annotation"``: the labelled cells, read from annotation/labelled_kNN.bin. ``"cellsearch"``: all cells
            with their metadata, labelled as SCimilarity predicted (needs ``pip install 'scim-tools[tiledb]'``).
        path, ontology, backend, recall, overwrite, seed
            As in :meth:`build`.
        """
        ontology = CellOntology.bundled() if ontology is None else ontology
        path, folder, plan = Path(path).expanduser(), Path(folder).expanduser(), IndexPlan(backend, recall, seed)
        made = versions.create_from_scimilarity(
            path, folder, part, plan, aliases=aliases, ontology=ontology, overwrite=overwrite
        )
        return cls(made)

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
            Number of hits of each query. A warning says if the reference has fewer cells to find. None finds every cell
            within ``max_distance``, exactly.
        where, exclude
            Filters on the metadata: ``{"tissue": ["lung", "blood"], "disease": "normal"}`` (any of the values, in all
            of the columns) or a ``pyarrow.compute`` expression. In a mapping, a tissue also means its parts, and a
            disease its kinds; names, synonyms and ids of UBERON and MONDO are understood. Expressions compare text.
        max_distance
            Largest cosine distance of a hit, 0 to 2.
        max_per_group
            Column -> largest number of hits of one group, such as ``{"donor": 50}``.
        within
            Cells that may be found if they also pass the filters, bool (n_rows,).
        recall
            Share of the true neighbours to find, 0 to 1, if an index is searched. The default is that of :meth:`build`.
            A smaller share is faster. 1 looks far, but is not exact as ``backend="exact"`` is.
        client
            As in :meth:`build`: each worker searches a part of the cells, and needs to see the folder under the same
            path. An exact search gives the same hits as without a client, and an index of short codes at least the
            recall.

        Raises
        ------
        ValueError, KeyError, TypeError, FileNotFoundError
            An argument is not valid; a filter names an unknown column or value, or leaves no cell; a worker does not
            see the folder.
        """
        now = self._now
        queries = check_queries(vectors, now.n_latent)
        allowed = now.metadata.select(where, exclude, within)
        caps, index = now.metadata.caps(max_per_group), now.index
        if client is not None:
            from .serving import serve

            index = serve(client, now.root, now.manifest, index)
        return search(index, Query(queries, k, max_distance, allowed, caps, recall))

    def allowed(self, *, where: Any = None, exclude: Any = None) -> np.ndarray:
        """Find the cells that pass the filters of :meth:`search` and were not removed, bool (n_rows,)."""
        return self._now.metadata.mask(where, exclude)

    def vectors(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Read the vectors of all cells or of the cells at ``rows``, float32 (n, n_latent), as they are stored."""
        now = self._now
        return now.vectors.take(now.metadata.first() if rows is None else now.metadata.rows(rows))

    def metadata(self, rows: np.ndarray | None = None, columns: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Read metadata: cell_id, label, term_id, study, and the kept columns of ``obs``.

        Parameters
        ----------
        rows
            Positions of cells, (m,), in the order of the rows to return, or bool (n_rows,). None reads all cells, with
            their position as the index.
        columns
            Names of columns, or one name. None reads all columns. Text is categorical.
        """
        return self._now.metadata.frame(rows, columns)

    def codes(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the code of each cell's value in a column, int32 (n_rows,), and the values of the codes, (v,).

        A code is -1 if the value is missing or the cell was removed. Text values are in the order of their first cells,
        numbers ascend. Codes need much less memory than a DataFrame.
        """
        return self._now.metadata.sorted_codes(column)

    def to_anndata(self, *, where: Any = None, exclude: Any = None) -> AnnData:
        """Read the cells that pass the filters of :meth:`search` as an AnnData, to plot, cluster or count them.

        It has no genes, but ``obs`` (the metadata, named by cell id, and ``row``, the position), ``obsm["X_scim"]``
        (the vectors, float32) and ``uns["scim"]``.

        Examples
        --------
        >>> import scim
        >>> scim.Reference.open("blood").to_anndata(where={"label": "B cell"}).obsm["X_scim"].shape[1]
        64
        """
        now = self._now
        rows = np.flatnonzero(now.metadata.mask(where, exclude))
        return to_anndata(now.metadata, rows, now.vectors.take(rows), encoder_id=now.encoder_id)

    def sql(self, query: str) -> pd.DataFrame:
        """Query the metadata in SQL, with DuckDB (``pip install 'scim-tools[sql]'``).

        The table ``cells`` has a row for each cell, the columns of :attr:`obs`, and ``row``, the position.

        Examples
        --------
        >>> import scim
        >>> scim.Reference.open("blood").sql("select count(*) as n from cells")["n"].tolist()
        [8708]
        """
        return ask_sql(self._now.metadata, query)

    def info(self) -> dict[str, Any]:
        """Return a summary of the reference as plain values."""
        return self._now.summary()

    def verify(self, how: store.Verify = "full") -> None:
        """Check the files against the manifest: ``"full"``, ``"sample"`` or ``"sizes"``, as in :meth:`open`.

        A ReferenceFolderError names a file that is missing, truncated or changed. :meth:`reindex` repairs a file of the
        index, which searches otherwise build in memory.
        """
        check_option(how, get_args(store.Verify), argument="how")
        store.verify_with_index(self._now.root, how)

    def refresh(self) -> None:
        """Open the newest version of the folder, if it was written to since it was opened."""
        with self._changing:
            self._now = self._now.newest()

    def pinned(self) -> Reference:
        """Return a reference of the version that is open now, which does not change when this one does."""
        return Reference(self._now)

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
        """Embed cells and add them to the reference.

        Cells may lack a label: searches find them, but they do not vote. A cell that is already in the reference is a
        ValueError. Cells that are not in the index are searched exactly. The index is built again if these are more
        than a tenth of the indexed cells and more than 20,000, or with :meth:`reindex`. The calibration is repeated.

        Parameters
        ----------
        adata, layer, gene_column, mod, client
            As in :meth:`build`. Without ``study_key`` or a name (a mapping, files), each AnnData is a new study.
        encoder
            Optional check: must be the encoder of the reference.
        labels_key, study_key, obs_columns
            Columns of ``obs``. The defaults are the columns of :meth:`build`.
        ontology
            Ontology of the reference. Required if it is not the bundled one.
        """
        with self._changing:
            now = self._now
            if encoder is not None and encoder.id != now.encoder_id:
                raise ValueError(
                    f"The reference was built with encoder {now.encoder_id}, not with {encoder.id}: their vectors "
                    "cannot be compared. Build another reference with the other encoder."
                )
            if study_key is None and not isinstance(adata, Mapping):
                study_key = now.manifest["source"]["study_key"]
            columns = (labels_key, study_key, obs_columns, layer, gene_column, mod)
            recipe = Recipe.following(now.manifest, *columns, ontology)
            self._now = versions.add(now, adata, recipe, cluster=None if client is None else connect(client))

    def remove(self, *, where: Any = None, exclude: Any = None, rows: np.ndarray | None = None) -> int:
        """Remove the cells that pass the filters of :meth:`search`, and return their number.

        No search, vote, table or count has these cells from then on, and the calibration is repeated. Positions of
        other cells do not change, and positions of removed cells are refused, until :meth:`compact` rewrites the files.
        Until then, the files contain the vectors and metadata of the removed cells.

        Parameters
        ----------
        where, exclude
            As in :meth:`search`.
        rows
            Positions of cells, or bool (n_rows,): remove only cells at these positions.
        """
        if where is None and exclude is None and rows is None:
            raise ValueError("Give where=, exclude= or rows=: which cells are to be removed?")
        with self._changing:
            now = self._now
            chosen = now.metadata.mask(where, exclude)
            if rows is not None:
                chosen &= np.isin(np.arange(len(chosen)), now.metadata.rows(rows))
            self._now = versions.remove(now, chosen)
        return int(chosen.sum())

    def compact(self) -> None:
        """Rewrite the files as one segment without removed cells, and build the index again.

        Positions change to those among the remaining cells. The old files stay for other processes that have them open,
        until the next change, or until this method is called again, which then only deletes them.
        """
        with self._changing:
            self._now = versions.compact(self._now)

    def reindex(self) -> None:
        """Build the index of all cells again, and repeat the calibration."""
        with self._changing:
            self._now = versions.reindex(self._now)
