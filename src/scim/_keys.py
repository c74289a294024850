"""Names that scim writes into an AnnData."""

from __future__ import annotations

from typing import Final

#: Default ``key_added`` of :func:`scim.tl.embed` and :func:`scim.tl.annotate`, and entry of ``uns`` with their record.
DEFAULT: Final = "scim"
#: Default ``key_added`` of :func:`scim.tl.query`.
QUERY: Final = "scim_query"
#: Default ``key_added`` of :func:`scim.tl.explain`.
EXPLAIN: Final = "scim_explain"
#: ``varm`` entry of :func:`scim.pp.merge_studies`: genes x studies, True where the study measured the gene.
MEASURED: Final = "scim_measured"
#: ``uns`` entry of :func:`scim.pp.merge_studies` and :func:`scim.pp.harmonize_labels`.
PREPROCESSING: Final = "scim_pp"
#: Entry of ``uns[key_added]`` with the table of groups that :func:`scim.tl.annotate` labelled.
CLUSTERS: Final = "clusters"
#: Label of a cell to which no term of the reference can be given.
UNASSIGNED: Final = "unassigned"


def obsm_embedding(key_added: str = DEFAULT) -> str:
    """``obsm`` name of an embedding, ``X_scim`` by default."""
    return f"X_{key_added}"


def obs_label(key_added: str = DEFAULT) -> str:
    """``obs`` name of the predicted label (categorical)."""
    return f"{key_added}_label"


def obs_term_id(key_added: str = DEFAULT) -> str:
    """``obs`` name of the predicted ontology term id (categorical)."""
    return f"{key_added}_term_id"


def obs_confidence(key_added: str = DEFAULT) -> str:
    """``obs`` name of the confidence in [0, 1]."""
    return f"{key_added}_confidence"


def obs_finest(key_added: str = DEFAULT) -> str:
    """``obs`` name of the most probable label of the reference (categorical)."""
    return f"{key_added}_finest_label"


def obs_finest_probability(key_added: str = DEFAULT) -> str:
    """``obs`` name of the probability of the most probable label, in [0, 1]."""
    return f"{key_added}_finest_probability"


def obs_novelty(key_added: str = DEFAULT) -> str:
    """``obs`` name of the novelty in [0, 1], which is large for cells unlike all cells of the reference."""
    return f"{key_added}_novelty"


def obs_novelty_pvalue(key_added: str = DEFAULT) -> str:
    """``obs`` name of the p-value of novelty, which is small for cells unlike all cells of the reference."""
    return f"{key_added}_novelty_pvalue"


def obs_set(key_added: str = DEFAULT) -> str:
    """``obs`` name of the prediction set, term names joined by ``;``."""
    return f"{key_added}_set"


def obs_cluster_label(key_added: str = DEFAULT) -> str:
    """``obs`` name of the label of the cell's group (categorical)."""
    return f"{key_added}_cluster_label"


def obs_cluster_term_id(key_added: str = DEFAULT) -> str:
    """``obs`` name of the ontology term id of the cell's group (categorical)."""
    return f"{key_added}_cluster_term_id"


def obs_annotation(key_added: str = DEFAULT) -> tuple[str, ...]:
    """Every ``obs`` name of an annotation, those of groups last."""
    of_groups = (obs_cluster_label, obs_cluster_term_id)
    return (*obs_labelling(key_added), *(name(key_added) for name in of_groups))


def obs_labelling(key_added: str = DEFAULT) -> tuple[str, ...]:
    """Every ``obs`` name of an annotation but those of groups."""
    label = (obs_label, obs_term_id, obs_confidence, obs_finest, obs_finest_probability)
    return tuple(name(key_added) for name in (*label, obs_novelty, obs_novelty_pvalue, obs_set))


def obsm_scores(key_added: str = DEFAULT) -> str:
    """``obsm`` name of the table of scores, a column per term."""
    return f"{key_added}_scores"


def obsm_votes(key_added: str = DEFAULT) -> str:
    """``obsm`` name of the statistics of plain votes, those of SCimilarity."""
    return f"{key_added}_votes"
