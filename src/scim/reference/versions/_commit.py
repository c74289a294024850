"""Commit a version of a reference: calibration, index and manifest."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..._disk import BLOCK_BYTES, describe_files, sync
from ..._version import scim_version
from ..._warn import warn
from ...encoder import Encoder
from ...index import FixedVectors, IndexPlan, build_index
from ...labels import (
    LabelledLandmarks,
    Landmarks,
    Thinned,
    balanced_sample,
    calibrate,
    panel_head,
    thinned_landmarks,
)
from ...ontology import CellOntology, TermSpace
from .. import store
from ..store import (
    STUDY,
    dictionary,
    join_cells,
    label_codes,
    load_landmarks,
    n_empty,
    open_cells,
    open_vectors,
    save_calibration,
    save_living,
)
from ._version import Version, files_of


@dataclass(frozen=True, eq=False)
class Pieces:
    """All segments of a version, opened.

    Attributes
    ----------
    vectors
        Vectors of all cells.
    terms
        Labels on the ontology.
    codes
        Label of each cell, (n_rows,); -1 for no label.
    studies, study_names
        Study of each cell, (n_rows,), and the names of the codes.
    """

    vectors: FixedVectors
    terms: TermSpace
    codes: np.ndarray
    studies: np.ndarray
    study_names: list[str]


def commit(root: Path, version: Version) -> dict[str, Any]:
    """Calibrate and index the cells, and replace the manifest, which makes the version visible. Return the manifest.

    The files of new segments must be in their places.
    """
    pieces = _open_pieces(root, version)
    facts, names = dict(version.facts), [*_encoder_files(root), *_segment_files(root, version)]
    if version.living is not None:
        pieces = _without_removed_labels(pieces, version.living)
        left = np.unique(pieces.studies[version.living])
        facts["terms"] = pieces.terms.to_dict()
        facts["studies"] = sorted(pieces.study_names[code] for code in left if code >= 0)
        names.append(removed := f"removed-{version.number:04d}.npy")
        save_living(root / removed, version.living)
    names.append(calibration := _learn(root, version, pieces, names))
    index = _index(root, version, pieces)
    n_rows = len(pieces.codes)
    n_removed = 0 if version.living is None else int((~version.living).sum())
    manifest = {
        "n_cells": n_rows - n_removed,
        "metric": "cosine",
        "vectors": "int16, round(x / max(abs(x)) * 32767)",
        **facts,
        "generation": version.number,
        "segments": [{**s, "n_empty": n_empty(root / store.SEGMENTS / s["name"])} for s in version.segments],
        "calibration": calibration,
        "removed": None if version.living is None else {"file": removed, "n_cells": n_removed},
        "index": index,
        "engines": _engines(),
        "files": _described(root, version, names),
    }
    manifest["retired"] = [] if version.old is None else _retired(version.old, manifest)
    return store.write_manifest(root, manifest)


def _open_pieces(root: Path, version: Version) -> Pieces:
    """Map vectors and metadata of all segments."""
    folders = [(root / store.SEGMENTS / s["name"], int(s["n_cells"])) for s in version.segments]
    vectors = FixedVectors([open_vectors(folder, n_cells, version.facts["n_latent"]) for folder, n_cells in folders])
    cells = join_cells([open_cells(folder, n_cells) for folder, n_cells in folders])
    terms = TermSpace.from_dict(version.facts["terms"])
    studies, names = dictionary(cells, STUDY)
    return Pieces(vectors, terms, label_codes(cells, terms), studies, [str(name) for name in names])


def _without_removed_labels(pieces: Pieces, living: np.ndarray) -> Pieces:
    """Drop the labels that only removed cells have."""
    n_labels = len(pieces.terms.labels)
    kept = np.bincount(pieces.codes[living & (pieces.codes >= 0)], minlength=n_labels) > 0
    place = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1).astype(pieces.codes.dtype)
    return replace(pieces, terms=pieces.terms.keep(kept), codes=place[pieces.codes])


def _learn(root: Path, version: Version, pieces: Pieces, names: Collection[str]) -> str:
    """Calibrate with the cells, write the calibration, and return the name of its file."""
    name = "calibration.npz" if version.number == 1 else f"calibration-{version.number:04d}.npz"
    landmarks = load_landmarks(root, version.segments, names, int(version.facts["n_genes"]))
    below, seed = pieces.terms.below, int(version.facts["seed"])
    calibration = calibrate(
        pieces.vectors,
        pieces.studies,
        pieces.codes,
        n_labels=len(below),
        seed=seed,
        living=version.living,
        comparable=pieces.terms.comparable,
        landmarks=None if landmarks is None else landmarks.rows,
        thinned=None if landmarks is None else lambda: _thinned(root, landmarks, pieces, seed),
        below=below,
    )
    if landmarks is not None and calibration.head is not None:
        codes = np.where(np.isin(landmarks.rows, calibration.doubted), -1, pieces.codes[landmarks.rows])
        if version.living is not None:
            codes[~version.living[landmarks.rows]] = -1
        labelled = LabelledLandmarks(landmarks, codes, pieces.studies[landmarks.rows])
        panel = panel_head(labelled, _encoder(root), below, seed=seed)
        calibration = replace(calibration, panel=panel)
    save_calibration(root / name, calibration)
    return name


def _thinned(root: Path, landmarks: Landmarks, pieces: Pieces, seed: int) -> list[Thinned]:
    """Thin landmarks, with all genes, at most as many of each label and study as a balanced sample has."""
    labelled = LabelledLandmarks(landmarks, pieces.codes[landmarks.rows], pieces.studies[landmarks.rows])
    some, encoder = labelled.take(balanced_sample(labelled.codes, labelled.studies, seed=seed)), _encoder(root)
    every, n_labels = np.ones(len(encoder.genes), dtype=bool), len(pieces.terms.labels)
    return thinned_landmarks(some, encoder, every, n_labels=n_labels, seed=seed)


def _encoder(root: Path) -> Encoder:
    return Encoder.load(root / store.ENCODER)


def _described(root: Path, version: Version, names: Sequence[str]) -> dict[str, Any]:
    """Return sizes and hashes of the files. Older files never change, and are not read again."""
    old = (version.old or {}).get("files", {})
    new = [name for name in names if name not in old]
    for name in new:
        sync(root / name)
    return {name: old[name] for name in names if name in old} | describe_files(root, new, block=BLOCK_BYTES)


def _encoder_files(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in (root / store.ENCODER).iterdir()]


def _segment_files(root: Path, version: Version) -> list[str]:
    """Return the files of the segments: of older segments from the manifest, of new segments from the folder.

    Segments may lack landmarks, and most segments have no file of cells without a direction.
    """
    old, found = (version.old or {}).get("files", {}), []
    for segment in version.segments:
        names = ["/".join((store.SEGMENTS, segment["name"], name)) for name in store.SEGMENT_FILES]
        is_old = any(name in old for name in names)
        found += [name for name in names if (name in old if is_old else (root / name).is_file())]
    return found


def _index(root: Path, version: Version, pieces: Pieces) -> dict[str, Any] | None:
    """Return the index of the cells, if the backend is faiss and the cells are enough. None: no index.

    The index of the version before is kept while it lacks few cells. The manifest does not list it among the files,
    because it can be built again.
    """
    plan, n_rows = IndexPlan.of(version.facts), len(pieces.codes)
    n_lost = sum(n_empty(root / store.SEGMENTS / s["name"]) for s in version.segments)
    if plan.backend not in ("auto", "faiss") or n_rows - n_lost < plan.index_from_cells:
        return None
    there = (version.old or {}).get("index")
    if there and not version.reindex:
        if n_rows - int(there["n_cells"]) <= plan.most_beyond(int(there["n_cells"])):
            return dict(there)
    (root / store.INDEX).mkdir(exist_ok=True)
    path = root / store.INDEX / f"{version.number:04d}.safetensors"
    return build_index(pieces.vectors, path, plan, pieces.studies)


def _retired(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the files of the version before that open readers may still read. The next version deletes them.

    Calibration and removed cells are read only when a reference is opened.
    """
    read = {str(old["calibration"]), str((old["removed"] or {}).get("file"))}
    return sorted((files_of(old) - files_of(new)) - read)


def _engines() -> dict[str, str]:
    import pyarrow

    return {"scim": scim_version(), "numpy": np.__version__, "pyarrow": pyarrow.__version__}


def compile_terms(ontology: CellOntology, label_ids: Iterable[str]) -> tuple[TermSpace, str]:
    """Compile labels on the ontology, and return its version: "flat" if no label is in the ontology."""
    ids = sorted(set(label_ids))
    outside = [label for label in ids if label not in ontology]
    if len(outside) == len(ids):
        return CellOntology.flat(ids).term_space(ids), "flat"
    if outside:
        shown = ", ".join(map(repr, outside[:8])) + (" ..." if len(outside) > 8 else "")
        warn(
            f"{len(outside)} of {len(ids)} labels are not in the ontology and have no ancestors: {shown}. "
            "scim.pp.harmonize_labels finds their terms."
        )
    return ontology.term_space(ids), ontology.version
