"""Create the first version of a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..._validate import check_option
from ..._warn import warn
from ...encoder import Encoder
from ...index import FixedVectors, IndexPlan, open_index
from ...ontology import CellOntology
from .. import store
from .._cluster import Cluster
from .._snapshot import Snapshot
from ..build import PARTS, Journal, Recipe, Written, building, check_counts, write_blocks, write_segment
from ._commit import commit, compile_terms
from ._version import Version


def create_from_data(
    path: Path,
    data: Any,
    encoder: Encoder,
    recipe: Recipe,
    index: IndexPlan,
    *,
    overwrite: bool,
    resume: bool,
    cluster: Cluster | None = None,
) -> Snapshot:
    """Embed labelled data, and make a reference of them, as :meth:`scim.Reference.build` does."""

    def write(journal: Journal) -> Written:
        encoder_folder = journal.folder / store.ENCODER
        options: dict[str, Any] = {"journal": journal, "cluster": cluster, "encoder_folder": encoder_folder}
        return write_segment(journal.segment, data, encoder, recipe, **options)

    return create(
        path,
        encoder,
        recipe.ontology,
        index,
        write,
        source={
            "labels_key": recipe.labels_key,
            "study_key": recipe.study_key,
            "obs_columns": recipe.obs_columns,
            "unlabeled_category": recipe.unlabeled_category,
            "landmarks": recipe.landmarks,
        },
        plan=recipe.plan(encoder),
        resume=resume,
        overwrite=overwrite,
    )


def create_from_scimilarity(
    path: Path,
    folder: Path,
    part: str,
    index: IndexPlan,
    *,
    aliases: bool,
    ontology: CellOntology,
    overwrite: bool,
) -> Snapshot:
    """Make a reference from a SCimilarity model, as :meth:`scim.Reference.from_scimilarity` does."""
    check_option(part, tuple(PARTS), argument="part")
    encoder = Encoder.from_scimilarity(folder, aliases=aliases)
    cells = PARTS[part](folder, encoder.n_latent)
    made = create(
        path,
        encoder,
        ontology,
        index,
        lambda journal: write_blocks(journal.segment, cells.blocks(ontology), n_cells=cells.n_cells),
        source={"labels_key": "label", "study_key": "study", "obs_columns": list(cells.columns)},
        overwrite=overwrite,
    )
    if made.manifest["ontology_version"] == "flat":
        warn(
            f"None of the {len(made.terms.labels)} labels, such as {made.terms.labels[0]!r}, is in the ontology. Each "
            "label is a term without ancestors."
        )
    return made


def create(
    path: Path,
    encoder: Encoder,
    ontology: CellOntology,
    index: IndexPlan,
    write: Callable[[Journal], Written],
    *,
    source: Mapping[str, Any],
    overwrite: bool,
    plan: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> Snapshot:
    """Make the folder of a reference, which appears when it is complete.

    ``write`` writes the first segment to ``journal.segment``. ``source`` has the columns of labels and studies, the
    defaults of :meth:`scim.Reference.add`. ``plan`` and ``resume`` are as in
    :func:`scim.reference.build._journal.building`.
    """
    if not isinstance(ontology, CellOntology):
        raise TypeError(
            f"ontology must be a scim.CellOntology, got {type(ontology).__name__}. Read a file with "
            "scim.CellOntology.from_owl(path) or from_obo(path)."
        )
    with building(path, overwrite=overwrite, plan=plan, resume=resume) as journal:
        root = journal.folder
        # Searches do not need the decoder, which is as large as the encoder.
        encoder.save(root / store.ENCODER, decoder=False)
        written = write(journal)
        if not written.label_ids:
            raise ValueError(f"No cell has a label in obs[{source['labels_key']!r}]. A reference needs labelled cells.")
        check_counts(root / store.SEGMENTS / "0001", written.n_cells)
        terms, version = compile_terms(ontology, written.label_ids)
        if len(written.studies) == 1:
            warn(
                "All cells come from one study: distances are compared with distances within it, so that new data look "
                "more unusual than they are. Name the studies with study_key, or add other studies."
            )
        facts: dict[str, Any] = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "ontology_version": version,
            "ontology_source": "" if version == "flat" else ontology.source,
            "terms": terms.to_dict(),
            "studies": written.studies,
            "backend": index.backend,
            "seed": index.seed,
            "recall": index.recall,
            "source": dict(source),
            "n_latent": encoder.n_latent,
            "n_genes": len(encoder.genes),
            "encoder_id": encoder.id,
        }
        # Raises an error if the backend is not installed, before the folder is in place.
        open_index(FixedVectors([]), index)
        commit(root, Version([{"name": "0001", "n_cells": written.n_cells}], facts))
    return Snapshot.open(path)
