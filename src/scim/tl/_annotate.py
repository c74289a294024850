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

    from ..ontology import TermSpace


def annotate(
    adata: AnnData | Any,
    reference: Reference | str | Path | None = None,
    *,
    use_rep: str = _keys.obsm_embedding(),
    alpha: float | None = None,
    novelty_fdr: float = 0.05,
    vote: Vote = "auto",
    k: int = 50,
    by: str | None = None,
    labels: Sequence[str] | None = None,
    where: Any = None,
    exclude: Any = None,
    recall: float | None = None,
    layer: str | None = None,
    mod: str | None = None,
    key_added: str = _keys.DEFAULT,
    client: Any = None,
    copy: bool = False,
) -> AnnData | Any | None:
    """Label cells on the Cell Ontology, as precisely as the tolerated error allows.

    1. A linear head on the embedding gives each label a probability. Rare labels weigh as much as common ones.
    2. Each label gets a conformal p-value: the share of its cells, in studies that were left out, that fit the label as
       badly. If the reference has landmarks, these are landmarks with a seventh of their counts: the encoder was
       trained on them, and with all counts they would fit better than cells of a new study.
    3. The labels with a p-value above ``alpha`` are the prediction set. The cell gets the most specific term that
       covers the set: a leaf if the set has one label, or a broader term such as "T cell". The cell is "unassigned" if
       only terms such as "cell" cover the set, or if the cell is unlike anything in the reference.

    If the data lack important genes, landmarks are embedded again without these genes, and the head is fitted to them.
    If labels come only from studies of a small gene panel, cells and landmarks are compared in the genes of the panel:
    with all genes, cells never get such a label.

    Parameters
    ----------
    adata
        AnnData, or MuData with ``mod``. Cells without an embedding are embedded first.
    reference
        Reference, or its path or name. The default is the bundled reference of blood.
    use_rep
        Name of the embedding in ``obsm``.
    alpha
        Tolerated error, below 0.5. The default is 0.1. The prediction sets contain the true label of ``1 - alpha`` of
        the cells, if their study differs from the reference studies no more than these differ from one another. If
        ``alpha`` is below 1 / number of cells left out (a few thousand at most), no label is ruled out. With
        ``vote="ontology"``, the share of votes that may be for other terms, 0.3 by default.
    novelty_fdr
        Cells that are novel at this false discovery rate (Benjamini-Hochberg over the cells) are unassigned. Cells of
        another platform or tissue are also novel, even if their type is in the reference. If all types are known to be
        in the reference, use 0: novelty is then ignored. ``"majority"`` and ``"weighted"`` votes label every cell.
    vote
        ``"calibrated"``: see above. ``"ontology"``: the ``k`` nearest labelled cells vote with weights ``exp(-d / h)``,
        where h is the median distance of the cell's neighbours. A vote also counts for the ancestors of its label, and
        the cell gets the most specific term with ``1 - alpha`` of the votes. ``"majority"`` and ``"weighted"``: the
        votes of SCimilarity, each with weight 1 or the inverse of its distance. The cell gets the label with most
        votes, never an ancestor or "unassigned"; ``alpha`` is not used. ``"auto"``: ``"calibrated"``, but
        ``"ontology"`` with a filter (the head belongs to the whole reference) or with fewer than two labels.
    k
        Number of neighbours that vote.
    by
        Column of ``obs`` with groups, such as ``"leiden"``, that also get labels. Labels of cells do not change. A
        group gets the term that covers two kinds of labels: those in the sets of most of its cells, and those that are
        most probable in more than ``alpha`` of its cells. So a mixture gets a common ancestor. With a vote, a group is
        labelled like one cell with the votes of all its cells. A group is unassigned if most of its cells are novel.
    labels
        Names or ids of terms. Only these terms and their descendants are considered. Cells of other labels also get one
        of them, with a confidence that only compares these labels. A warning says how many cells seem to have other
        labels. Novelty still compares with the whole reference (SCimilarity's votes: with cells of these labels).
    where, exclude
        Filters on the metadata of the reference, such as ``exclude={"study": "mine"}``; see
        :meth:`scim.Reference.search`.
    recall
        Share of the true nearest neighbours to find for a vote, 0 to 1, if the reference is searched with an index.
        None uses the recall that the index was built for. A lower recall is faster, and changes labels of cells whose
        neighbours disagree.
    layer
        Layer with the values of cells that are not embedded; see :func:`scim.tl.embed`.
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
        Probability of the term (or share of the votes), 0 to 1; 0 for an unassigned cell.
    ``obs["scim_novelty"]``
        Conformal p-value: small if the cell is unlike anything in the reference. 1 for a cell without counts. The
        expression of the cell is correlated with the mean of each label, and compared with landmarks of studies left
        out, thinned to the depth of the query. The distance to the nearest cell in the embedding is used instead if
        there are no values or no landmarks, and for SCimilarity's votes. It finds fewer novel cells, because encoders
        place unknown cells near known ones. With a filter, the cell is compared only with the remaining cells if they
        come from two studies that share labels and measured no panel (``novelty_filtered`` in ``uns``). Even then,
        cells whose closest type was filtered out are rarely novel.
    ``obs["scim_set"]``
        Prediction set, most probable label first, joined by ``";"`` (for votes, the fewest labels with ``1 - alpha`` of
        the votes). Novel cells have a set, too. Sets of a smaller ``alpha`` contain the sets of a larger ``alpha``,
        except for labels that become ``pooled_labels``: the scores of all labels may rule out more.
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
        Parameters, reference and versions. ``head``: ``"cross-study"``, or ``"within-study"`` if the reference has one
        study; errors are then more frequent than ``alpha``. ``pooled_labels``: labels with fewer than 20 or 1/alpha
        cells in studies left out, joined by ``";"``, for which the scores of all labels are used. ``panel_matched``:
        whether landmarks replace the cells of the reference. ``n_genes``: number of genes in which cells are labelled.
        ``novelty``: ``"expression"`` or ``"distance"``.

    Raises
    ------
    ValueError
        The embedding was made by another encoder; a filter leaves no cell; ``alpha`` or ``k`` is out of range; ``by``
        holds measurements, or a group for each cell.
    KeyError
        The embedding, a label, a column or the modality is not there.

    References
    ----------
    Vovk, Gammerman & Shafer, *Algorithmic Learning in a Random World*, 2005. Angelopoulos & Bates, *Conformal
    Prediction: A Gentle Introduction*, 2023. Groups: Gasparin & Ramdas, *Merging uncertainty sets via majority vote*,
    2024.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc68k()
    >>> scim.tl.annotate(adata)  # warns that these data have few genes
    >>> adata.obs["scim_label"][adata.obs["bulk_labels"] == "CD19+ B"].mode()[0]
    'B cell'
    """
    how = Labelling(vote, k, alpha, novelty_fdr, labels, where, exclude, recall)
    data = get_adata(adata, mod=mod)
    check_writable(data, key_added, copy=copy)
    _check_columns(data, key_added)
    groups = None if by is None else find_groups(data, by, key=key_added)
    opened = Reference.open(reference)
    how.listed(opened.terms)
    how = how.resolved(opened)
    cells = NewCells.read(data, opened, use_rep=use_rep, key=key_added, layer=layer)
    answer = label(cells, how, client=client)
    table = None if groups is None else label_groups(groups, answer, opened.terms, how)
    record: dict[str, Any] = {"params": {"use_rep": use_rep, "by": by or "", **how.params()}}
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
    names = [_keys.obs_label(key), _keys.obs_term_id(key), _keys.obs_confidence(key), _keys.obs_novelty(key)]
    taken = [name for name in (*names, _keys.obs_set(key)) if name in data.obs]
    if taken and key != _keys.DEFAULT and "annotate" not in data.uns.get(key, {}):
        raise ValueError(
            f"adata.obs has {', '.join(map(repr, taken))} already, which scim did not write. Choose another "
            "key_added=, or delete them."
        )


def _obs_columns(answer: Answer, terms: TermSpace, data: AnnData, key: str) -> dict[str, pd.Series]:
    chosen = answer.chosen
    names = np.append(terms.term_names, _keys.UNASSIGNED)[chosen]
    ids = np.append(terms.terms, "")[chosen]
    confidence = np.where(chosen < 0, 0.0, answer.by_term[np.arange(len(chosen)), np.maximum(chosen, 0)])
    columns: dict[str, Any] = {
        _keys.obs_label(key): pd.Categorical(names.astype(str)),
        _keys.obs_term_id(key): pd.Categorical(ids.astype(str)),
        _keys.obs_confidence(key): np.clip(confidence, 0, 1).astype(np.float32),
        _keys.obs_novelty(key): answer.novelty.astype(np.float32),
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
