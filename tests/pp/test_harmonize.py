"""Author labels become terms by sure ways only."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scim
from scim.pp._abbreviations import abbreviations, normalize


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
        ("cells, T", "CL:0000084", "abbreviation"),
        ("Fibroblasts", "CL:0000057", "abbreviation"),
        ("Hepatocytes", "CL:0000182", "normalized"),
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
    table = abbreviations()
    assert len(table) > 200
    for short in table.values():
        assert [ontology.name(ontology.resolve(name) or "") for name in short.terms] == list(short.terms)
    # Each line of the table says where the abbreviation is used, and no two lines mean the same words.
    text = (files("scim") / "_data" / "abbreviations.tsv").read_text(encoding="utf-8")
    lines = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) - len(table) < 12  # the same words in another order
    assert all(set(sources.split()) <= set("ACSXT") and sources for _, _, sources in lines)


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


@pytest.mark.parametrize(
    ("label", "term"),
    [
        ("CD56+ NK", "natural killer cell"),
        ("MAIT", "mucosal-associated invariant T cell"),
        ("gdT", "gamma-delta T cell"),
        ("γδ T cells", "gamma-delta T cell"),
        ("cDC2", "CD1c-positive myeloid dendritic cell"),
        ("cDC2s", "CD1c-positive myeloid dendritic cell"),
        ("pDCs", "plasmacytoid dendritic cell"),
        ("HSPC", "hematopoietic precursor cell"),
        ("Mono CD14", "CD14-positive monocyte"),
        ("CD14-Mono", "CD14-positive monocyte"),
        ("NK dim", "CD16-positive, CD56-dim natural killer cell, human"),
        ("NK_CD56bright", "CD16-negative, CD56-bright natural killer cell, human"),
        ("CD4pos T cells", "CD4-positive, alpha-beta T cell"),
        ("CD4+ TEM", "effector memory CD4-positive, alpha-beta T cell"),
        ("Bcells", "B cell"),
        ("Beta cells", "type B pancreatic cell"),
        ("Alpha cell", "pancreatic A cell"),
        ("AT2 cells", "pulmonary alveolar type 2 cell"),
    ],
)
def test_common_abbreviations(label: str, term: str) -> None:
    adata = labelled(label)
    scim.pp.harmonize_labels(adata, "cell_type")
    assert report(adata).loc[label, "term_name"] == term


@pytest.mark.parametrize(
    ("label", "suggested"),
    [
        ("DC2", "CD1c-positive myeloid dendritic cell | plasmacytoid dendritic cell"),
        ("PC", "plasma cell | podocyte | renal principal cell"),
        ("C42", "alpha retinal ganglion cell OFF-sustained (Mmus)"),
        ("beta", "type B pancreatic cell"),
        ("b", "B cell"),
        ("GM", "gastric mill neuron"),
    ],
)
def test_what_has_several_meanings_is_suggested_and_not_taken(label: str, suggested: str) -> None:
    adata = labelled(label)
    with pytest.warns(UserWarning, match="may be"):
        scim.pp.harmonize_labels(adata, "cell_type")
    row = report(adata).loc[label]
    assert (row["method"], row["term_id"], row["suggestions"]) == ("unmapped", "", suggested)
    table = {label: suggested.split(" | ")[0]}
    scim.pp.harmonize_labels(adata, "cell_type", table=table)
    assert report(adata).loc[label, "method"] == "table"
