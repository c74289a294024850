"""Read an ontology from OWL (RDF/XML) with owlready2."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

_TERM = re.compile(r"^[A-Za-z]+_\d+$")
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")


def read_owl(path: Path, *, prefix: str = "CL") -> dict[str, Any]:
    """Read the terms of a prefix, and ``is_a`` between named terms: arguments of ``CellOntology``.

    Parameters
    ----------
    path
        RDF/XML, gzipped or not.
    prefix
        Prefix of the ids. Terms of other ontologies in the file are skipped.

    Raises
    ------
    ValueError
        The file is not OWL, or holds no term of the prefix.
    """
    import owlready2

    # Not the default world, which the whole process shares.
    world = owlready2.World()
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            loaded = world.get_ontology("http://scim.invalid/ontology#").load(fileobj=file, only_local=True)
    except FileNotFoundError:
        raise
    except (owlready2.base.OwlReadyOntologyParsingError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as OWL in RDF/XML ({type(error).__name__}: {error}).") from error
    classes = {c.name: c for c in loaded.classes() if _TERM.match(c.name) and c.name.startswith(f"{prefix}_")}
    if not classes:
        raise ValueError(f"{path} holds no term of {prefix}. Is it the right ontology?")
    obsolete = {name for name, c in classes.items() if True in _values(c, "deprecated")}
    alive = sorted(set(classes) - obsolete)
    return {
        "ids": [_curie(name) for name in alive],
        "names": [_label(classes[name]) for name in alive],
        "parents": [
            [_curie(p.name) for p in classes[name].is_a if getattr(p, "name", None) in classes] for name in alive
        ],
        "synonyms": [sorted({str(s) for s in _values(classes[name], "hasExactSynonym")}) for name in alive],
        "replaced": {
            _curie(name): _curie(str(getattr(new, "name", new)).rsplit("/", 1)[-1])
            for name in sorted(obsolete)
            for new in _values(classes[name], "IAO_0100001")
        },
        "obsolete_names": {_label(classes[name]).removeprefix("obsolete "): _curie(name) for name in sorted(obsolete)},
        "version": _version(path),
        "source": path.name,
    }


def _values(term: Any, name: str) -> list[Any]:
    return list(getattr(term, name, None) or [])


def _label(term: Any) -> str:
    labels = _values(term, "label")
    return str(labels[0]) if labels else _curie(term.name)


def _curie(name: str) -> str:
    return name.replace("_", ":", 1)


def _version(path: Path) -> str:
    """Return the date in the file's ``versionIRI``, which is in its first lines."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as file:
        head = file.read(20_000).decode("utf-8", "replace")
    line = next((line for line in head.splitlines() if "versionIRI" in line), "")
    found = _VERSION.search(line)
    return found.group() if found else ""
