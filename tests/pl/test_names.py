"""Names of terms are short, and still different."""

from __future__ import annotations

import pytest

import scim
from scim.pl._names import cut, folded, short_names


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("CD8-positive, alpha-beta memory T cell", "CD8+ memory T cell"),
        ("CD4-positive, CD25-positive, alpha-beta regulatory T cell", "CD4+ CD25+ regulatory T cell"),
        ("CD14-low, CD16-positive monocyte", "CD14low CD16+ monocyte"),
        ("mature alpha-beta T cell", "mature αβ T cell"),
        ("T cell", "T cell"),
    ],
)
def test_names_are_shortened(name: str, short: str) -> None:
    assert short_names([name])[name] == short


def test_no_two_terms_get_the_same_short_name() -> None:
    names = list(map(str, scim.CellOntology.bundled().names))
    assert len(set(short_names(names).values())) == len(set(names))
    same = ["CD4-positive, alpha-beta T cell", "CD4+ T cell"]
    assert list(short_names(same).values()) == same


def test_lines_are_even_and_a_t_cell_stays_whole() -> None:
    assert folded("effector CD8+ T cell", 17) == "effector\nCD8+ T cell"
    assert folded("B cell", 17) == "B cell"
    assert folded("", 17) == ""


def test_a_name_is_cut_with_a_sign() -> None:
    assert cut("abcdef", 6) == "abcdef" and cut("abcdefg", 6) == "abcde…"
