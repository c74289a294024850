"""Tissues and diseases by any of their names, and what is a part or kind of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scim import CellOntology
from scim.ontology import Vocabulary, vocabulary_of

TISSUES = ["lower lobe of left lung", "alveolus of lung", "Lung parenchyma", "UBERON:0002048", "pulmo", "blood"]
TISSUES += ["bone marrow", "cerebral cortex", "colon", "ileum", "skin", "lymph node", "spleen", "not in any ontology"]
LUNG = TISSUES[:5]
DISEASES = [
    "COVID-19",
    "normal",
    "melanoma",
    "acute myeloid leukemia",
    "lung adenocarcinoma",
    "type 2 diabetes mellitus",
]


@pytest.fixture(scope="module")
def tissues() -> Vocabulary:
    found = vocabulary_of("tissue")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def diseases() -> Vocabulary:
    found = vocabulary_of("disease")
    assert found is not None
    return found


@pytest.mark.parametrize("wanted", ["lung", "LUNG", " pulmo ", "UBERON:0002048", "UBERON_0002048", "lungs"])
def test_an_organ_is_its_parts(tissues: Vocabulary, wanted: str) -> None:
    assert tissues.matching(wanted, TISSUES) == LUNG


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("brain", ["cerebral cortex"]),
        ("intestine", ["colon", "ileum"]),
        ("gut", ["colon", "ileum"]),
        ("blood", ["blood"]),
        ("immune system", ["bone marrow", "lymph node", "spleen"]),
        ("skin of body", ["skin"]),
        ("lower lobe of left lung", ["lower lobe of left lung"]),
        ("liver", []),
        ("Not in any ontology", ["not in any ontology"]),
        ("nowhere", []),
    ],
)
def test_tissues(tissues: Vocabulary, wanted: str, expected: list[str]) -> None:
    assert tissues.matching(wanted, TISSUES) == expected


def test_remarks_of_values(tissues: Vocabulary) -> None:
    values = ["blood (PBMC)", "brain (hippocampus)", "brain (organoid)", "lung (cancer cell line)", "brain || colon"]
    assert tissues.matching("blood", values) == ["blood (PBMC)"]
    assert tissues.matching("brain", values) == ["brain (hippocampus)", "brain || colon"]
    assert tissues.matching("hippocampal formation", values) == ["brain (hippocampus)"]
    assert tissues.matching("colon", values) == ["brain || colon"]
    assert tissues.matching("lung", values) == []
    # A remark of the wanted tissue is not left out.
    assert tissues.matching("blood (serum)", values) == []
    assert tissues.matching("organ of mine", ["Organ of mine (left)"]) == ["Organ of mine (left)"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("covid", ["COVID-19"]),
        ("MONDO:0100096", ["COVID-19"]),
        ("viral infectious disease", ["COVID-19"]),
        ("cancer", ["melanoma", "acute myeloid leukemia", "lung adenocarcinoma"]),
        ("leukemia", ["acute myeloid leukemia"]),
        ("lung cancer", ["lung adenocarcinoma"]),
        ("diabetes", ["type 2 diabetes mellitus"]),
        ("PATO:0000461", ["normal"]),
        ("healthy", ["normal"]),
        ("disease", ["COVID-19", "melanoma", "acute myeloid leukemia", "lung adenocarcinoma", DISEASES[-1]]),
    ],
)
def test_diseases(diseases: Vocabulary, wanted: str, expected: list[str]) -> None:
    assert diseases.matching(wanted, DISEASES) == expected
    ids = {diseases.resolve(name): name for name in DISEASES}
    assert [ids[found] for found in diseases.matching(wanted, ids)] == expected


def test_what_is_broader(tissues: Vocabulary) -> None:
    values = ["respiratory system", "UBERON:0002048", "left lung (biopsy)", "blood", "not in any ontology"]
    assert tissues.broader("lower lobe of left lung", values) == ["left lung", "lung", "respiratory system"]
    assert tissues.broader("nowhere", values) == [] == tissues.broader("liver", values)


def test_values_are_grouped_by_the_broadest(tissues: Vocabulary) -> None:
    groups = {
        "lung": ["left lung", "pulmo", "lung (bronchoalveolar lavage fluid)"],
        "blood": ["blood (PBMC)", "blood (PBMC, bead-sorted)"],
        "brain": ["brain (hippocampus)", "brain (temporal cortex)", "cerebellum"],
        "colon": ["colon"],
        "x (y)": ["x (y)"],
    }
    names = {value: group for group, values in groups.items() for value in values}
    assert tissues.grouped(names) == names
    assert tissues.grouped(["left lung", "lobe of lung"]) == {"left lung": "left lung", "lobe of lung": "lobe of lung"}


def test_words_find_values(tissues: Vocabulary) -> None:
    words = tissues.words(["left lung"])
    assert {"left lung", "lung", "pulmo"} <= set(words) and "blood" not in words
    assert all(tissues.matching(word, ["left lung"]) for word in words)


def test_other_columns_have_no_vocabulary() -> None:
    assert vocabulary_of("study") is None and vocabulary_of("label") is None
    assert vocabulary_of("disease_ontology_term_id") is vocabulary_of("disease")
    assert vocabulary_of("tissue_ontology_term_id") is vocabulary_of("tissue")


def test_vocabularies_are_read_when_they_are_needed() -> None:
    code = (
        "import scim.ontology as o; from scim.ontology import _vocabulary as v; o.CellOntology.bundled(); "
        "print(v._vocabulary.cache_info().misses); o.vocabulary_of('tissue'); print(v._vocabulary.cache_info().misses)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["0", "1"]


def test_any_ontology_is_a_vocabulary() -> None:
    ontology = CellOntology(["X:1", "X:2"], ["whole", "piece"], [[], ["X:1"]], synonyms=[["all"], []])
    made = Vocabulary(ontology, "part")
    assert made.matching("all", ["piece", "whole", "other"]) == ["piece", "whole"]
    assert made.relation == "part"


@pytest.mark.parametrize("column", ["tissue", "disease"])
def test_terms_do_not_descend_from_themselves(column: str) -> None:
    vocabulary = vocabulary_of(column)
    assert vocabulary is not None
    ontology = vocabulary._ontology
    assert len(ontology) > 10_000 and ontology.version >= "2026-04-01"
    assert len(ontology._order) == len(ontology)  # raises where there is a circle
