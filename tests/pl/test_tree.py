"""The tree of labels: who is above whom, what is counted, and what is left out."""

from __future__ import annotations

import scim
from scim.pl._tree import in_order, term_tree

ONTOLOGY = scim.CellOntology.bundled()


def names(**counts: int) -> dict[str, int]:
    return {name.replace("_", " "): n for name, n in counts.items()}


def test_a_term_stands_below_its_ancestor_and_counts_for_it() -> None:
    nodes = term_tree(names(T_cell=2, B_cell=3, naive_B_cell=4), ONTOLOGY)
    found = {node.name: node for node in nodes}
    assert list(found) == ["lymphocyte", "B cell", "naive B cell", "T cell"]
    assert [found[name].level for name in found] == [0, 1, 2, 1]
    assert (found["B cell"].own, found["B cell"].below) == (3, 7)
    assert (found["lymphocyte"].own, found["lymphocyte"].below) == (0, 9)
    assert nodes[found["naive B cell"].parent].name == "B cell"


def test_ancestors_that_join_nothing_are_left_out() -> None:
    assert [node.name for node in term_tree({"natural killer cell": 5}, ONTOLOGY)] == ["natural killer cell"]


def test_a_term_of_two_parents_stands_below_the_larger_and_counts_for_both() -> None:
    cd4, naive = "CD4-positive, alpha-beta T cell", "naive thymus-derived CD4-positive, alpha-beta T cell"
    nodes = term_tree({cd4: 50, "naive T cell": 5, naive: 20}, ONTOLOGY)
    found = {node.name: node for node in nodes}
    assert nodes[found[naive].parent].name == cd4
    assert found[cd4].below == 70 and found["naive T cell"].below == 25


def test_ids_and_synonyms_are_one_term_and_strangers_stand_alone() -> None:
    nodes = term_tree({"CL:0000084": 1, "T lymphocyte": 2, "my own": 1, "unassigned": 9}, ONTOLOGY)
    assert [(node.name, node.own) for node in nodes] == [("T cell", 3), ("my own", 1), ("unassigned", 9)]


def test_order_keeps_kin_together_and_unassigned_last() -> None:
    given = ["unassigned", "naive B cell", "monocyte", "memory B cell", "CL:0000236"]
    order = in_order(given, ONTOLOGY)
    assert order[-1] == "unassigned" and set(order) == set(given)
    assert sorted(map(order.index, ["naive B cell", "memory B cell", "CL:0000236"])) in ([0, 1, 2], [1, 2, 3])
