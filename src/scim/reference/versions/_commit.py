"""Make what was written to a folder a reference, or a new version of one: calibration, index and manifest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ..._disk._atomic import describe_files, sync
from ..._validate import check_fraction, check_option, check_positive_int
from ..._version import scim_version
from ..._warn import warn
from ...encoder import Encoder
from ...index._protocol import BACKENDS, make_backend
from ...labels._calibration import Scored, calibrate
from ...labels._head import choose
from ...labels._landmarks import Landmarks, load_landmarks
from ...ontology import CellOntology, TermSpace
from ..build._journal import Journal, building
from ..build._segment import Written, check_counts, compile_terms
from ..store import _manifest as files
from ..store._removed import save_living
from ..store._segments import join_cells, label_codes, n_empty, open_cells, open_vectors
from ..store._tables import STUDY, dictionary
from ._writer import Version, files_of

#: Cells that the index does not know, as a share of those that it knows, beyond which it is built anew; they are
#: searched exactly until then. There may always be as many as are searched without an index.
MOST_BEYOND_INDEX = 0.1


def create(
    path: Path,
    *,
    encoder: Encoder,
    ontology: CellOntology,
    write: Callable[[Journal], Written],
    source: Mapping[str, Any],
    backend: str,
    overwrite: bool,
    seed: int,
    plan: Mapping[str, Any] | None = None,
    resume: bool = False,
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
        Writes the first segment to ``journal.segment``.
    source
        Where labels and studies come from, for the record and as defaults of what is added later.
    backend, overwrite, seed, recall
        See :meth:`scim.Reference.build`.
    plan, resume
        See :func:`scim.reference.build._journal.building`.
    """
    check_option(backend, BACKENDS, argument="backend")
    if not isinstance(ontology, CellOntology):
        raise TypeError(
            f"ontology must be a scim.CellOntology, got {type(ontology).__name__}. Read a file with "
            "scim.CellOntology.from_owl(path) or from_obo(path)."
        )
    seed = check_positive_int(seed, argument="seed", minimum=0, maximum=2**31 - 1)  # of faiss
    check_fraction(recall, argument="recall")
    with building(path, overwrite=overwrite, plan=plan, resume=resume) as journal:
        root = journal.folder
        encoder.save(root / files.ENCODER, decoder=False)  # which no search needs, and is as large again
        written = write(journal)
        if not written.label_ids:
            raise ValueError(f"No cell has a label in obs[{source['labels_key']!r}]. A reference needs labelled cells.")
        check_counts(root / files.SEGMENTS / "0001", written.n_cells)
        terms, version = compile_terms(ontology, written.label_ids)
        if len(written.studies) == 1:
            warn(
                "All cells come from one study: distances are judged by that study alone, which makes new data look "
                "more unusual than they are. Name the studies with study_key, or add others."
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
            "n_latent": encoder.n_latent,
            "n_genes": len(encoder.genes),
            "encoder_id": encoder.id,
        }
        # Fails here, before anything is in place, where the backend is not installed.
        make_backend(facts["backend"], [], seed=seed)
        commit(root, Version([{"name": "0001", "n_cells": written.n_cells}], facts))


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
    folders = [(root / files.SEGMENTS / s["name"], int(s["n_cells"])) for s in version.segments]
    vectors = [open_vectors(folder, n_cells, facts["n_latent"]) for folder, n_cells in folders]
    cells = join_cells([open_cells(folder, n_cells) for folder, n_cells in folders])
    terms, studies = TermSpace.from_dict(facts["terms"]), dictionary(cells, STUDY)
    codes = label_codes(cells, terms)
    listed = [p.relative_to(root).as_posix() for p in (root / files.ENCODER).iterdir()]
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
    made.save(root / calibration)
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
        "segments": [{**s, "n_empty": n_empty(root / files.SEGMENTS / s["name"])} for s in version.segments],
        "calibration": calibration,
        "removed": None if living is None else {"file": f"removed-{n:04d}.npy", "n_cells": int((~living).sum())},
        "index": index,
        "engines": _engines(),
        "files": known | describe_files(root, [name for name in listed if name not in known], block=files.SMALL),
    }
    manifest["retired"] = _retired(old, manifest)
    return files.write_manifest(root, manifest)


def _thinned(root: Path, landmarks: Landmarks, codes: np.ndarray, studies: np.ndarray, seed: int) -> Scored:
    """Embed landmarks thinned, with all their genes; of very many, as many of each label and study."""
    chosen = choose(codes[landmarks.rows], studies[landmarks.rows], seed=seed)
    some, encoder = landmarks.take(chosen), Encoder.load(root / files.ENCODER)
    return some.rows, some.thinned(seed=seed).embed(encoder, np.ones(len(encoder.genes), dtype=bool))


def _segment_files(root: Path, version: Version) -> list[str]:
    """Files of the segments: of older ones as the manifest has them, of new ones what lies there.

    Vectors that came from elsewhere have no landmarks, and most segments no cells without a direction.
    """
    old, found = (version.old or {}).get("files", {}), []
    for segment in version.segments:
        names = ["/".join((files.SEGMENTS, segment["name"], name)) for name in files.SEGMENT_FILES]
        is_old = any(name in old for name in names)
        found += [name for name in names if (name in old if is_old else (root / name).is_file())]
    return found


def _index(root: Path, vectors: list[np.ndarray], studies: np.ndarray, version: Version) -> dict[str, Any] | None:
    """Index of the cells, where the backend is faiss and they are enough.

    That of the version before serves as long as few cells came after it. The manifest does not list it among the files,
    for it can be made again.
    """
    from ...index._ivf_flat import RECALL, WORTH, build_index

    n_rows, n_lost = sum(map(len, vectors)), sum(n_empty(root / files.SEGMENTS / s["name"]) for s in version.segments)
    if version.facts["backend"] not in ("auto", "faiss") or n_rows - n_lost < WORTH:
        return None
    there = (version.old or {}).get("index")
    if there and not version.reindex:
        covered = int(there.get("n_cells", sum(int(s["n_cells"]) for s in (version.old or {})["segments"])))
        if n_rows - covered <= max(WORTH, MOST_BEYOND_INDEX * covered):
            return {**there, "n_cells": covered}
    (root / files.INDEX).mkdir(exist_ok=True)
    path, recall = root / files.INDEX / f"{version.number:04d}.safetensors", float(version.facts.get("recall", RECALL))
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
