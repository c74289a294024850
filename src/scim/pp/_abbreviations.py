"""Abbreviations of cell types that studies and tools write, and the words of a label.

The table in ``_data/abbreviations.tsv`` says where each abbreviation is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

#: Letters of an abbreviation that must be written in the same case: "B" is a cell, "b" may be a cluster.
_CASED_LETTERS = 2


@dataclass(frozen=True)
class Abbreviation:
    """An abbreviation as studies write it, and names of the terms that it means; if it is unsure, it is not taken."""

    written: str
    terms: tuple[str, ...]
    is_sure: bool

    def fits(self, label: str) -> bool:
        """Whether a label of the same words is written in a case that leaves no doubt."""
        words = re.findall(r"\w+", self.written)
        apart = re.sub(r"(?<=\b[BT])cells?\b", " ", label.replace("_", " "))
        return len(words) > 1 or len(words[0]) > _CASED_LETTERS or words[0] in re.findall(r"\w+", apart)


@cache
def abbreviations() -> dict[str, Abbreviation]:
    """Read the bundled table: words of each abbreviation -> abbreviation."""
    text = (files("scim") / "_data" / "abbreviations.tsv").read_text(encoding="utf-8")
    table = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            written, terms, _ = line.split("\t")
            names = tuple(terms.removeprefix("? ").split(" | "))
            is_sure = len(names) == 1 and not terms.startswith("? ")
            table[_key(written)] = Abbreviation(written, names, is_sure)
    return table


def abbreviation_of(label: str) -> Abbreviation | None:
    """Return the abbreviation with the words of a label; "Alpha cells" goes before "Alpha"."""
    table = abbreviations()
    return table.get(_key(label)) or table.get(normalize(label))


def _key(label: str) -> str:
    """Words of a label; a single word with "cell" is another key than the word."""
    words = normalize(label)
    return f"{words} cell" if says_cell(label) and " " not in words else words


def says_cell(label: str) -> bool:
    """Whether a label has the word "cell" or "cells"."""
    return re.search(r"\bcells?\b", label.casefold().replace("_", " ")) is not None


def normalize(label: str) -> str:
    """Return the words of a label in alphabetical order, without plural, "cell" and punctuation.

    Examples
    --------
    >>> normalize("Naive CD4+ T-cells") == normalize("CD4 naive T cell")
    True
    >>> normalize("CD4- T cell") == normalize("CD4+ T cell")
    False
    >>> normalize("NK_CD56bright") == normalize("CD56 bright NK cells")
    True
    """
    text = re.sub(r"\b([A-Z]{2,}|[a-z][A-Z]{2,})s\b", r"\1", label).casefold().replace("naïve", "naive")
    for letter, name in zip("αβγδεφ", ("alpha", "beta", "gamma", "delta", "epsilon", "phi"), strict=True):
        text = text.replace(letter, f" {name} ")
    text = text.replace("_", " ")
    # A marker and how much of it there is: CD56dim, CD56bright, CD4pos, CD25neg.
    text = re.sub(r"\b(cd\d+[a-z]{0,2}?)(dim|bright|hi|high|lo|low)\b", r"\1 \2", text)
    text = re.sub(r"\b(cd\d+[a-z]{0,2}?)pos\b", r"\1", text)
    text = re.sub(r"\b(cd\d+[a-z]{0,2}?)neg\b", r"\1 negative", text)
    text = re.sub(r"\b([bt])(cells?)\b", r"\1 \2", text)
    # A minus after a marker means "without it"; any other dash joins words.
    text = re.sub(r"\b(cd\d+[a-z]{0,2}|[a-z]+\d+[a-z]?)-(?=\W|$)", r"\1 negative", text)
    text = re.sub(r"(?<=\w)\+|\bpositive\b|-positive\b", " ", text).replace("-negative", " negative")
    text = re.sub(r"[^\w]+", " ", text)
    words = [_singular(word) for word in text.split()]
    return " ".join(sorted(word for word in words if word != "cell")) or label.casefold()


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
