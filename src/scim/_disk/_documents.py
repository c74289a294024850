"""Read and write JSON with its own hash, arrays and tensors."""

from __future__ import annotations

import hashlib
import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._atomic import sync
from ._checksums import _REMEDY, FolderError

#: Version of the formats that this scim writes and reads, unless a format has a version of its own.
FORMAT = 1


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write a safetensors file with the permissions of the umask. Its own writer gives access to the user only."""
    from safetensors.numpy import save

    path.write_bytes(save(dict(tensors)))


def write_json(path: Path, kind: str, content: Mapping[str, Any], *, version: int = FORMAT) -> dict[str, Any]:
    """Write JSON with its own hash, in one step: readers see the old or the new document. Return the document."""
    document = plain({"format": kind, "version": version, **content})
    document["sha256"] = _digest(document)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)
    return document


def read_json(path: Path, kind: str, error: type[FolderError], *, newest: int = FORMAT) -> dict[str, Any]:
    """Read a document of :func:`write_json` and check its kind, version and hash.

    A file of another kind or a newer version, or one that was damaged or edited, raises ``error``.
    """
    try:
        document = json.loads(path.read_bytes().decode("utf-8"))
    except ValueError as problem:
        raise error(f"{path} is damaged: {problem}. {_REMEDY}") from problem
    if not isinstance(document, dict) or document.get("format") != kind:
        raise error(f"{path} does not describe a {kind.replace('-', ' ')}.")
    version = document.get("version")
    if isinstance(version, int) and version > newest:
        raise error(f"{path} has format {version}, this scim reads up to {newest}. Update scim-tools.")
    if document.get("sha256") != _digest(document):
        raise error(f"{path} was changed since it was written (its SHA-256 differs). {_REMEDY}")
    return document


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps({k: v for k, v in document.items() if k != "sha256"}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any) -> Any:
    """Convert a value to one of JSON: arrays and sets to lists, NaN and infinity to null, paths to text."""
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, set | frozenset):
        return sorted(map(plain, value), key=str)
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def load_arrays(path: Path, error: type[ValueError], *, remedy: str) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file, or the array of an .npy file under the name ``""``. Nothing is unpickled.

    A file that cannot be read raises ``error``, whose message ends with the ``remedy``.
    """
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            return {"": found} if isinstance(found, np.ndarray) else {name: np.asarray(found[name]) for name in found}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as problem:
        raise error(f"{path} is damaged: {problem}. {remedy}") from problem
