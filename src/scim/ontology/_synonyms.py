"""Which texts mean a term: ids, names, synonyms, and codes that are synonyms for few people only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

#: Letters and digits of a word that may be a code: "DC2" is a plasmacytoid dendritic cell in some papers, and a kind of
#: myeloid dendritic cell in most.
_CODE_LETTERS = 4
#: Letters and digits of a word without small letters that may be a code, such as "LAMP5" and "FTESC".
_CODE_CAPITALS = 6
#: Terms of animals other than vertebrates, and of mouse: their synonyms are words of another field.
_FOREIGN = re.compile(
    r"\(sensu (?!vertebrata|mammalia|homo)|\(mmus\)|\(mus musculus\)|, mouse\b|\bmouse\)", re.IGNORECASE
)


class Texts(NamedTuple):
    """Case-folded text -> id: what always means a term, and codes that are taken only if asked for."""

    words: dict[str, str]
    codes: dict[str, str]


def is_code(synonym: str) -> bool:
    """Whether a synonym is so short that it means other things to other people.

    Examples
    --------
    >>> is_code("DC2"), is_code("LAMP5"), is_code("T-cell"), is_code("NK cell")
    (True, True, False, False)
    """
    letters = re.sub(r"[\W_]", "", synonym)
    if " " in synonym.strip():
        return False
    return len(letters) <= _CODE_LETTERS or (len(letters) <= _CODE_CAPITALS and letters == letters.upper())


def read_texts(
    ids: Iterable[str],
    names: Iterable[str],
    synonyms: Iterable[Iterable[str]],
    given: Mapping[str, str],
    obsolete: Mapping[str, str],
    replaced: Mapping[str, str],
) -> Texts:
    """Read which texts mean a term.

    Names have priority over synonyms, and synonyms of several terms are left out. Codes, and synonyms of terms of
    other animals, mean a term only if asked for.

    Parameters
    ----------
    ids, names, synonyms
        Ids, names and exact synonyms of the terms.
    given
        Synonyms that the user gave -> ids.
    obsolete
        Names of obsolete terms -> ids of the terms that replace them.
    replaced
        Obsolete ids -> ids that replace them.
    """
    ids, names = list(ids), list(names)
    texts = Texts({}, {})
    shared: set[str] = set()
    for term, name, mine in zip(ids, names, synonyms, strict=True):
        is_foreign = _FOREIGN.search(name) is not None
        for synonym in mine:
            key, table = synonym.casefold(), texts.codes if is_foreign or is_code(synonym) else texts.words
            if table.setdefault(key, term) != term:
                shared.add(key)
    for key in shared:
        texts.words.pop(key, None)
        texts.codes.pop(key, None)
    words = texts.words
    words.update((name.casefold(), new) for name, new in obsolete.items() if name)
    words.update((old.casefold(), new) for old, new in replaced.items())
    words.update((word.casefold(), term) for word, term in given.items())
    words.update((name.casefold(), term) for term, name in zip(ids, names, strict=True))
    words.update((term.casefold(), term) for term in ids)
    return texts
