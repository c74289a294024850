"""Files of the calibration and the landmarks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..._disk import load_arrays
from ...labels import Calibration, CalibrationKind, Head, Landmarks, PanelHead
from ._manifest import LANDMARKS, SEGMENTS, ReferenceFolderError

_REMEDY = "Build the reference again."


def save_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration as an .npz file."""
    arrays: dict[str, Any] = {} if calibration.head is None else dict(calibration.head.to_arrays())
    if (panel := calibration.panel) is not None:
        arrays |= panel.head.to_arrays("panel_head") | {"panel_codes": panel.codes, "panel_genes": panel.genes}
    kind = np.array(calibration.kind)
    np.savez(path, background=calibration.background, kind=kind, doubted=calibration.doubted, **arrays)


def load_calibration(path: Path) -> Calibration:
    """Read a calibration, or raise a ReferenceFolderError if the file is damaged."""
    arrays = load_arrays(path, ReferenceFolderError, remedy=_REMEDY)
    try:
        kind: CalibrationKind = "within-study" if str(arrays["kind"]) == "within-study" else "cross-study"
        doubted = np.asarray(arrays["doubted"], dtype=np.int64)
        head = Head.from_arrays(arrays, "panel_head")
        panel = None if head is None else PanelHead(arrays["panel_codes"], arrays["panel_genes"].astype(bool), head)
        return Calibration(arrays["background"], kind, Head.from_arrays(arrays), doubted, panel)
    except (ValueError, KeyError) as error:
        raise ReferenceFolderError(f"{path} is damaged: {error}. {_REMEDY}") from error


def save_landmarks(path: Path, landmarks: Landmarks) -> None:
    """Write the landmarks of a segment as a compressed .npz file. Values keep three digits.

    Genes are written as steps from the gene before, which are small numbers and take a third of the space.
    """
    small = np.uint16 if landmarks.genes.max(initial=0) < 2**16 else np.uint32
    # float16 holds whole numbers up to 2,048 exactly.
    values = np.minimum(landmarks.values, np.finfo(np.float16).max).astype(np.float16)
    steps = np.diff(landmarks.genes.astype(small), prepend=small(0))  # unsigned: steps back wrap around
    with open(path, "wb") as file:
        np.savez_compressed(file, rows=landmarks.rows, indptr=landmarks.indptr, steps=steps, values=values)


def load_segment_landmarks(path: Path, *, n_cells: int, n_genes: int) -> Landmarks:
    """Read the landmarks of a segment, or raise a ReferenceFolderError if they do not match its cells and genes."""
    arrays = load_arrays(path, ReferenceFolderError, remedy=_REMEDY)
    try:
        rows, indptr = arrays["rows"].astype(np.int64), arrays["indptr"].astype(np.int64)
        steps, values = arrays["steps"], arrays["values"].astype(np.float32)
        genes = np.cumsum(steps, dtype=steps.dtype).astype(np.int32)
    except KeyError as error:
        raise ReferenceFolderError(f"{path} is damaged: {error}. {_REMEDY}") from error
    fits = len(indptr) == len(rows) + 1 and indptr[0] == 0 and (np.diff(indptr) >= 0).all()
    fits = fits and indptr[-1] == len(genes) == len(values) and np.isfinite(values).all()
    if not fits or not _within(rows, n_cells) or not _within(genes, n_genes):
        raise ReferenceFolderError(f"{path} does not match the reference. {_REMEDY}")
    return Landmarks(rows, indptr, genes, values)


def load_landmarks(
    root: Path, segments: Sequence[Mapping[str, Any]], listed: Collection[str], n_genes: int
) -> Landmarks | None:
    """Join the landmarks of all segments, with positions in the reference. None if no segment has landmarks.

    Only files that are ``listed`` in the manifest are read.
    """
    parts, start = [], 0
    for segment in segments:
        name, n_cells = landmarks_file(segment), int(segment["n_cells"])
        if name in listed:
            part = load_segment_landmarks(root / name, n_cells=n_cells, n_genes=n_genes)
            parts.append(replace(part, rows=part.rows + start))
        start += n_cells
    return Landmarks.join(parts) if parts else None


def landmarks_file(segment: Mapping[str, Any]) -> str:
    """Return the name of the file with a segment's landmarks, which may not exist."""
    return "/".join((SEGMENTS, segment["name"], LANDMARKS))


def _within(positions: np.ndarray, n: int) -> bool:
    return not len(positions) or (positions.min() >= 0 and positions.max() < n)
