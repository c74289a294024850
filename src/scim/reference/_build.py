"""From labelled cells to the files of a segment."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .._progress import progress_bar
from .._validate import check_key, get_adata
from ..encoder import Encoder
from ..ontology import CellOntology, TermSpace
from ._segments import CELL_ID, FIXED_COLUMNS, LABEL, STUDY, TERM_ID, SegmentWriter

if TYPE_CHECKING:
    from anndata import AnnData

#: Columns of obs that are kept where they are there and none are named.
DEFAULT_COLUMNS = ("donor", "sample", "assay", "tissue", "disease", "batch")
_NO_LABEL = frozenset({"", "nan", "None", "<NA>"})


@dataclass(frozen=True)
class Source:
    """Labelled data that go into a reference.

    Attributes
    ----------
    labels_key, study_key, obs_columns
        Columns of ``obs``.
    layer, gene_column, mod
        Where values and genes are.
    ontology
        What labels are resolved with; None: the bundled one if it knows any label, else none.
    """

    labels_key: str
    study_key: str | None = None
    obs_columns: Sequence[str] | None = None
    layer: str | None = None
    gene_column: str | None = None
    mod: str | None = None
    ontology: CellOntology | None = None

    def studies(self, data: Any) -> Iterator[tuple[str, AnnData]]:
        """Names and data of the parts; checks each before it is used."""
        if isinstance(data, Mapping) and not hasattr(data, "obs"):
            parts: Iterable[tuple[str, Any]] = data.items()
        elif hasattr(data, "obs") or not isinstance(data, Iterable) or isinstance(data, str | Path):
            parts = [("study", data)]
        else:
            parts = ((f"study_{i}", part) for i, part in enumerate(data, start=1))
        for name, part in parts:
            adata = get_adata(part, mod=self.mod)
            self._check_obs(adata)
            yield str(name), adata

    def _check_obs(self, adata: AnnData) -> None:
        check_key(adata.obs, self.labels_key, argument="labels_key", where="adata.obs")
        if self.study_key is not None:
            check_key(adata.obs, self.study_key, argument="study_key", where="adata.obs")
        for column in self.obs_columns or ():
            check_key(adata.obs, column, argument="obs_columns", where="adata.obs")

    def cells(self, adata: AnnData, name: str, ontology: CellOntology) -> pd.DataFrame:
        """Metadata of all cells of one part."""
        labels = _text(adata.obs[self.labels_key])
        labels = labels.where(~labels.isin(_NO_LABEL), None)
        resolved = {label: ontology.resolve(label) for label in labels.dropna().unique()}
        cells = pd.DataFrame(
            {
                CELL_ID: np.asarray(adata.obs_names, dtype=object).astype(str),
                LABEL: labels.map({x: ontology.name(t) if t else x for x, t in resolved.items()}).to_numpy(object),
                TERM_ID: labels.map({x: t or x for x, t in resolved.items()}).to_numpy(object),
                STUDY: _text(adata.obs[self.study_key]).to_numpy(object) if self.study_key else name,
            }
        )
        chosen = self.obs_columns if self.obs_columns is not None else DEFAULT_COLUMNS
        for column in chosen:
            if column in adata.obs and column not in FIXED_COLUMNS and column != self.labels_key:
                values = adata.obs[column]
                cells[str(column)] = values.to_numpy() if values.dtype.kind in "iufb" else _text(values).to_numpy(object)
        for column in (LABEL, TERM_ID, STUDY):
            cells[column] = cells[column].astype(object).where(cells[column].notna(), None)
        return cells

    def choose_ontology(self, adata: AnnData) -> CellOntology:
        """Ontology for the labels, chosen by those of the first part."""
        if self.ontology is not None:
            return self.ontology
        labels = _text(adata.obs[self.labels_key]).dropna().unique()
        bundled = CellOntology.bundled()
        return bundled if any(bundled.resolve_many(labels)) else CellOntology.flat(labels)


def _text(values: pd.Series) -> pd.Series:
    """Values as text, missing ones as None."""
    plain = values.astype(object)
    return plain.where(plain.notna(), None).map(lambda x: None if x is None else str(x)).astype(object)


@dataclass(frozen=True)
class Written:
    """What a segment that was written holds: cells, the ontology, the labels' term ids, and the studies."""

    n_cells: int
    ontology: CellOntology
    label_ids: list[str]
    studies: list[str]


def write_segment(
    folder: Path,
    data: Any,
    encoder: Encoder,
    source: Source,
    *,
    ontology: CellOntology | None = None,
    chunk_size: int = 1000,
) -> Written:
    """Embed labelled data block by block and write them as a segment.

    Raises
    ------
    ValueError
        There are no cells, or none has a label.
    """
    writer = SegmentWriter(folder)
    label_ids: set[str] = set()
    studies: set[str] = set()
    try:
        with progress_bar(_n_cells(data, source.mod), desc="Building the reference") as bar:
            for name, adata in source.studies(data):
                ontology = source.choose_ontology(adata) if ontology is None else ontology
                cells = source.cells(adata, name, ontology)
                label_ids.update(cells[TERM_ID].dropna().unique())
                studies.update(cells[STUDY].dropna().unique())
                options = {"layer": source.layer, "gene_column": source.gene_column, "chunk_size": chunk_size}
                for span, vectors in encoder.embed_chunks(adata, **options):
                    writer.append(vectors, cells.iloc[span])
                    bar.update(len(vectors))
        if ontology is None or writer.n_cells == 0:
            raise ValueError("There are no cells to build a reference from.")
        if not label_ids:
            raise ValueError(f"No cell has a label in obs[{source.labels_key!r}]. A reference needs labelled cells.")
        writer.close()
    except BaseException:
        writer.abort()
        raise
    return Written(writer.n_cells, ontology, sorted(map(str, label_ids)), sorted(map(str, studies)))


def _n_cells(data: Any, mod: str | None) -> int | None:
    """Cells in all, where that can be known beforehand."""
    parts = list(data.values()) if isinstance(data, Mapping) else [data] if hasattr(data, "obs") else data
    if not isinstance(parts, Sequence):
        return None
    return sum(part.n_obs for part in parts if hasattr(part, "n_obs"))


def compile_terms(ontology: CellOntology, label_ids: Iterable[str]) -> TermSpace:
    """Arrays of the labels, and a warning of those outside the ontology."""
    ids = sorted(set(label_ids))
    outside = [label for label in ids if label not in ontology]
    if outside and ontology.version != "flat":
        shown = ", ".join(map(repr, outside[:8])) + (" ..." if len(outside) > 8 else "")
        warnings.warn(
            f"{len(outside)} of {len(ids)} labels are not in the ontology and stand by themselves: {shown}. "
            "scim.pp.harmonize_labels finds their terms.",
            UserWarning,
            stacklevel=4,
        )
    return ontology.term_space(ids)
