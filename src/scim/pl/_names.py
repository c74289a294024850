"""Short names of terms, so that they have room in a figure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

#: What is replaced, in this order. A marker gene says as much with a sign as with a word.
_SHORTER = (
    (re.compile(r"\bthymus-derived "), ""),
    (re.compile(r"(CD[48](?:-alpha-alpha)?-positive), (CD\d+-positive), alpha-beta "), r"\1 \2 "),
    (re.compile(r"(CD[48]-positive), alpha-beta "), r"\1 "),
    (re.compile(r"\balpha-beta\b"), "αβ"),
    (re.compile(r"\bgamma-delta\b"), "γδ"),
    (re.compile(r"(\w)-positive\b"), r"\1+"),
    (re.compile(r"(\w)-negative\b"), r"\1−"),
    (re.compile(r"(CD\d+)-(low|high|dim|bright)\b"), r"\1\2"),
    (re.compile(r"([+−]|low|high|dim|bright), (?=CD)"), r"\1 "),
    (re.compile(r"\bmucosal[- ]associated invariant T\b"), "MAIT"),
    (re.compile(r"\bprofessional antigen presenting cell\b"), "antigen presenting cell"),
)


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Shorten names of terms: name -> short name. Names that would become the same stay as they are.

    Examples
    --------
    >>> short_names(["naive thymus-derived CD4-positive, alpha-beta T cell", "B cell"])
    {'naive thymus-derived CD4-positive, alpha-beta T cell': 'naive CD4+ T cell', 'B cell': 'B cell'}
    """
    short = {name: _shorten(name) for name in dict.fromkeys(names)}
    used = Counter(short.values())
    return {name: text if used[text] == 1 else name for name, text in short.items()}


def folded(name: str, width: int) -> str:
    """Break a name into lines of about ``width`` characters and similar length; "T cell" stays on one line.

    Examples
    --------
    >>> folded("CD4-positive memory T cell", 20).splitlines()
    ['CD4-positive', 'memory T cell']
    """
    text = re.sub(r"\b(\w) cell", "\\1\N{NO-BREAK SPACE}cell", name)
    for n in range(width // 2, width + 1):  # the narrowest lines of which there are as few as at full width
        lines = _wrapped(text, n)
        if len(lines) <= len(_wrapped(text, width)):
            break
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    # textwrap breaks at ASCII white space only.
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [text]


def cut(name: str, width: int) -> str:
    """Cut a name to ``width`` characters.

    Examples
    --------
    >>> cut("mononuclear phagocyte", 12)
    'mononuclear…'
    """
    return name if len(name) <= width else f"{name[: width - 1].rstrip()}…"


def _shorten(name: str) -> str:
    for pattern, text in _SHORTER:
        name = pattern.sub(text, name)
    return name
