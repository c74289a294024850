"""Make what was written to a folder a reference, or a new version of one: calibration, index and manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..._disk import BLOCK_BYTES, describe_files, sync
from ..._version import scim_version
from ..._warn import warn
from ...encoder import Encoder
from ...labels import Landmarks, Scored, balanced_sample, calibrate
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

#: Cells that the index does not know, as a share of those that it knows, beyond which it is built anew; they are
#: searched exactly until then. There may always be as many as are searched without an index.
MOST_BEYOND_INDEX = 0.1


def commit(root: Path, version: Version) -> dict[str, Any]:
    """Calibrate, and write the manifest, with which everything becomes visible.

    Parameters
    ----------
    root
        Folder of the reference.
    version
        What it is made of; files of new segments lie in their places.

    Returns
    -------
    The manifest.
    """
    facts, old, living, n = dict(version.facts), version.old or {}, version.living, version.number
    folders = [(root / store.SEGMENTS / s["name"], int(s["n_cells"])) for s in version.segments]
    vectors = [open_vectors(folder, n_cells, facts["n_latent"]) for folder, n_cells in folders]
    cells = join_cells([open_cells(folder, n_cells) for folder, n_cells in folders])
    terms, studies = TermSpace.from_dict(facts["terms"]), dictionary(cells, STUDY)
    codes = label_codes(cells, terms)
    listed = [p.relative_to(root).as_posix() for p in (root / store.ENCODER).iterdir()]
    listed += _segment_files(root, version)
    if living is not None:
        terms = terms.keep(np.bincount(codes[living & (codes >= 0)], minlength=len(terms.labels)) > 0)
        codes = label_codes(cells, terms)
        left = np.unique(studies[0][living])
        facts |= {"terms": terms.to_dict(), "studies": sorted(str(studies[1][code]) for code in left if code >= 0)}
        save_living(root / f"removed-{n:04d}.npy", living)
        listed.append(f"removed-{n:04d}.npy")
    calibration = "calibration.npz" if n == 1 else f"calibration-{n:04d}.npz"
    landmarks = load_landmarks(root, version.segments, listed, int(facts["n_genes"]))
    made = calibrate(
        vectors,
        studies[0],
        codes,
        n_labels=len(terms.labels),
        seed=facts["seed"],
        living=living,
        comparable=terms.comparable,
        landmarks=None if landmarks is None else landmarks.rows,
        thinned=None if landmarks is None else lambda: _thinned(root, landmarks, codes, studies[0], facts["seed"]),
    )
    save_calibration(root / calibration, made)
    listed.append(calibration)
    index = _index(root, vectors, studies[0], version)
    n_rows = len(codes)
    for name in listed:
        if name not in old.get("files", {}):
            sync(root / name)
    # Files are never changed once they are there: those of the version before need not be read again.
    known = {name: old["files"][name] for name in listed if name in old.get("files", {})}
    manifest = {
        "n_cells": n_rows if living is None else int(living.sum()),
        "metric": "cosine",
        "vectors": "int16, round(x / max(abs(x)) * 32767)",
        **facts,
        "generation": n,
        "segments": [{**s, "n_empty": n_empty(root / store.SEGMENTS / s["name"])} for s in version.segments],
        "calibration": calibration,
        "removed": None if living is None else {"file": f"removed-{n:04d}.npy", "n_cells": int((~living).sum())},
        "index": index,
        "engines": _engines(),
        "files": known | describe_files(root, [name for name in listed if name not in known], block=BLOCK_BYTES),
    }
    manifest["retired"] = _retired(old, manifest)
    return store.write_manifest(root, manifest)


def _thinned(root: Path, landmarks: Landmarks, codes: np.ndarray, studies: np.ndarray, seed: int) -> Scored:
    """Embed landmarks thinned, with all their genes; of very many, as many of each label and study."""
    chosen = balanced_sample(codes[landmarks.rows], studies[landmarks.rows], seed=seed)
    some, encoder = landmarks.take(chosen), Encoder.load(root / store.ENCODER)
    return some.rows, some.thinned(seed=seed).embed(encoder, np.ones(len(encoder.genes), dtype=bool))


def _segment_files(root: Path, version: Version) -> list[str]:
    """Files of the segments: of older ones as the manifest has them, of new ones what lies there.

    Vectors that came from elsewhere have no landmarks, and most segments no cells without a direction.
    """
    old, found = (version.old or {}).get("files", {}), []
    for segment in version.segments:
        names = ["/".join((store.SEGMENTS, segment["name"], name)) for name in store.SEGMENT_FILES]
        is_old = any(name in old for name in names)
        found += [name for name in names if (name in old if is_old else (root / name).is_file())]
    return found


def _index(root: Path, vectors: list[np.ndarray], studies: np.ndarray, version: Version) -> dict[str, Any] | None:
    """Index of the cells, where the backend is faiss and they are enough.

    That of the version before serves as long as few cells came after it. The manifest does not list it among the files,
    for it can be made again.
    """
    from ...index import RECALL, WORTH, build_index

    n_rows, n_lost = sum(map(len, vectors)), sum(n_empty(root / store.SEGMENTS / s["name"]) for s in version.segments)
    if version.facts["backend"] not in ("auto", "faiss") or n_rows - n_lost < WORTH:
        return None
    there = (version.old or {}).get("index")
    if there and not version.reindex:
        covered = int(there.get("n_cells", sum(int(s["n_cells"]) for s in (version.old or {})["segments"])))
        if n_rows - covered <= max(WORTH, MOST_BEYOND_INDEX * covered):
            return {**there, "n_cells": covered}
    (root / store.INDEX).mkdir(exist_ok=True)
    path, recall = root / store.INDEX / f"{version.number:04d}.safetensors", float(version.facts.get("recall", RECALL))
    return build_index(vectors, path, seed=version.facts["seed"], recall=recall, groups=studies)


def _retired(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Files of the version before that readers who have it open may yet read; they go with the next one.

    Calibration and tombstones are read when a reference is opened, and never again.
    """
    read = {str(old.get("calibration")), str((old.get("removed") or {}).get("file"))}
    return sorted((files_of(old) - files_of(new)) - read)


def _engines() -> dict[str, str]:
    import pyarrow

    return {"scim": scim_version(), "numpy": np.__version__, "pyarrow": pyarrow.__version__}


def compile_terms(ontology: CellOntology, label_ids: Iterable[str]) -> tuple[TermSpace, str]:
    """Arrays of the labels, with the version of the ontology; "flat" if it knows none of them."""
    ids = sorted(set(label_ids))
    outside = [label for label in ids if label not in ontology]
    if len(outside) == len(ids):
        return CellOntology.flat(ids).term_space(ids), "flat"
    if outside:
        shown = ", ".join(map(repr, outside[:8])) + (" ..." if len(outside) > 8 else "")
        warn(
            f"{len(outside)} of {len(ids)} labels are not in the ontology and stand by themselves: {shown}. "
            "scim.pp.harmonize_labels finds their terms."
        )
    return ontology.term_space(ids), ontology.version
