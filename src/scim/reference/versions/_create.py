"""The first version of a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..._validate import check_fraction, check_option, check_positive_int
from ..._warn import warn
from ...encoder import Encoder
from ...index import BACKENDS, open_index
from ...ontology import CellOntology
from .. import store
from ..build import Journal, Written, building, check_counts
from ._commit import commit, compile_terms
from ._version import Version


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
        encoder.save(root / store.ENCODER, decoder=False)  # which no search needs, and is as large again
        written = write(journal)
        if not written.label_ids:
            raise ValueError(f"No cell has a label in obs[{source['labels_key']!r}]. A reference needs labelled cells.")
        check_counts(root / store.SEGMENTS / "0001", written.n_cells)
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
        open_index(facts["backend"], [], seed=seed)
        commit(root, Version([{"name": "0001", "n_cells": written.n_cells}], facts))
