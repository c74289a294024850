"""scim.tl.annotate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .. import _keys
from .._validate import get_adata
from ..labels import PLAIN_VOTES, Vote
from ..reference import Reference
from ._cells import NewCells
from ._group_labels import find_groups, group_results, label_groups
from ._labelling import Answer, Labelling, label
from ._results import check_writable, copy_of, merge_results, reference_record, storable, write_results

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData

    from ..genes import OrganismChoice
    from ..ontology import TermSpace


def annotate(
    adata: AnnData | Any,
    reference: Reference | str | Path | None = None,
    *,
    use_rep: str | None = None,
    min_probability: float = 0.5,
    alpha: float = 0.1,
    max_novelty: float = 0.75,
    vote: Vote = "auto",
    k: int = 50,
    by: str | None = None,
    labels: Sequence[str] | None = None,
    tissue: str | Sequence[str] | None = None,
    where: Any = None,
    exclude: Any = None,
    consensus: int = 0,
    recall: float | None = None,
    layer: str | None = None,
    organism: OrganismChoice = "auto",
    mod: str | None = None,
    key_added: str = _keys.DEFAULT,
    client: Any = None,
    copy: bool = False,
) -> AnnData | Any | None:
    """Label cells on the Cell Ontology: with the best term, a set of labels, and a measure of novelty.

    1. A linear head on the embedding gives each label a probability. Rare labels weigh as much as common ones. The
       probabilities are calibrated on studies that were left out, and on cells of few counts.
    2. The probability of a term is the sum over all labels at or below it. The cell gets the most specific term with a
       probability of at least ``min_probability``: a label of the reference, or a broader term such as "T cell" if the
       kind of T cell is uncertain.
    3. Beside it stand two other answers, which do not change the label: a conformal prediction set, and novelty. Only a
       cell that is far from all labels is "unassigned" for its novelty.

    If the data lack important genes, landmarks are embedded again without these genes, and the head is fitted to them.
    If labels come only from studies of a small gene panel, a second head judges cells in the genes of the panel: with
    all genes, cells never get such a label. The other labels are judged by both heads.

    Parameters
    ----------
    adata
        AnnData, or MuData with ``mod``. Cells without an embedding are embedded first.
    reference
        Reference, or its path or name. The default is the bundled reference of the human body,
        ``"human"``; ``"blood"`` is a smaller one.
    use_rep
        Name of the embedding in ``obsm``. None: ``f"X_{key_added}"`` or ``"X_scim"``, if the encoder of the reference
        made it; otherwise the cells are embedded, as ``f"X_{key_added}"``. Fifty cells are embedded again to test
        whether an embedding was made from the values that are here. If not, all cells are embedded again.
    min_probability
        Smallest probability of a term that is given as label, 0.5 to 1. With more, fewer labels are wrong, and more
        are broad (see the curve in the documentation of labels). Also the smallest share of votes on the ontology.
    alpha
        Tolerated error of the prediction sets, below 0.5; labels do not depend on it. The sets contain the true label
        of ``1 - alpha`` of the cells, if their study differs from the reference studies no more than these differ from
        one another. If ``alpha`` is below 1 / number of cells left out (a few thousand at most), no label is ruled out.
    max_novelty
        Cells with more novelty are unassigned. 0.75: the cell is three times as far from the median of comparable
        cells as their 95 % point. 1: label all cells. ``"majority"`` and ``"weighted"`` votes label every cell.
    vote
        ``"calibrated"``: see above. ``"ontology"``: the ``k`` nearest labelled cells vote with weights ``exp(-d / h)``,
        where h is the median distance of the cell's neighbours. A vote also counts for the ancestors of its label.
        ``"majority"`` and ``"weighted"``: the votes of SCimilarity, each with weight 1 or the inverse of its distance.
        The cell gets the label with most votes, never an ancestor or "unassigned". ``"auto"``: ``"calibrated"``, but
        ``"ontology"`` with fewer than two labels, or with a filter if the reference has no landmarks.
    k
        Number of neighbours that vote.
    by
        Column of ``obs`` with groups, such as ``"leiden"``, that also get labels. Labels of cells do not change. Each
        cell votes for its most probable label, and the group gets the most specific term with ``min_probability`` of
        the votes. So a mixture gets a common ancestor. A group is unassigned if most of its cells are novel.
    labels
        Names or ids of terms. Only these terms and their descendants are considered. Cells of other labels also get one
        of them, with a confidence that only compares these labels. A warning says how many cells seem to have other
        labels. Novelty still compares with the whole reference (SCimilarity's votes: with cells of these labels).
    tissue
        Tissue of the cells, or several: only reference cells of this tissue or a part of it are used. A name, a synonym
        or an id of UBERON will do. ``"lung"`` is also "alveolus of lung", ``"blood"`` also "blood (PBMC)". The tissues
        are ``reference.obs["tissue"].unique()``. Without a tissue, scim guesses it: see ``tissue_guess`` below.
    where, exclude
        Filters on the metadata of the reference, such as ``exclude={"study": "mine"}``; see
        :meth:`scim.Reference.search`. The head is fitted again to the landmarks that they leave.
    consensus
        Number of nearest cells of ``adata`` with which the probabilities of each cell are averaged. 0: none, so that
        the label of a cell does not depend on other cells. 15 helps with shallow data, and costs rare labels.
    recall
        Share of the true nearest neighbours to find for a vote, 0 to 1, if the reference is searched with an index.
        None uses the recall that the index was built for. A lower recall is faster, and changes labels of cells whose
        neighbours disagree.
    layer
        Layer with the values of cells that are not embedded; see :func:`scim.tl.embed`.
    organism
        Organism of cells that are not embedded: ``"human"``, ``"mouse"`` or ``"auto"``; see :func:`scim.tl.embed`.
    mod
        Modality of a MuData.
    key_added
        Prefix of the names that are written.
    client
        A ``distributed.Client``: workers of its cluster search the reference, see :meth:`scim.Reference.search`.
    copy
        Return a copy instead of writing to ``adata``.

    Returns
    -------
    None, or the copy. Writes, for ``key_added="scim"``:

    ``obs["scim_label"]``, ``obs["scim_term_id"]``
        Name and id of the term, categorical; ``"unassigned"`` and ``""`` for an unassigned cell.
    ``obs["scim_confidence"]``
        Probability that the cell is of this term (or share of the votes), 0 to 1; 0 for an unassigned cell. At most 0.9
        for a term that could not be tested, because no two studies have it, or because there is one study.
    ``obs["scim_finest_label"]``, ``obs["scim_finest_probability"]``
        Most probable label of the reference, however uncertain, and its probability. ``""`` without counts.
    ``obs["scim_novelty"]``
        0 to 1, large if the cell is unlike anything in the reference. The expression of the cell is correlated with the
        mean of each label, and compared with landmarks of studies left out, thinned to the depth of the cell. 0.5: the
        cell differs more than 95 % of these; 0.75: three times as much. The distance to the nearest cell in the
        embedding is used instead if there are no values or no landmarks, and for SCimilarity's votes. It finds fewer
        novel cells, because encoders place unknown cells near known ones. With a filter, the cell is compared only with
        the remaining cells if they come from two studies that share labels and measured no panel
        (``novelty_filtered`` in ``uns``). If the reference has one study, no cell is unassigned for its distance.
    ``obs["scim_novelty_pvalue"]``
        Conformal p-value of the novelty: the share of the landmarks of studies left out that differ as much. 1 for a
        cell without counts.
    ``obs["scim_set"]``
        Prediction set, most probable label first, joined by ``";"`` (for votes, the fewest labels with ``1 - alpha`` of
        the votes). Novel cells have a set, too.
    ``obsm["scim_scores"]``
        Probability (or share of the votes) of each term: a DataFrame with one column for each term name (a slash in the
        name becomes ``|``).
    ``obsm["scim_votes"]``
        With ``vote="majority"`` or ``"weighted"``, the statistics of SCimilarity: ``min_dist`` and ``max_dist`` of the
        neighbours, ``vs2nd`` and ``vsAll`` (votes of the label / votes of the first two labels, / all votes), and both
        for weighted votes.
    ``obs["scim_cluster_label"]``, ``obs["scim_cluster_term_id"]``
        With ``by``: name and id of the term of the cell's group, categorical; missing for a cell without a group.
    ``uns["scim"]["clusters"]``
        With ``by``: a table of the groups, see :func:`scim.get.clusters`.
    ``uns["scim"]["annotate"]``
        Parameters, reference and versions. ``well_represented``: share of the cells with a novelty up to 0.5 and a term
        that is more probable than not. ``head``: ``"cross-study"``, or ``"within-study"`` if the reference has one
        study; confidence is then too high for other studies. ``pooled_labels``: labels with fewer than 20 or 1/alpha
        cells in studies left out, joined by ``";"``, for whose sets the scores of all labels are used.
        ``panel_matched``: whether landmarks replace the cells of the reference. ``panel_labels``: labels that are
        judged in the genes of a panel. ``n_genes``: number of genes that the cells were embedded with. ``novelty``:
        ``"expression"`` or ``"distance"``. ``tissue_guess``: the tissue that the labels look like, ``""`` if none has
        more than half; ``tissue_guess_share``: the share of the most likely tissue. The mean probabilities of the
        labels over all cells are explained as a mixture of the tissues of the reference, each with its shares of
        labels. The guess depends on which cells are annotated together; labels do not depend on the guess. There is no
        guess for fewer than 200 cells, if at most half of the cells are well represented, with a tissue in ``tissue=``
        or ``where=``, for votes, or if the reference has one tissue.

    Raises
    ------
    ValueError
        The embedding was made by another encoder; a filter leaves no cell; a number is out of range; ``by`` holds
        measurements, or a group for each cell.
    KeyError
        The embedding, a label, a column or the modality is not there.

    References
    ----------
    Vovk, Gammerman & Shafer, *Algorithmic Learning in a Random World*, 2005. Angelopoulos & Bates, *Conformal
    Prediction: A Gentle Introduction*, 2023. Guo et al., *On calibration of modern neural networks*, 2017.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc10k_protein()
    >>> scim.tl.annotate(adata)
    >>> adata.obs["scim_label"][adata.obs["gate"] == "B"].mode()[0]
    'B cell'
    """
    how = Labelling(vote, k, min_probability, alpha, max_novelty, consensus, labels, tissue, where, exclude, recall)
    data = get_adata(adata, mod=mod)
    check_writable(data, key_added, copy=copy)
    _check_columns(data, key_added)
    groups = None if by is None else find_groups(data, by, key=key_added)
    opened = Reference.open(reference).pinned()
    how.listed(opened.terms)
    how = how.resolved(opened)
    cells = NewCells.read(data, opened, use_rep=use_rep, key=key_added, layer=layer, organism=organism)
    answer = label(cells, how, client=client)
    table = None if groups is None else label_groups(groups, answer, opened.terms, how)
    record: dict[str, Any] = {"params": {"use_rep": cells.use_rep, "by": by or "", **how.params()}}
    record |= reference_record(opened, ontology=opened.info()["ontology"])
    record |= {"n_unassigned": int((answer.chosen < 0).sum()), **answer.facts}
    found: dict[str, dict[str, Any]] = {
        "obs": _obs_columns(answer, opened.terms, data, key_added),
        "obsm": _obsm_tables(answer, opened.terms, data, key_added),
        "uns": {key_added: {"annotate": record}},
    }
    results = merge_results(cells.results(), found, group_results(data, key_added, groups, table))
    out = copy_of(adata) if copy else adata
    write_results(get_adata(out, mod=mod), results)
    return out if copy else None


def _check_columns(data: AnnData, key: str) -> None:
    """Raise if a column exists that scim did not write."""
    taken = [name for name in _keys.obs_labelling(key) if name in data.obs]
    if taken and key != _keys.DEFAULT and "annotate" not in data.uns.get(key, {}):
        raise ValueError(
            f"adata.obs has {', '.join(map(repr, taken))} already, which scim did not write. Choose another "
            "key_added=, or delete them."
        )


def _obs_columns(answer: Answer, terms: TermSpace, data: AnnData, key: str) -> dict[str, pd.Series]:
    chosen = answer.chosen
    names = np.append(terms.term_names, _keys.UNASSIGNED)[chosen]
    ids = np.append(terms.terms, "")[chosen]
    probability = answer.by_label.max(axis=1, initial=0)
    finest = np.where(probability > 0, terms.term_names[terms.label_term][answer.by_label.argmax(axis=1)], "")
    columns: dict[str, Any] = {
        _keys.obs_label(key): pd.Categorical(names.astype(str)),
        _keys.obs_term_id(key): pd.Categorical(ids.astype(str)),
        _keys.obs_confidence(key): np.clip(answer.confidence, 0, 1).astype(np.float32),
        _keys.obs_finest(key): pd.Categorical(finest.astype(str)),
        _keys.obs_finest_probability(key): np.clip(probability, 0, 1).astype(np.float32),
        _keys.obs_novelty(key): answer.novelty.astype(np.float32),
        _keys.obs_novelty_pvalue(key): answer.pvalues.astype(np.float32),
        _keys.obs_set(key): pd.Categorical(answer.sets),
    }
    return {name: pd.Series(values, index=data.obs_names) for name, values in columns.items()}


def _obsm_tables(answer: Answer, terms: TermSpace, data: AnnData, key: str) -> dict[str, pd.DataFrame | None]:
    tables: dict[str, pd.DataFrame | None] = {_keys.obsm_scores(key): _scores(answer.by_term, terms, data.obs_names)}
    if answer.stats:
        tables[_keys.obsm_votes(key)] = pd.DataFrame(answer.stats, index=data.obs_names)
    elif _earlier_vote(data, key) in PLAIN_VOTES:  # statistics of earlier labels are removed
        tables[_keys.obsm_votes(key)] = None
    return tables


def _earlier_vote(data: AnnData, key: str) -> str | None:
    params = data.uns.get(key, {}).get("annotate", {}).get("params", {})
    return str(params["vote"]) if "vote" in params else None


def _scores(by_term: np.ndarray, terms: TermSpace, cells: pd.Index) -> pd.DataFrame:
    columns: list[str] = []
    for name in map(storable, map(str, terms.term_names)):
        columns.append(name if name not in columns else f"{name} ({len(columns)})")
    return pd.DataFrame(by_term, index=cells, columns=columns)
