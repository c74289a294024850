"""Author labels become terms by sure ways only."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scim
from scim.pp._harmonize import ABBREVIATIONS, normalize


def labelled(*labels: object) -> ad.AnnData:
    return ad.AnnData(
        obs=pd.DataFrame(
            {"cell_type": pd.Series(list(labels), dtype=object).to_numpy()}, index=[f"c{i}" for i in range(len(labels))]
        )
    )


def report(adata: ad.AnnData) -> pd.DataFrame:
    return adata.uns["scim_pp"]["harmonize"].set_index("label")


@pytest.mark.parametrize(
    ("label", "term", "method"),
    [
        ("CL:0000084", "CL:0000084", "exact"),
        ("t cell", "CL:0000084", "exact"),
        ("T lymphocyte", "CL:0000084", "synonym"),
        ("cells, T", "CL:0000084", "normalized"),
        ("Fibroblasts", "CL:0000057", "normalized"),
        ("NK", "CL:0000623", "abbreviation"),
        ("CD14+ Mono", "CL:0001054", "abbreviation"),
        ("Naive CD4+ T cells", "CL:0000895", "abbreviation"),
    ],
)
def test_labels_find_their_term_and_say_how(label: str, term: str, method: str) -> None:
    adata = labelled(label, label)
    scim.pp.harmonize_labels(adata, "cell_type")
    assert adata.obs["cell_type_ontology_term_id"].tolist() == [term] * 2
    row = report(adata).loc[label]
    assert (row["method"], row["n_cells"]) == (method, 2)
    assert adata.obs["cell_type_ontology_label"].iloc[0] == scim.CellOntology.bundled().name(term)


@pytest.mark.parametrize("label", ["alpha", "Cluster 7", "CD4- T cell", "DoubleNeg", "acinar"])
def test_nothing_is_guessed(label: str) -> None:
    adata = labelled(label)
    with pytest.warns(UserWarning, match="1 of 1 labels .* have no term"):
        scim.pp.harmonize_labels(adata, "cell_type")
    assert adata.obs["cell_type_ontology_term_id"].isna().all()
    assert report(adata).loc[label, "method"] == "unmapped"


def test_missing_labels_stay_missing_without_a_warning() -> None:
    adata = labelled(None, np.nan, "unknown", "", "T cell")
    scim.pp.harmonize_labels(adata, "cell_type")
    assert adata.obs["cell_type_ontology_term_id"].isna().tolist() == [True] * 4 + [False]
    assert set(report(adata).loc[["", "unknown"], "method"]) == {"missing"}


def test_the_users_table_wins() -> None:
    adata = labelled("T cell", "alpha", "B cell")
    table = {"T cell": "regulatory T cell", "alpha": "CL:0000171", "B cell": ""}
    scim.pp.harmonize_labels(adata, "cell_type", table=table, key_added="mine")
    assert adata.obs["mine_ontology_term_id"].astype(object).where(lambda x: x.notna(), None).tolist() == [
        "CL:0000815",
        "CL:0000171",
        None,
    ]
    with pytest.raises(ValueError, match=r"table\['x'\] is 'no cell'"):
        scim.pp.harmonize_labels(adata, "cell_type", table={"x": "no cell"})


def test_copy_keys_and_round_trip(tmp_path: Path) -> None:
    adata = labelled("T cell", "B cell")
    new = scim.pp.harmonize_labels(adata, "cell_type", copy=True)
    assert new is not None and "cell_type_ontology_term_id" in new.obs
    assert "cell_type_ontology_term_id" not in adata.obs and "scim_pp" not in adata.uns
    new.write_h5ad(tmp_path / "x.h5ad")
    assert len(ad.read_h5ad(tmp_path / "x.h5ad").uns["scim_pp"]["harmonize"]) == 2
    with pytest.raises(KeyError, match="key='celltype' is not in adata.obs. Did you mean 'cell_type'"):
        scim.pp.harmonize_labels(adata, "celltype")


def test_every_abbreviation_names_a_term() -> None:
    ontology = scim.CellOntology.bundled()
    assert [short for short, name in ABBREVIATIONS.items() if ontology.resolve(name) is None] == []


def test_normal_form_keeps_what_tells_labels_apart() -> None:
    assert normalize("CD8+ naive T-cells") == normalize("naive CD8 T cell")
    assert normalize("CD4- T cell") != normalize("CD4+ T cell")
    assert normalize("Macrophages") == "macrophage" and normalize("bodies") == "body"


def test_real_author_labels_are_right_or_unmapped(shared_data: Path) -> None:
    table = pd.read_csv(shared_data / "cl_map.tsv", sep="\t", keep_default_na=False)
    table = table[table["cl_id"].str.startswith("CL:")]
    adata = labelled(*table["author_label"])
    with pytest.warns(UserWarning, match="have no term"):
        scim.pp.harmonize_labels(adata, "cell_type")
    found = adata.obs["cell_type_ontology_term_id"].astype(object).to_numpy()
    ontology = scim.CellOntology.bundled()
    mapped = ~pd.isna(found)
    wrong = [
        (label, ontology.name(f), name)
        for label, f, t, name in zip(
            *(table[c][mapped] for c in ("author_label",)),
            found[mapped],
            table["cl_id"][mapped],
            table["cl_name"][mapped],
            strict=True,
        )
        if not ontology.comparable(f, t)
    ]
    assert mapped.mean() > 0.35
    assert len(wrong) <= 0.02 * mapped.sum(), wrong


def test_terms_that_are_there_are_kept() -> None:
    adata = labelled("B", "own words", "own words", "NK")
    adata.obs["cell_type_ontology_term_id"] = pd.Categorical([None, "CL:0000084", None, "CL:0000236"])
    with pytest.warns(UserWarning, match=r"1 of 3 labels .*'own words' \(1 cells\)"):
        scim.pp.harmonize_labels(adata, "cell_type")
    ids = adata.obs["cell_type_ontology_term_id"].astype(object)
    assert ids.where(ids.notna(), "").tolist() == ["CL:0000236", "CL:0000084", "", "CL:0000236"]
    assert adata.obs["cell_type_ontology_label"].astype(object).iloc[[0, 1, 3]].tolist() == [
        "B cell",
        "T cell",
        "B cell",
    ]
    assert report(adata)["n_kept"].to_dict() == {"own words": 1, "B": 0, "NK": 1}
    # What was written by an earlier call is written anew.
    other = labelled("own words", "NK")
    with pytest.warns(UserWarning):
        scim.pp.harmonize_labels(other, "cell_type")
    scim.pp.harmonize_labels(other, "cell_type", table={"own words": "T cell", "NK": "B cell"})
    assert other.obs["cell_type_ontology_term_id"].tolist() == ["CL:0000084", "CL:0000236"]
