"""What makes a reference: from labelled cells, or from the folder of a SCimilarity model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from .._validate import check_option
from .._warn import warn
from ..encoder import Encoder
from ..labels import LandmarkKind
from ..ontology import CellOntology
from . import store
from ._cluster import connect
from ._writing import WritableCells
from .build import Recipe, write_blocks, write_segment
from .versions import create

if TYPE_CHECKING:
    from anndata import AnnData


class MadeCells(WritableCells):
    """Cells that are made from others' data, and opened."""

    if TYPE_CHECKING:

        @classmethod
        def open(cls, reference: Any) -> Self:
            """Open a reference."""

        def info(self) -> dict[str, Any]:
            """Facts about the reference."""

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
    ) -> Self:
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
            instead, for a reference that others get; where the cells of a label are of several sorts, p-values of
            novelty by them are somewhat too small. ``"none"`` keeps none.
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
        source = Recipe(labels_key, study_key, obs_columns, layer, gene_column, mod, known, unlabeled_category)
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
                encoder_folder=to.folder / store.ENCODER,
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
    ) -> Self:
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
        from .build import PARTS

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
            warn(
                f"None of the {len(made.terms.labels)} labels, such as {made.terms.labels[0]!r}, is in the ontology: "
                "each stands by itself, and none is above another."
            )
        return made
