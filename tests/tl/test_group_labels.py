"""scim.tl.annotate with by=: labels of groups, what the table says of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

import scim
from scim.tl._group_labels import find_groups, label_groups
from scim.tl._groups import Groups
from scim.tl._labelling import Answer, Labelling

COLUMNS = ("scim_cluster_label", "scim_cluster_term_id")


@pytest.fixture
def grouped(new: anndata.AnnData) -> anndata.AnnData:
    """Groups of published labels, a mixture of two, and cells without a group."""
    truth = new.obs["cell_type"].astype(str)
    group = truth.map({"B cell": "b", "CD14-positive monocyte": "mono", "dendritic cell": "dc"}).fillna("rest")
    group[truth == "natural killer cell"] = None
    new.obs["leiden"] = pd.Categorical(group)
    return new


def above(terms: np.ndarray, term: str) -> list[bool]:
    ontology = scim.CellOntology.bundled()
    return [t == term or (t != "" and term in ontology.ancestors(t)) for t in terms]


@pytest.mark.parametrize("vote", ["calibrated", "ontology", "majority", "weighted"])
def test_table_says_what_the_cells_say(grouped: anndata.AnnData, reference: scim.Reference, vote: str) -> None:
    scim.tl.annotate(grouped, reference, by="leiden", vote=vote)
    table = scim.get.clusters(grouped)
    assert table["group"].tolist() == list(grouped.obs["leiden"].cat.categories)
    assert table["cells"].sum() == grouped.obs["leiden"].notna().sum()
    scores = scim.get.scores(grouped)
    ids = dict(zip(map(str, reference.terms.term_names), map(str, reference.terms.terms), strict=True))
    for row in table.itertuples():
        mine = (grouped.obs["leiden"] == row.group).to_numpy()
        own = grouped.obs["scim_term_id"].astype(str).to_numpy()[mine]
        assert row.cells == mine.sum()
        assert row.unassigned == pytest.approx((own == "").mean())
        if vote in ("majority", "weighted"):  # do not test novelty
            assert np.isnan(row.well_represented)
        else:
            near = (grouped.obs["scim_novelty"] <= 0.5).to_numpy()[mine]
            assert row.well_represented == pytest.approx(np.mean(near & (own != "")))
        finest = [ids[name] for name in grouped.obs["scim_finest_label"].astype(str)[mine]]
        assert row.agreement == pytest.approx(np.mean(above(finest, row.term_id)) if row.term_id else 0)
        if row.label != "unassigned":
            assert row.confidence == pytest.approx(scores[row.label].to_numpy()[mine].mean(), abs=1e-5)
        assert row.runner_up not in row.label and 0 <= row.runner_up_confidence <= 1
        column = grouped.obs["scim_cluster_label"][mine]
        assert column.unique().tolist() == [row.label]
    assert table["novel"].isna().all() == (vote in ("majority", "weighted"))
    assert grouped.obs["scim_cluster_label"].isna().equals(grouped.obs["leiden"].isna())
    assert grouped.uns["scim"]["annotate"]["params"]["by"] == "leiden"


def test_groups_of_one_kind_get_its_label(grouped: anndata.AnnData, reference: scim.Reference) -> None:
    plain = scim.tl.annotate(grouped, reference, copy=True)
    scim.tl.annotate(grouped, reference, by="leiden")
    table = scim.get.clusters(grouped).set_index("group")
    assert table.loc["b", "label"] == "B cell" and table.loc["b", "agreement"] > 0.8
    assert table.loc["rest", "label"] != "B cell"
    # Labels of cells stay as they are.
    for column in ("scim_label", "scim_confidence", "scim_set"):
        assert grouped.obs[column].equals(plain.obs[column])
    assert not set(COLUMNS) & set(plain.obs)


def test_a_group_gets_what_its_cells_point_at_and_a_mixture_what_they_share(reference: scim.Reference) -> None:
    terms = reference.terms
    names = list(terms.term_names[terms.label_term])
    cd4 = next(i for i, n in enumerate(names) if n.startswith("CD4-positive"))
    cd8, b = names.index("CD8-positive, alpha-beta T cell"), names.index("B cell")
    first = np.array([cd4] * 10 + [cd4] * 5 + [cd8] * 5 + [b] * 10)
    by_label = np.zeros((30, len(names)), dtype=np.float32)
    by_label[np.arange(30), first] = 0.4  # no cell is sure, and all of a group have the same label first
    by_label[np.arange(30), np.where(first == cd4, cd8, cd4)] = 0.3
    by_label[np.arange(30), np.where(first == b, cd8, b)] = 0.3
    novel = np.repeat([False, True], [24, 6])
    by_term = by_label @ terms.closure
    chosen = np.where(novel, -1, terms.label_term[first])
    none = np.zeros(30)
    answer = Answer(by_label, by_term, chosen, none, none, none, novel, None, [], {}, {})
    groups = Groups(["one", "mixed", "strange"], np.repeat([0, 1, 2], 10))
    table = label_groups(groups, answer, terms, Labelling("calibrated", min_probability=0.6)).set_index("group")
    assert table.loc["one", "set"] == names[cd4] == table.loc["one", "label"]
    assert table.loc["one", "runner_up"] in (names[cd8], "B cell")
    assert table.loc["one", "agreement"] == 1 and table.loc["one", "confidence"] == pytest.approx(0.4)
    assert set(table.loc["mixed", "set"].split(";")) == {names[cd4], names[cd8]}
    assert "T cell" in table.loc["mixed", "label"] and table.loc["mixed", "agreement"] == 1
    assert table.loc["mixed", "confidence"] == pytest.approx(0.7)
    assert table.loc["strange", ["label", "set", "novel", "confidence"]].tolist() == ["unassigned", "", 0.6, 0]


def test_it_is_stored_and_read(grouped: anndata.AnnData, reference: scim.Reference, tmp_path: Path) -> None:
    scim.tl.annotate(grouped, reference, by="leiden")
    grouped.write_h5ad(tmp_path / "x.h5ad")
    back = anndata.read_h5ad(tmp_path / "x.h5ad")
    pd.testing.assert_frame_equal(
        scim.get.clusters(back).astype({"label": object, "term_id": object, "set": object, "runner_up": object}),
        scim.get.clusters(grouped).astype({"label": object, "term_id": object, "set": object, "runner_up": object}),
        check_index_type=False,
        check_column_type=False,
    )
    assert back.obs["scim_cluster_label"].isna().sum() == grouped.obs["leiden"].isna().sum()


def test_groups_of_another_time_are_not_left(grouped: anndata.AnnData, reference: scim.Reference) -> None:
    scim.tl.annotate(grouped, reference, by="leiden")
    scim.tl.annotate(grouped, reference)
    assert "clusters" not in grouped.uns["scim"] and not set(COLUMNS) & set(grouped.obs)
    # A column of that name that scim did not write is no leftover.
    grouped.obs["scim_cluster_label"] = "mine"
    scim.tl.annotate(grouped, reference)
    assert set(grouped.obs["scim_cluster_label"]) == {"mine"}


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (lambda n: np.arange(n) % 3, ["0", "1", "2"]),
        (lambda n: np.where(np.arange(n) % 2, 10.0, np.nan), ["10"]),
        (lambda n: np.where(np.arange(n) % 12 == 0, 2.0, 10.0), ["2", "10"]),
        (lambda n: np.arange(n) % 2 == 0, ["False", "True"]),
        (lambda n: pd.Categorical(["x"] * n, categories=["y", "x"]), ["x"]),
        (lambda n: pd.Categorical(np.arange(n) % 2, categories=[1, 0]), ["1", "0"]),
        (lambda n: [None, *["a"] * (n - 1)], ["a"]),
        (lambda n: pd.Categorical(["", *["a"] * (n - 1)]), ["a"]),
        (lambda n: np.array(["", *["a"] * (n - 1)], dtype=object), ["a"]),
    ],
)
@pytest.mark.filterwarnings("error::FutureWarning")
def test_columns_of_groups(new: anndata.AnnData, values: object, names: list[str]) -> None:
    new.obs["by"] = values(new.n_obs)  # type: ignore[operator]
    found = find_groups(new, "by", key="scim")
    new.obs["by"] = new.obs["by"].where((new.obs["by"].astype(object) != "").to_numpy())
    assert found.names == names
    known = new.obs["by"].notna().to_numpy()
    assert ((found.codes >= 0) == known).all()
    raw = new.obs["by"][known]
    for value, code in zip(raw, found.codes[known], strict=True):
        assert found.names[code] in (str(value), str(value).removesuffix(".0"))


def test_what_are_no_groups(new: anndata.AnnData, reference: scim.Reference) -> None:
    new.obs["leiden"] = "0"
    new.obs["depth"] = np.linspace(0.37, 9, new.n_obs)
    new.obs["ratio"] = np.where(np.arange(new.n_obs) < 3, np.inf, 1.0)
    new.obs["barcode"] = new.obs_names
    new.obs["none"] = pd.Series(np.nan, index=new.obs_names)
    new.obs["scim_label"] = "0"
    new.obs["both"] = pd.Categorical([1, "1"] * (new.n_obs // 2))
    new.obs["plain"] = pd.Series([1, "1"] * (new.n_obs // 2), index=new.obs_names, dtype=object)
    for by, error, message in (
        ("leidn", KeyError, "Did you mean 'leiden'"),
        ("depth", ValueError, r"measurements \(such as 0\.37\)"),
        ("ratio", ValueError, r"measurements \(such as inf\)"),
        ("barcode", ValueError, "100 groups for 100 cells"),
        ("none", ValueError, "no group"),
        ("scim_label", ValueError, "a column that annotate writes"),
        (["leiden"], TypeError, "one column"),
        ("both", ValueError, r"'1' more than once, as int and as str.*obs\['both'\].astype\(str\)"),
        ("plain", ValueError, "'1' more than once, as int and as str"),
    ):
        with pytest.raises(error, match=message):
            scim.tl.annotate(new, reference, by=by)  # type: ignore[arg-type]
    assert "X_scim" not in new.obsm and "scim" not in new.uns


def test_entries_of_others_are_not_overwritten(new: anndata.AnnData, reference: scim.Reference) -> None:
    new.obs["leiden"] = "0"
    new.uns["mine"] = {"clusters": {"n": 3}}
    with pytest.raises(ValueError, match="scim did not write"):
        scim.tl.annotate(new, reference, by="leiden", key_added="mine")
    assert new.uns["mine"] == {"clusters": {"n": 3}}


@pytest.mark.filterwarnings("ignore:.*fewer than 50 counts")
def test_cells_without_counts_say_nothing(grouped: anndata.AnnData, reference: scim.Reference) -> None:
    matrix = grouped.X.toarray()
    empty = np.flatnonzero(grouped.obs["leiden"] == "b")
    matrix[empty] = 0
    grouped.X = matrix
    scim.tl.annotate(grouped, reference, by="leiden")
    row = scim.get.clusters(grouped, group="b").iloc[0]
    assert row["label"] == "unassigned" and row["runner_up"] == "" and row["confidence"] == 0


def test_modality(grouped: anndata.AnnData, reference: scim.Reference) -> None:
    mudata = pytest.importorskip("mudata")
    data = mudata.MuData({"rna": grouped})
    scim.tl.annotate(data, reference, by="leiden", mod="rna")
    assert len(scim.get.clusters(data, mod="rna")) == 4
