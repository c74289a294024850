"""Read the ontologies that come with scim."""

from __future__ import annotations

import gzip
import json
import lzma
from importlib.resources import files
from typing import Any


def read_bundled(name: str) -> dict[str, Any]:
    """Read a file of ``scim/_data``, .json.gz or .json.xz: arguments of ``CellOntology``, without ``source``."""
    packed = (files("scim") / "_data" / name).read_bytes()
    saved: dict[str, Any] = json.loads((lzma if name.endswith(".xz") else gzip).decompress(packed))
    return saved
