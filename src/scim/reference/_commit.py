"""Make what was written to a folder a reference: calibration and manifest, or one more segment of an old one."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .._validate import check_fraction, check_option, check_positive_int
from ..encoder import Encoder
from ..encoder._folder import describe_files, new_folder, sync, write_json
from ..ontology import CellOntology, TermSpace
from . import _manifest as files
from ._backend import BACKENDS, make_backend
from ._build import Written, compile_terms
from ._calibration import calibrate
from ._segments import STUDY, dictionary, join_cells, label_codes, open_cells, open_vectors


def create(
    path: Path,
    *,
    encoder: Encoder,
    ontology: CellOntology,
    write: Callable[[Path], Written],
    source: Mapping[str, Any],
    backend: str,
    overwrite: bool,
    seed: int,
    recall: float = 0.98,
) -> None:
    """Make the folder of a new reference, which appears when it is whole.

    Parameters
    ----------
    path
        The folder.
    encoder
        What the cells were, or will be, embedded with.
    ontology
        What the labels are put on.
    write
        Writes the first segment to a folder.
    source
        Where labels and studies come from, for the record and as defaults of what is added later.
    backend, overwrite, seed, recall
        See :meth:`scim.Reference.build`.
    """
    check_option(backend, BACKENDS, argument="backend")
    seed = check_positive_int(seed, argument="seed", minimum=0)
    check_fraction(recall, argument="recall")
    with new_folder(path, marker=files.MANIFEST, what="reference", overwrite=overwrite) as scratch:
        encoder.save(scratch / files.ENCODER, decoder=False)  # which no search needs, and is as large again
        written = write(scratch / files.SEGMENTS / "0001")
        if not written.label_ids:
            raise ValueError(f"No cell has a label in obs[{source['labels_key']!r}]. A reference needs labelled cells.")
        terms, version = compile_terms(ontology, written.label_ids, stacklevel=4)
        if len(written.studies) == 1:
            warnings.warn(
                "All cells come from one study: distances are judged by that study alone, which makes new data look "
                "more unusual than they are. Name the studies with study_key, or add others.",
                UserWarning,
                stacklevel=3,
            )
        facts: dict[str, Any] = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "ontology_version": version,
            "ontology_source": "" if version == "flat" else ontology.source,
            "terms": terms.to_dict(),
            "studies": written.studies,
            "backend": backend,
            "seed": seed,
            "recall": recall,
            "source": dict(source),
        }
        # Fails here, before anything is in place, where the backend is not installed.
        make_backend(facts["backend"], [], seed=seed)
        commit(scratch, segments=[{"name": "0001", "n_cells": written.n_cells}], encoder=encoder, facts=facts)


def commit(root: Path, *, segments: list[dict[str, Any]], encoder: Encoder, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Calibrate, and write the manifest, with which everything becomes visible.

    Parameters
    ----------
    root
        Folder of the reference.
    segments
        Names and numbers of cells of all segments, the newest last.
    encoder
        The encoder in ``root / "encoder"``.
    facts
        What else the manifest says: terms, studies, backend, seed and so on.

    Returns
    -------
    The manifest.
    """
    folders = [(root / files.SEGMENTS / s["name"], int(s["n_cells"])) for s in segments]
    vectors = [open_vectors(folder, n, encoder.n_latent) for folder, n in folders]
    cells = join_cells([open_cells(folder, n) for folder, n in folders])
    terms = TermSpace.from_dict(facts["terms"])
    calibration = calibration_name(segments[-1]["name"])
    studies, _ = dictionary(cells, STUDY)
    made = calibrate(vectors, studies, label_codes(cells, terms), n_labels=len(terms.labels), seed=facts["seed"])
    made.save(root / calibration)
    sync(root / calibration)
    index = _build_index(root, vectors, segments[-1]["name"], facts)
    listed = [p.relative_to(root).as_posix() for p in (root / files.ENCODER).iterdir()]
    parts = [(files.SEGMENTS, s["name"], f) for s in segments for f in (files.VECTORS, files.CELLS, files.LANDMARKS)]
    # Vectors that came from elsewhere have no landmarks.
    listed += ["/".join(part) for part in parts if root.joinpath(*part).is_file()]
    manifest = {
        "n_cells": sum(n for _, n in folders),
        "n_latent": encoder.n_latent,
        "n_genes": len(encoder.genes),
        "metric": "cosine",
        "vectors": "int16, round(x / max(abs(x)) * 32767)",
        "encoder_id": encoder.id,
        **facts,
        "segments": segments,
        "calibration": calibration,
        "index": index,
        "engines": _engines(),
        "files": describe_files(root, [*listed, calibration]),
    }
    return write_json(root / files.MANIFEST, files.KIND, manifest)


def _build_index(
    root: Path, vectors: list[np.ndarray], segment: str, facts: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Index of all cells, where the backend is faiss and they are enough.

    The manifest does not list it among the files, for it can be made again.
    """
    from ._faiss import RECALL, WORTH, build_index

    if facts["backend"] not in ("auto", "faiss") or sum(map(len, vectors)) < WORTH:
        return None
    (root / files.INDEX).mkdir(exist_ok=True)
    path = root / files.INDEX / index_name(segment)
    return build_index(vectors, path, seed=facts["seed"], recall=float(facts.get("recall", RECALL)))


def index_name(segment: str) -> str:
    """File of the index over all segments up to this one."""
    return f"{segment}.safetensors"


def calibration_name(segment: str) -> str:
    """File of the calibration; a new one after each segment, so that the one in force stays as it was."""
    return "calibration.npz" if segment == "0001" else f"calibration-{segment}.npz"


def append_segment(
    root: Path,
    manifest: Mapping[str, Any],
    encoder: Encoder,
    write: Callable[[Path], tuple[int, dict[str, Any]]],
) -> dict[str, Any]:
    """Write one more segment, and put a new manifest in the place of the old one in a single step.

    Parameters
    ----------
    root
        Folder of the reference.
    manifest
        Its manifest as it was opened.
    encoder
        Its encoder.
    write
        Writes the segment to a folder, and returns its number of cells and what changes in the manifest.

    Raises
    ------
    PermissionError
        The folder cannot be written to.
    ValueError
        Somebody else has changed the reference since it was opened.
    """
    if not all(os.access(folder, os.W_OK | os.X_OK) for folder in (root, root / files.SEGMENTS)):
        raise PermissionError(f"{root} is read-only. Copy the reference to a place of your own.")
    _check_unchanged(root, manifest)
    name = f"{max(int(s['name']) for s in manifest['segments']) + 1:04d}"
    folder, scratch = root / files.SEGMENTS / name, root / files.SEGMENTS / f".{name}.{os.getpid()}"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        n_cells, changes = write(scratch)
        for file in scratch.iterdir():
            sync(file)
        _check_unchanged(root, manifest)
        shutil.rmtree(folder, ignore_errors=True)  # left by an add that was killed before its manifest
        os.replace(scratch, folder)
        sync(folder.parent)
        segments = [*manifest["segments"], {"name": name, "n_cells": n_cells}]
        facts = {key: manifest[key] for key in FACTS if key in manifest} | changes
        new = commit(root, segments=segments, encoder=encoder, facts=facts)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        if name not in {s["name"] for s in files.read_manifest(root)["segments"]}:
            shutil.rmtree(folder, ignore_errors=True)
            (root / calibration_name(name)).unlink(missing_ok=True)
            for file in (root / files.INDEX).glob(f"{name}.*"):
                file.unlink()
        raise
    (root / manifest["calibration"]).unlink(missing_ok=True)
    if manifest.get("index"):
        from ._faiss import index_files

        for old in index_files(manifest["index"]):
            (root / files.INDEX / old).unlink(missing_ok=True)
    return new


#: What a manifest says beside its files, and passes on when a segment is added.
FACTS = ("ontology_version", "ontology_source", "terms", "studies", "backend", "seed", "recall", "source")


def _check_unchanged(root: Path, manifest: Mapping[str, Any]) -> None:
    if files.read_manifest(root)["sha256"] != manifest["sha256"]:
        raise ValueError(f"{root} was changed by somebody else since it was opened. Open it again with Reference.open.")


def _engines() -> dict[str, str]:
    import pyarrow

    from .. import __version__

    return {"scim": __version__, "numpy": np.__version__, "pyarrow": pyarrow.__version__}
