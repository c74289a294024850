"""Snapshot: one version of a reference, opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .._html import describe
from ..encoder import Encoder, EncoderFolderError
from ..index import FixedVectors, Index, IndexPlan, MaskedIndex, index_files, open_index
from ..labels import Calibration, LabelledLandmarks, LabelModel, Landmarks
from ..ontology import TermSpace
from . import store
from .cells import Metadata
from .store import ReferenceFolderError

#: Lists of a summary, and the columns whose values they are.
_TOLD = {"tissues": "tissue", "diseases": "disease"}


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One version of a reference, opened. It never changes: a change of the folder is another snapshot.

    Attributes
    ----------
    root
        Folder of the reference.
    manifest
        Manifest of this version.
    metadata
        Metadata of the cells, and which cells were removed.
    vectors
        Vectors of all cells, mapped into memory.
    terms
        Labels of the cells on the ontology.
    calibration
        Head and background of the cells.
    index
        Index of the cells that were not removed and have a direction.
    """

    root: Path
    manifest: Mapping[str, Any]
    metadata: Metadata
    vectors: FixedVectors
    terms: TermSpace
    calibration: Calibration
    index: Index

    @classmethod
    def open(cls, root: Path, verify: store.Verify = "sizes") -> Snapshot:
        """Check the files of a folder, and open its newest version as :meth:`scim.Reference.open` does."""
        while True:
            manifest = store.read_manifest(root)
            try:
                return cls.of(root, store.verify(root, verify, weights=False))
            except (ReferenceFolderError, FileNotFoundError):
                # A writer may have replaced the version while this one was read.
                if store.read_manifest(root)["sha256"] == manifest["sha256"]:
                    raise

    @classmethod
    def of(cls, root: Path, manifest: Mapping[str, Any]) -> Snapshot:
        """Open the version of a manifest, whose files were checked or have just been written."""
        try:
            terms, n_latent = TermSpace.from_dict(manifest["terms"]), int(manifest["n_latent"])
            names = [(str(s["name"]), int(s["n_cells"])) for s in manifest["segments"]]
            plan = IndexPlan.of(manifest)
        except (ValueError, KeyError, TypeError) as error:
            raise ReferenceFolderError(f"{root / store.MANIFEST} is damaged: {error}") from error
        folders = [(root / store.SEGMENTS / name, n) for name, n in names]
        vectors = FixedVectors([store.open_vectors(folder, n, n_latent) for folder, n in folders])
        table = store.join_cells([store.open_cells(folder, n) for folder, n in folders])
        calibration = store.load_calibration(root / manifest["calibration"])
        removed = manifest["removed"]
        living = store.load_living(root / removed["file"], table.num_rows) if removed else None
        # The hash of a small file was compared, so that its columns need no check.
        files = [f"{store.SEGMENTS}/{name}/{store.CELLS}" for name, _ in names]
        is_hashed = all(store.is_small(manifest["files"][name]) for name in files)
        metadata = Metadata(table, living, sound=table.column_names if is_hashed else ())
        index = open_index(vectors, plan, root / store.INDEX, manifest["index"])
        findable = store.findable_cells(root, manifest, vectors, living)
        if findable is not None:
            index = MaskedIndex(index, findable, removed=living is not None)
        return cls(root, dict(manifest), metadata, vectors, terms, calibration, index)

    def newest(self) -> Snapshot:
        """Return this snapshot, or a snapshot of the newest version if the folder was written to since."""
        if store.read_manifest(self.root)["sha256"] == self.manifest["sha256"]:
            return self
        return Snapshot.open(self.root)

    @property
    def encoder_id(self) -> str:
        """Id of the encoder that the cells were embedded with."""
        return str(self.manifest["encoder_id"])

    @property
    def n_latent(self) -> int:
        """Dimensions of the embedding."""
        return int(self.manifest["n_latent"])

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that the cells were embedded with, read when it is first needed."""
        try:
            encoder = Encoder.load(self.root / store.ENCODER)
        except EncoderFolderError as error:
            raise ReferenceFolderError(f"The encoder of the reference cannot be read: {error}") from error
        if encoder.id != self.encoder_id:
            raise ReferenceFolderError(
                f"{self.root} was built with encoder {self.encoder_id}, but holds {encoder.id}. Build it again."
            )
        return encoder

    @cached_property
    def label_codes(self) -> np.ndarray:
        """Position of each cell's label in ``terms.labels``, int32 (n_rows,); -1 for no label or a removed cell."""
        codes = store.label_codes(self.metadata.table, self.terms)
        if self.metadata.living is not None:
            codes[~self.metadata.living] = -1
        codes.flags.writeable = False  # all references of this version share them
        return codes

    @cached_property
    def landmarks(self) -> Landmarks | None:
        """Landmarks of all segments that have them, without removed cells."""
        segments, listed = self.manifest["segments"], self.manifest["files"]
        for name in map(store.landmarks_file, segments):
            if name in listed:
                store.check_file(self.root, self.manifest, name)
        joined = store.load_landmarks(self.root, segments, listed, int(self.manifest["n_genes"]))
        if joined is None or self.metadata.living is None:
            return joined
        return joined.take(np.flatnonzero(self.metadata.living[joined.rows]))

    @cached_property
    def label_model(self) -> LabelModel:
        """The model that labels cells."""
        return LabelModel(
            self.calibration,
            self.index,
            self._labelled_landmarks,
            lambda: self.encoder,
            below=self.terms.below,
            n_genes=int(self.manifest["n_genes"]),
            seed=int(self.manifest["seed"]),
        )

    def summary(self) -> dict[str, Any]:
        """Return a summary of the reference, as :meth:`scim.Reference.info` does."""
        manifest, model = self.manifest, self.label_model
        listed = [*manifest["files"].values(), *index_files(manifest["index"]).values()]
        return {
            "cells": self.metadata.n_cells,
            "labelled_cells": int((self.label_codes >= 0).sum()),
            "labels": [str(name) for name in self.terms.term_names[self.terms.label_term]],
            "studies": list(manifest["studies"]),
            **{name: sorted(map(str, self.metadata.values(column))) for name, column in self._told()},
            "columns": self.metadata.columns,
            "labels_key": manifest["source"]["labels_key"],
            "study_key": manifest["source"]["study_key"],
            "backend": self.index.name,
            "encoder": self.encoder_id,
            "genes": int(manifest["n_genes"]),
            "latent": self.n_latent,
            "ontology": manifest["ontology_version"],
            "calibration": f"{model.calibration_kind}, {len(model.background()):,} distances",
            "bytes": sum(int(file["bytes"]) for file in listed),
            "made_with": dict(manifest["engines"]),
        }

    def _told(self) -> list[tuple[str, str]]:
        """Columns whose values a summary lists, and the names of the lists."""
        return [(name, column) for name, column in _TOLD.items() if column in self.metadata.columns]

    def to_html(self) -> str:
        """Describe the reference for a notebook."""
        about = self.summary()
        first = ("cells", "labelled_cells", "labels", "studies", "columns", "genes", "encoder")
        facts = {name.replace("_", " "): about[name] for name in first} | {"search": about["backend"]}
        last = {name: about[name] for name in ("ontology", "calibration")}
        return describe(f"Reference {self.root.name}", {**facts, **last, "folder": str(self.root)})

    def _labelled_landmarks(self) -> LabelledLandmarks | None:
        landmarks = self.landmarks
        if landmarks is None:
            return None
        rows = landmarks.rows
        codes = np.where(np.isin(rows, self.calibration.doubted), -1, self.label_codes[rows])
        return LabelledLandmarks(landmarks, codes, self.metadata.codes(store.STUDY)[rows])


@cache
def bundled_snapshot(root: Path) -> Snapshot:
    """Open a bundled reference once in a process, so that what it learned serves later queries."""
    return Snapshot.open(root)
