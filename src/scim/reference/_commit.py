"""Make what was written to a folder a reference: calibration, manifest, and the move into place."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ..encoder import Encoder
from ..ontology import TermSpace
from . import _manifest as files
from ._backend import make_backend
from ._calibration import calibrate
from ._segments import STUDY, dictionary, join_cells, open_cells, open_vectors


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a target that cannot be written, before any work."""
    if path.exists():
        if not overwrite:
            raise FileExistsError(f"{path} exists already. Choose another path, or pass overwrite=True.")
        if not (path / files.MANIFEST).is_file() and (not path.is_dir() or any(path.iterdir())):
            raise FileExistsError(f"{path} is no reference, and is not overwritten. Choose another path.")
    parent = path.resolve().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionError(f"{parent} cannot be made ({error}). Choose another path.") from error
    if not os.access(parent, os.W_OK):
        raise PermissionError(f"{parent} cannot be written to. Choose another path.")


def commit(
    root: Path,
    *,
    segments: list[dict[str, Any]],
    encoder: Encoder,
    ontology_version: str,
    terms: TermSpace,
    studies: list[str],
    backend: str,
    seed: int,
) -> dict[str, Any]:
    """Calibrate, and write the manifest, with which everything becomes visible."""
    folders = [(root / files.SEGMENTS / s["name"], int(s["n_cells"])) for s in segments]
    vectors = [open_vectors(folder, n, encoder.n_latent) for folder, n in folders]
    cells = join_cells([open_cells(folder, n) for folder, n in folders])
    codes, _ = dictionary(cells, STUDY)
    calibration = calibrate(make_backend("exact", vectors), vectors, codes, seed=seed)
    # A name of its own: the file of the manifest that is still in force stays as it was.
    name = f"calibration-{segments[-1]['name']}.npz"
    calibration.save(root / name)
    listed = [p.relative_to(root).as_posix() for p in (root / files.ENCODER).iterdir()]
    listed += [f"{files.SEGMENTS}/{s['name']}/{f}" for s in segments for f in (files.VECTORS, files.CELLS)]
    manifest = {
        "n_cells": sum(n for _, n in folders),
        "n_latent": encoder.n_latent,
        "metric": "cosine",
        "encoder_id": encoder.id,
        "ontology_version": ontology_version,
        "terms": terms.to_dict(),
        "studies": studies,
        "segments": segments,
        "calibration": name,
        "backend": backend,
        "seed": seed,
        "engines": _engines(),
        "files": files.describe_files(root, [*listed, name]),
    }
    files.write_manifest(root, manifest)
    return manifest


def _engines() -> dict[str, str]:
    import pyarrow

    from .. import __version__

    return {"scim": __version__, "numpy": np.__version__, "pyarrow": pyarrow.__version__}


def move_into_place(scratch: Path, path: Path) -> None:
    """Rename the finished folder, an old one making way only now."""
    if not path.exists():
        os.replace(scratch, path)
        return
    aside = Path(tempfile.mkdtemp(dir=path.resolve().parent, prefix=f".{path.name}.old-"))
    os.replace(path, aside / "old")
    try:
        os.replace(scratch, path)
    except BaseException:
        os.replace(aside / "old", path)
        raise
    shutil.rmtree(aside, ignore_errors=True)
