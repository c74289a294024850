"""Read ids, names, is_a relations, exact synonyms and replacements of terms from OBO."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

_EXACT = re.compile(r'^"((?:[^"\\]|\\.)*)"\s+EXACT')
_ESCAPED = re.compile(r"\\(.)")


def read_obo(path: Path, *, prefix: str = "CL") -> dict[str, Any]:
    """Read the terms of a prefix, or all terms if none has it, from OBO 1.2 or 1.4: arguments of ``CellOntology``.

    Raises
    ------
    ValueError
        The file is not OBO, or holds no term.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (UnicodeDecodeError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} cannot be read as OBO ({type(error).__name__}: {error}).") from error
    header, stanzas = _stanzas(lines)
    if not any("id" in stanza for stanza in stanzas):
        raise ValueError(f"{path} holds no [Term] with an id: it is not an OBO file, or it is empty.")
    terms = {stanza["id"][0]: stanza for stanza in stanzas if "id" in stanza}
    chosen = {i: t for i, t in terms.items() if i.startswith(f"{prefix}:")} or terms
    obsolete = {i: t for i, t in chosen.items() if t.get("is_obsolete", ["false"])[0] == "true"}
    alive = sorted(set(chosen) - set(obsolete))
    return {
        "ids": alive,
        "names": [chosen[i].get("name", [i])[0] for i in alive],
        "parents": [[p.split("!")[0].split("{")[0].strip() for p in chosen[i].get("is_a", [])] for i in alive],
        "synonyms": [
            sorted({_ESCAPED.sub(r"\1", m.group(1)) for s in chosen[i].get("synonym", []) if (m := _EXACT.match(s))})
            for i in alive
        ],
        "replaced": {i: t["replaced_by"][0].split("!")[0].strip() for i, t in obsolete.items() if "replaced_by" in t},
        "obsolete_names": {t["name"][0].removeprefix("obsolete "): i for i, t in obsolete.items() if "name" in t},
        "version": header.get("data-version", [""])[0].rsplit("/", 1)[-1],
        "source": path.name,
    }


def _stanzas(lines: list[str]) -> tuple[dict[str, list[str]], list[dict[str, list[str]]]]:
    """Split lines into the header and the [Term] stanzas, each as tag -> values."""
    header: dict[str, list[str]] = {}
    terms: list[dict[str, list[str]]] = []
    current = header
    for line in lines:
        text = line.strip()
        if text.startswith("["):
            current = {}
            if text == "[Term]":
                terms.append(current)
            continue
        tag, colon, value = text.partition(":")
        if colon and not text.startswith("!"):
            current.setdefault(tag.strip(), []).append(value.strip())
    return header, terms
