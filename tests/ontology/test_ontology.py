"""Terms by any of their names, and how they descend."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scim import CellOntology
from scim.ontology import GENERIC, TermSpace

T, B, NK, CD4, CD8 = "CL:0000084", "CL:0000236", "CL:0000623", "CL:0000624", "CL:0000625"

OBO = """format-version: 1.2
data-version: releases/2026-01-01

[Term]
id: CL:1
name: root thing

[Term]
id: CL:2
name: left
synonym: "sinister \\"one\\"" EXACT []
synonym: "leftish" BROAD []
is_a: CL:1 ! root thing

[Term]
id: CL:3
name: right
is_a: CL:1 {source="x"} ! root thing
relationship: part_of CL:2

[Term]
id: CL:4
name: both
is_a: CL:2
is_a: CL:3

[Term]
id: CL:5
name: obsolete old left
is_obsolete: true
replaced_by: CL:6

[Term]
id: CL:6
name: obsolete older left
is_obsolete: true
replaced_by: CL:2

[Term]
id: UBERON:1
name: organ

[Typedef]
id: part_of
name: part of
"""

OWL = """<?xml version="1.0"?>
<rdf:RDF xmlns="http://x#" xml:base="http://x" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:owl="http://www.w3.org/2002/07/owl#" xmlns:rdfs="http://www.w3.org/2000/01/rdf-schema#"
 xmlns:obo="http://purl.obolibrary.org/obo/" xmlns:oboInOwl="http://www.geneontology.org/formats/oboInOwl#">
<owl:Ontology rdf:about="http://purl.obolibrary.org/obo/cl.owl">
 <owl:versionIRI rdf:resource="http://purl.obolibrary.org/obo/cl/releases/2025-02-03/cl.owl"/></owl:Ontology>
<owl:AnnotationProperty rdf:about="http://purl.obolibrary.org/obo/IAO_0100001"/>
<owl:AnnotationProperty rdf:about="http://www.geneontology.org/formats/oboInOwl#hasExactSynonym"/>
<owl:ObjectProperty rdf:about="http://purl.obolibrary.org/obo/BFO_0000050"/>
<owl:Class rdf:about="http://purl.obolibrary.org/obo/CL_1"><rdfs:label>root thing</rdfs:label></owl:Class>
<owl:Class rdf:about="http://purl.obolibrary.org/obo/CL_2"><rdfs:label>left</rdfs:label>
 <rdfs:subClassOf rdf:resource="http://purl.obolibrary.org/obo/CL_1"/>
 <oboInOwl:hasExactSynonym>sinister</oboInOwl:hasExactSynonym></owl:Class>
<owl:Class rdf:about="http://purl.obolibrary.org/obo/CL_3"><rdfs:label>right</rdfs:label>
 <rdfs:subClassOf><owl:Restriction><owl:onProperty rdf:resource="http://purl.obolibrary.org/obo/BFO_0000050"/>
 <owl:someValuesFrom rdf:resource="http://purl.obolibrary.org/obo/CL_2"/></owl:Restriction></rdfs:subClassOf></owl:Class>
<owl:Class rdf:about="http://purl.obolibrary.org/obo/CL_5"><rdfs:label>obsolete old left</rdfs:label>
 <owl:deprecated rdf:datatype="http://www.w3.org/2001/XMLSchema#boolean">true</owl:deprecated>
 <obo:IAO_0100001 rdf:resource="http://purl.obolibrary.org/obo/CL_2"/></owl:Class>
</rdf:RDF>
"""


@pytest.fixture(scope="module")
def cl() -> CellOntology:
    return CellOntology.bundled()


@pytest.fixture
def small(tmp_path: Path) -> CellOntology:
    (tmp_path / "small.obo").write_text(OBO)
    return CellOntology.from_obo(tmp_path / "small.obo")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("CL:0000084", T),
        ("cl:0000084", T),
        ("CL_0000084", T),
        ("http://purl.obolibrary.org/obo/CL_0000084", T),
        ("T cell", T),
        (" t CELL ", T),
        ("T-lymphocyte", T),
        ("CL:0000003", "CL:0000000"),
        ("native cell", "CL:0000000"),
        ("no such cell", None),
        ("", None),
    ],
)
def test_terms_are_found_by_any_of_their_names(cl: CellOntology, given: str, expected: str | None) -> None:
    assert cl.resolve(given) == expected
    assert (given in cl) == (expected is not None)


def test_relations_of_the_bundled_ontology(cl: CellOntology) -> None:
    assert len(cl) > 3000 and cl.version == "2026-03-26"
    assert cl.name(T) == "T cell" and "T lymphocyte" in cl.synonyms(T)
    assert cl.parents(T) == {cl.resolve("lymphocyte")}
    assert cl.resolve("leukocyte") in cl.ancestors(T) and T not in cl.ancestors(T)
    assert CD4 in cl.descendants(T) and T not in cl.descendants(T)
    assert cl.depth("CL:0000000") == 0 and cl.depth(CD4) > cl.depth(T) > 3
    assert cl.comparable(T, CD4) and cl.comparable(CD4, T) and cl.comparable(T, T)
    assert not cl.comparable(CD4, CD8) and not cl.comparable(T, B)
    assert cl.name(cl.lca(CD4, CD8)) == "mature alpha-beta T cell"
    assert cl.lca(T, CD4) == T and cl.lca(B) == B
    assert CellOntology.bundled() is cl


def test_every_term_descends_from_cell(cl: CellOntology) -> None:
    roots = [i for i in cl.ids if not cl.parents(i)]
    outside = [i for i in cl.ids if i != "CL:0000000" and "CL:0000000" not in cl.ancestors(i)]
    assert "CL:0000000" in roots and len(outside) < 0.01 * len(cl)


def test_generic_terms(cl: CellOntology) -> None:
    assert cl.is_generic("cell") and cl.is_generic("CL:0000003") and cl.is_generic("eukaryotic cell")
    assert not cl.is_generic("leukocyte") and not cl.is_generic("no such cell")
    assert all(term in cl.ids for term in GENERIC)


def test_unknown_terms_and_empty_calls_are_refused(cl: CellOntology) -> None:
    with pytest.raises(KeyError, match="'T cel' is not a term of the ontology. Did you mean 'T cell'"):
        cl.ancestors("T cel")
    with pytest.raises(ValueError, match="at least one term"):
        cl.lca()


def test_the_bundled_ontology_loads_without_a_parser() -> None:
    code = "import sys, scim; scim.CellOntology.bundled().resolve('T cell'); print('owlready2' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_obo(small: CellOntology) -> None:
    assert small.ids.tolist() == ["CL:1", "CL:2", "CL:3", "CL:4"] and small.version == "2026-01-01"
    assert small.resolve('sinister "one"') == "CL:2" and small.resolve("leftish") is None
    assert small.resolve("CL:5") == "CL:2" and small.resolve("older left") == "CL:2"
    assert small.ancestors("CL:3") == {"CL:1"}
    assert small.parents("both") == {"CL:2", "CL:3"} and small.depth("both") == 2
    assert small.lca("CL:2", "CL:3") == "CL:1" and small.lca("both", "left") == "CL:2"


def test_owl(tmp_path: Path) -> None:
    pytest.importorskip("owlready2")
    with gzip.open(tmp_path / "tiny.owl.gz", "wt") as file:
        file.write(OWL)
    tiny = CellOntology.from_owl(tmp_path / "tiny.owl.gz")
    assert tiny.ids.tolist() == ["CL:1", "CL:2", "CL:3"] and tiny.version == "2025-02-03"
    assert tiny.resolve("sinister") == "CL:2" and tiny.resolve("CL_5") == "CL:2" and tiny.resolve("old left") == "CL:2"
    assert tiny.ancestors("left") == {"CL:1"} and tiny.ancestors("right") == set()  # part_of is no is_a


@pytest.mark.parametrize("reader", ["from_owl", "from_obo"])
def test_other_files_are_refused(reader: str, tmp_path: Path) -> None:
    if reader == "from_owl":
        pytest.importorskip("owlready2")
    read = getattr(CellOntology, reader)
    (tmp_path / "text.txt").write_text("nothing of the kind")
    (tmp_path / "bytes.gz").write_bytes(b"\x00\xff\x00")
    with pytest.raises(ValueError, match="text.txt"):
        read(tmp_path / "text.txt")
    with pytest.raises(ValueError, match="bytes.gz cannot be read"):
        read(tmp_path / "bytes.gz")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent.obo")


def test_a_broken_ontology_is_refused() -> None:
    with pytest.raises(ValueError, match="CL:1 descends from itself"):
        CellOntology(["CL:1", "CL:2"], ["a", "b"], [["CL:2"], ["CL:1"]]).ancestors("a")
    with pytest.raises(ValueError, match="a term twice"):
        CellOntology(["CL:1", "CL:1"], ["a", "b"], [[], []])
    with pytest.raises(ValueError, match="same length"):
        CellOntology(["CL:1"], ["a", "b"], [[], []])


@pytest.mark.slow
def test_real_owl_agrees_with_the_bundle(shared_dir: Path, cl: CellOntology) -> None:
    pytest.importorskip("owlready2")
    owl = CellOntology.from_owl(shared_dir / "ontology" / "cl.v2024-04-05.owl.gz")
    assert owl.version == "2024-04-05" and len(owl) > 2500
    assert owl.resolve("CL:0000003") == "CL:0000000" and owl.resolve("T-cell") == T
    shared = [i for i in owl.ids if i in set(cl.ids)]
    same = [cl.resolve("leukocyte") in cl.ancestors(i) for i in shared]
    then = [owl.resolve("leukocyte") in owl.ancestors(i) for i in shared]
    assert np.mean(np.array(same) == np.array(then)) > 0.98
    assert all(i.startswith("CL:") for i in owl.ids)


def test_term_space_of_a_family(cl: CellOntology) -> None:
    space = cl.term_space(["T cell", CD4, "B cell", "my own type", "NK cell"])
    assert space.label_ids[:4].tolist() == [T, CD4, B, "my own type"]
    assert space.comparable[0, 1] and space.comparable[1, 0] and not space.comparable[0, 2]
    assert space.comparable.diagonal().all() and not space.comparable[3, :3].any()
    for label, term in enumerate(space.label_ids):
        under = {t for t in [term, *(cl.ancestors(term) if term in cl else ())] if t not in GENERIC}
        assert {str(t) for t in space.terms[space.closure[label]]} == under
    assert not GENERIC & set(space.terms)
    assert space.n_below[space.terms.tolist().index(T)] == 2
    assert space.terms[space.label_term].tolist() == space.label_ids.tolist()


def test_descendants_are_more_specific_than_their_ancestors(cl: CellOntology) -> None:
    space = cl.term_space([T, CD4, CD8, B, NK, "monocyte", "alien"])
    rank = {term: int(r) for term, r in zip(space.terms, space.specificity(), strict=True)}
    assert sorted(rank.values()) == list(range(len(rank)))
    for term in rank:
        if term in cl:
            assert all(rank[term] < rank[above] for above in cl.ancestors(term) if above in rank)
    shared = np.flatnonzero(space.closure[0] & space.closure[4])
    assert space.term_names[min(shared, key=lambda term: space.specificity()[term])] == "lymphocyte"


def test_term_space_survives_json(cl: CellOntology) -> None:
    space = cl.term_space([T, CD4, "alien"])
    again = TermSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    for field in ("labels", "label_ids", "terms", "closure", "comparable", "label_term", "depth", "n_below"):
        np.testing.assert_array_equal(getattr(again, field), getattr(space, field))
        assert getattr(again, field).dtype == getattr(space, field).dtype
    broken = space.to_dict()
    del broken["closure"]
    with pytest.raises(ValueError, match="cannot be read"):
        TermSpace.from_dict(broken)


def test_flat_ontology_keeps_labels_apart() -> None:
    flat = CellOntology.flat(["a", "b", "a"])
    space = flat.term_space(["a", "b"])
    assert flat.version == "flat" and len(flat) == 2 and "CellOntology of 2 terms" in repr(flat)
    np.testing.assert_array_equal(space.comparable, np.eye(2, dtype=bool))
    np.testing.assert_array_equal(space.closure, np.eye(2, dtype=bool))
    assert flat.lca("a", "b") is None


def test_more_synonyms() -> None:
    known = CellOntology.bundled()
    more = known.with_synonyms({"CD14+ Mono": "CD14-positive monocyte", "T cell": "B cell", " NKs ": "CL:0000623"})
    assert more.resolve("cd14+ mono") == "CL:0001054"
    assert more.resolve("NKs") == "CL:0000623"
    assert more.resolve("T cell") == known.resolve("T cell")  # what is a term's stays that term's
    assert known.resolve("CD14+ Mono") is None
    assert (more.version, len(more)) == (known.version, len(known))
    assert more.source != known.source
    assert more.ancestors("CL:0001054") == known.ancestors("CL:0001054")
    with pytest.raises(ValueError, match="table\\['x'\\] is 'no cell', which is not a term of the ontology"):
        known.with_synonyms({"x": "no cell"})


@pytest.mark.parametrize(
    ("term", "other", "relation"),
    [
        ("B cell", "CL:0000236", "same"),
        ("lymphocyte", "B cell", "broader"),
        ("CL:0000788", "B cell", "finer"),
        ("T cell", "B cell", "other"),
        ("my own", "my own", "same"),
        ("my own", "B cell", "other"),
    ],
)
def test_relation_of_two_terms(term: str, other: str, relation: str) -> None:
    assert CellOntology.bundled().relation(term, other) == relation


CODES = (
    "DC2",
    "DC1",
    "C42",
    "c43",
    "G5",
    "G24",
    "IC",
    "VIP",
    "FS",
    "PD",
    "AB",
    "LP",
    "GM",
    "ARC",
    "LAMP5",
    "pDC",
    "Treg",
)


@pytest.mark.parametrize("code", CODES)
def test_short_codes_are_synonyms_only_if_asked(code: str) -> None:
    ontology = CellOntology.bundled()
    assert ontology.resolve(code) is None and code not in ontology
    found = ontology.resolve(code, codes=True)
    assert found is not None and code.casefold() in map(str.casefold, ontology.synonyms(found))
    assert code.casefold() not in map(str.casefold, ontology.synonyms(found, codes=False))
    own = ontology.with_synonyms({code: "B cell"})
    assert own.resolve(code) == B and own.resolve(code.casefold()) == B
    assert ontology.resolve(code) is None


def test_synonyms_of_other_animals_are_taken_only_if_asked() -> None:
    ontology = CellOntology.bundled()
    assert ontology.resolve("alpha cell") is None
    assert ontology.name(ontology.resolve("alpha cell", codes=True) or "") == "alpha retinal ganglion cell (Mmus)"
    assert ontology.resolve("alpha retinal ganglion cell (Mmus)") is not None


def test_labels_by_synonym_are_told() -> None:
    ontology = CellOntology.bundled()
    labels = ["T cell", "t CELL", "CL:0000084", "CL_0000084", "T lymphocyte", "osteoprogenitor cell", "mine", "DC2"]
    assert ontology.by_synonym(labels) == {"T lymphocyte": "T cell", "osteoprogenitor cell": "preosteoblast"}
