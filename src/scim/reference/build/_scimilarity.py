"""Cells in the folders of SCimilarity 0.4 models, read without SCimilarity and hnswlib."""

from __future__ import annotations

import csv
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..store import FIXED_COLUMNS, LABEL, STUDY, ReferenceFolderError
from ._recipe import Recipe

if TYPE_CHECKING:
    from ...ontology import CellOntology

ANNOTATION_INDEX = "annotation/labelled_kNN.bin"
ANNOTATION_LABELS = "annotation/reference_labels.tsv"
SEARCH_VECTORS = "cellsearch/cell_embedding"
SEARCH_METADATA = "cellsearch/cell_metadata"
#: Cells of a block.
_BLOCK_CELLS = 50_000
#: Head of an hnswlib file: offset of the base layer, capacity, elements, bytes of an element, offsets of its id and its
#: vector, highest level, entry point, M, M0, M of lower layers, multiplier, ef_construction.
_HEAD = struct.Struct("<6QiI3QdQ")
_REMEDY = "Download the model again."


@dataclass(frozen=True, eq=False)
class AnnotationCells:
    """Labelled cells: vectors from an hnswlib index, and a table of labels and studies.

    ``folder`` is that of the model, and ``columns`` are further metadata.
    """

    folder: Path
    n_latent: int
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (ANNOTATION_INDEX, ANNOTATION_LABELS):
            if not (self.folder / name).is_file():
                raise FileNotFoundError(f"{self.folder} has no {name}. {_REMEDY}")
        if len(self._index()) != self.n_cells:
            raise ReferenceFolderError(
                f"{self.folder / ANNOTATION_INDEX} holds {len(self._index()):,} cells, but {ANNOTATION_LABELS} names "
                f"{self.n_cells:,}. {_REMEDY}"
            )

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        with open(self.folder / ANNOTATION_LABELS, "rb") as file:
            return sum(1 for line in file if line.strip(b"\r\n "))

    def blocks(self, ontology: CellOntology) -> Iterator[tuple[pd.DataFrame, Iterable[np.ndarray]]]:
        """Yield metadata and vectors, in the order of the index ids."""
        index = self._index()
        path = self.folder / ANNOTATION_LABELS
        try:
            plain: dict[str, Any] = {"dtype": str, "keep_default_na": False, "quoting": csv.QUOTE_NONE}
            obs = pd.read_csv(path, sep="\t", header=None, names=[LABEL, STUDY], usecols=[0, 1], **plain)
        except ValueError as error:  # ParserError, or another encoding
            raise ReferenceFolderError(f"{path} has no label and study in each line: {error}. {_REMEDY}") from error
        if len(obs) != self.n_cells:
            raise ReferenceFolderError(
                f"{path} has {self.n_cells:,} lines, but {len(obs):,} cells: a line has a break. {_REMEDY}"
            )
        if (nowhere := obs[STUDY].fillna("") == "").any():
            at = int(nowhere.to_numpy().argmax())
            raise ReferenceFolderError(f"{path} has no study in line {at + 1} ({obs[LABEL].iloc[at]!r}). {_REMEDY}")
        obs.index = obs.index.astype(str)
        yield _recipe((), ontology).cells(obs, ""), index.blocks()

    def _index(self) -> HnswVectors:
        return HnswVectors.open(self.folder / ANNOTATION_INDEX, self.n_latent)


@dataclass(frozen=True, eq=False)
class SearchCells:
    """All cells that the model can search, with their metadata, in TileDB arrays. See :class:`AnnotationCells`."""

    folder: Path
    n_latent: int

    def __post_init__(self) -> None:
        for name in (SEARCH_VECTORS, SEARCH_METADATA):
            if not (self.folder / name).is_dir():
                raise FileNotFoundError(f"{self.folder} has no {name}. {_REMEDY}")
        shape = self._shape
        if len(shape) != 2 or shape[1] != self.n_latent:
            raise ReferenceFolderError(
                f"{self.folder / SEARCH_VECTORS} holds vectors {shape}, the encoder makes {self.n_latent} numbers. "
                f"{_REMEDY}"
            )

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return int(self._shape[0])

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the metadata, besides label and study."""
        with self._open(SEARCH_METADATA) as table:
            names = [table.attr(i).name for i in range(table.nattr)]
        return tuple(name for name in names if name not in (*FIXED_COLUMNS, "index"))

    def blocks(self, ontology: CellOntology) -> Iterator[tuple[pd.DataFrame, Iterable[np.ndarray]]]:
        """Yield metadata and vectors, block by block. The label is SCimilarity's prediction."""
        recipe = _recipe(self.columns, ontology)
        with self._open(SEARCH_METADATA) as table, self._open(SEARCH_VECTORS) as array:
            name = array.attr(0).name
            for start in range(0, self.n_cells, _BLOCK_CELLS):
                stop = min(start + _BLOCK_CELLS, self.n_cells)
                obs = self._read(SEARCH_METADATA, partial(_frame, table, start, stop))
                if (
                    len(obs) != stop - start
                    or not {"prediction", STUDY} <= set(obs)
                    or (obs["prediction"].astype(str) == "").all()
                ):
                    raise ReferenceFolderError(
                        f"{self.folder / SEARCH_METADATA} does not hold prediction and study of {self.n_cells:,} "
                        f"cells. {_REMEDY}"
                    )
                obs.index = pd.Index(range(start, stop)).astype(str)
                part = self._read(SEARCH_VECTORS, partial(array.__getitem__, slice(start, stop)))
                vectors = np.asarray(part[name] if isinstance(part, dict) else part)
                yield recipe.cells(obs.assign(**{LABEL: obs["prediction"]}), ""), [_unit(vectors)]

    @property
    def _shape(self) -> tuple[int, ...]:
        with self._open(SEARCH_VECTORS) as array:
            return tuple(map(int, array.shape))

    def _open(self, name: str) -> Any:
        try:
            import tiledb
        except ImportError as error:
            raise ImportError(
                "The cell search part of a SCimilarity model is stored in TileDB arrays: pip install "
                "'scim-tools[tiledb]'. part='annotation' needs no TileDB."
            ) from error
        return self._read(name, lambda: tiledb.open(str(self.folder / name), "r"))

    def _read(self, name: str, work: Callable[[], Any]) -> Any:
        """Read an array. An error names it."""
        import tiledb

        try:
            return work()
        except tiledb.TileDBError as error:
            raise ReferenceFolderError(f"{self.folder / name} cannot be read: {error}. {_REMEDY}") from error


#: Parts of a model's folder that can be read.
PARTS: dict[str, type[AnnotationCells] | type[SearchCells]] = {"annotation": AnnotationCells, "cellsearch": SearchCells}


@dataclass(frozen=True, eq=False)
class HnswVectors:
    """Vectors in an hnswlib file of the cosine space, mapped into memory.

    ``records`` are the elements of the file, uint8 (n, bytes of an element). ``vector_at`` and ``id_at`` are the
    offsets of the vector and the id in an element.
    """

    records: np.ndarray
    vector_at: int
    id_at: int
    n_latent: int
    path: Path

    def __len__(self) -> int:
        return len(self.records)

    @classmethod
    def open(cls, path: Path, n_latent: int) -> HnswVectors:
        """Map a file, or raise a ReferenceFolderError if it is truncated or not an index of such vectors."""
        with open(path, "rb") as file:
            head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise ReferenceFolderError(f"{path} is truncated. {_REMEDY}")
        _, _, n, size, id_at, vector_at, *_ = _HEAD.unpack(head)
        if not (0 < n and vector_at < id_at and size == id_at + 8):
            raise ReferenceFolderError(f"{path} is not an hnswlib index. {_REMEDY}")
        if id_at - vector_at != 4 * n_latent:
            raise ReferenceFolderError(
                f"{path} holds vectors of {(id_at - vector_at) // 4} numbers, the encoder makes {n_latent}. {_REMEDY}"
            )
        if path.stat().st_size < _HEAD.size + n * size:
            raise ReferenceFolderError(f"{path} is truncated: it should hold {n:,} cells. {_REMEDY}")
        records = np.memmap(path, dtype=np.uint8, mode="r", offset=_HEAD.size, shape=(n, size))
        return cls(records, vector_at, id_at, n_latent, path)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield unit vectors in the order of their ids, float32 (m, n_latent)."""
        ids = self.records[:, self.id_at : self.id_at + 8].copy().view("<u8").ravel()
        order = np.argsort(ids, kind="stable")
        if not np.array_equal(ids[order], np.arange(len(ids), dtype=np.uint64)):
            raise ReferenceFolderError(f"{self.path} has cells whose ids are not 0 to {len(ids) - 1}. {_REMEDY}")
        end = self.vector_at + 4 * self.n_latent
        for start in range(0, len(order), _BLOCK_CELLS):
            part = self.records[order[start : start + _BLOCK_CELLS], self.vector_at : end]
            yield _unit(np.ascontiguousarray(part).view("<f4"))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors to length 1. Vectors that are not finite are an error."""
    vectors = np.asarray(vectors, dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise ReferenceFolderError(f"The model's cells have vectors that are not finite. {_REMEDY}")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def _frame(table: Any, start: int, stop: int) -> pd.DataFrame:
    """Read rows of a TileDB table. Its own conversion does not support pandas 3."""
    if table.schema.sparse:
        raise ReferenceFolderError(f"{table.uri} is a sparse array; the metadata of SCimilarity's models are dense.")
    columns = table[start:stop]
    return pd.DataFrame(
        {
            name: [v.decode() if isinstance(v, bytes) else v for v in values] if values.dtype.kind in "OSU" else values
            for name, values in columns.items()
        }
    )


def _recipe(columns: tuple[str, ...], ontology: CellOntology) -> Recipe:
    return Recipe(LABEL, STUDY, columns, None, None, None, ontology)
