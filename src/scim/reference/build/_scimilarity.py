"""Cells in the folders of SCimilarity 0.4 models, read without its code and without hnswlib."""

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
#: Cells that are read at a time.
_CELLS = 50_000
#: Head of an hnswlib file: offset of the base layer, elements that fit, elements, bytes of an element, where its id and
#: its vector begin, highest level, entry point, M, M0, M of lower layers, multiplier, ef_construction.
_HEAD = struct.Struct("<6QiI3QdQ")
_REMEDY = "Download the model again."


@dataclass(frozen=True, eq=False)
class AnnotationCells:
    """Labelled cells: vectors from an hnswlib index, label and study from a table beside it.

    Parameters
    ----------
    folder
        Folder of the model.
    n_latent
        Length of a vector.
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
        """Cells in all."""
        with open(self.folder / ANNOTATION_LABELS, "rb") as file:
            return sum(1 for line in file if line.strip(b"\r\n "))

    def blocks(self, ontology: CellOntology) -> Iterator[tuple[pd.DataFrame, Iterable[np.ndarray]]]:
        """Metadata and vectors, in the order of the index ids."""
        index = self._index()
        path = self.folder / ANNOTATION_LABELS
        try:
            obs = pd.read_csv(
                path,
                sep="\t",
                header=None,
                names=[LABEL, STUDY],
                usecols=[0, 1],
                dtype=str,
                keep_default_na=False,
                quoting=csv.QUOTE_NONE,
            )
        except ValueError as error:  # pandas' ParserError, and a wrong encoding
            raise ReferenceFolderError(f"{path} has no label and study in each line: {error}. {_REMEDY}") from error
        if len(obs) != self.n_cells:
            raise ReferenceFolderError(
                f"{path} has {self.n_cells:,} lines, but {len(obs):,} cells: a line is broken within. {_REMEDY}"
            )
        if (nowhere := obs[STUDY].fillna("") == "").any():
            at = int(nowhere.to_numpy().argmax())
            raise ReferenceFolderError(f"{path} has no study in line {at + 1} ({obs[LABEL].iloc[at]!r}). {_REMEDY}")
        obs.index = obs.index.astype(str)
        yield _source((), ontology).cells(obs, ""), index.blocks()

    def _index(self) -> HnswVectors:
        return HnswVectors.open(self.folder / ANNOTATION_INDEX, self.n_latent)


@dataclass(frozen=True, eq=False)
class SearchCells:
    """All cells that the model can search, with their metadata, in TileDB arrays.

    Parameters
    ----------
    folder
        Folder of the model.
    n_latent
        Length of a vector.
    """

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
        """Cells in all."""
        return int(self._shape[0])

    @property
    def columns(self) -> tuple[str, ...]:
        """Metadata beside label and study."""
        with self._open(SEARCH_METADATA) as table:
            names = [table.attr(i).name for i in range(table.nattr)]
        return tuple(name for name in names if name not in (*FIXED_COLUMNS, "index"))

    def blocks(self, ontology: CellOntology) -> Iterator[tuple[pd.DataFrame, Iterable[np.ndarray]]]:
        """Metadata and vectors, block by block; the label is SCimilarity's prediction."""
        source = _source(self.columns, ontology)
        with self._open(SEARCH_METADATA) as table, self._open(SEARCH_VECTORS) as array:
            name = array.attr(0).name
            for start in range(0, self.n_cells, _CELLS):
                stop = min(start + _CELLS, self.n_cells)
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
                vectors = np.asarray(_attribute(part, name))
                yield source.cells(obs.assign(**{LABEL: obs["prediction"]}), ""), [_unit(vectors)]

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
                "'scim-tools[tiledb]'. part='annotation' needs nothing."
            ) from error
        return self._read(name, lambda: tiledb.open(str(self.folder / name), "r"))

    def _read(self, name: str, work: Callable[[], Any]) -> Any:
        """Return what reading an array gives; an error names it."""
        import tiledb

        try:
            return work()
        except tiledb.TileDBError as error:
            raise ReferenceFolderError(f"{self.folder / name} cannot be read: {error}. {_REMEDY}") from error


#: What can be read from a folder.
PARTS: dict[str, type[AnnotationCells] | type[SearchCells]] = {
    "annotation": AnnotationCells,
    "cellsearch": SearchCells,
}


@dataclass(frozen=True, eq=False)
class HnswVectors:
    """Vectors in an hnswlib file of the cosine space, mapped into memory.

    Attributes
    ----------
    records
        uint8 (n, bytes of an element).
    vector_at, id_at
        Where in an element its vector and its id begin.
    n_latent
        Length of a vector.
    path
        The file.
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
        """Map a file.

        Raises
        ------
        ReferenceFolderError
            It is no hnswlib index, or one of vectors of another length, or it is truncated.
        """
        with open(path, "rb") as file:
            head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise ReferenceFolderError(f"{path} is truncated. {_REMEDY}")
        _, _, n, size, id_at, vector_at, *_ = _HEAD.unpack(head)
        if not (0 < n and vector_at < id_at and size == id_at + 8):
            raise ReferenceFolderError(f"{path} is no hnswlib index. {_REMEDY}")
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
        for start in range(0, len(order), _CELLS):
            part = self.records[order[start : start + _CELLS], self.vector_at : end]
            yield _unit(np.ascontiguousarray(part).view("<f4"))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors brought to length 1; what is not finite is refused."""
    vectors = np.asarray(vectors, dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise ReferenceFolderError(f"The model's cells have vectors that are not finite. {_REMEDY}")
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def _frame(table: Any, start: int, stop: int) -> pd.DataFrame:
    """Rows of a TileDB table; its own way to pandas does not know pandas 3."""
    if table.schema.sparse:
        raise ReferenceFolderError(f"{table.uri} is a sparse array; the metadata of SCimilarity's models are dense.")
    columns = table[start:stop]
    return pd.DataFrame(
        {
            name: [v.decode() if isinstance(v, bytes) else v for v in values] if values.dtype.kind in "OSU" else values
            for name, values in columns.items()
        }
    )


def _attribute(values: Any, name: str) -> Any:
    return values[name] if isinstance(values, dict) else values


def _source(columns: tuple[str, ...], ontology: CellOntology) -> Recipe:
    return Recipe(LABEL, STUDY, columns, None, None, None, ontology)
