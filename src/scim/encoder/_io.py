"""An encoder as a folder: encoder.json, encoder.safetensors, genes.txt."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..genes import GeneSpace

FORMAT = 1
JSON, WEIGHTS, GENES = "encoder.json", "encoder.safetensors", "genes.txt"


class EncoderFolderError(ValueError):
    """A folder is no encoder, or one that was damaged or edited."""


def write_folder(
    path: Path,
    *,
    genes: GeneSpace,
    weights: Mapping[str, np.ndarray],
    decoder: Mapping[str, np.ndarray] | None,
    facts: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """Write the folder beside its place and move it there when it is whole."""
    from safetensors.numpy import save_file

    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already. Choose another path, or pass overwrite=True.")
    if path.exists() and not (path / JSON).is_file() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} is no encoder, and is not overwritten. Choose another path.")
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        tensors = {f"encoder.{name}": array for name, array in weights.items()}
        tensors |= {f"decoder.{name}": np.ascontiguousarray(array) for name, array in (decoder or {}).items()}
        save_file(tensors, scratch / WEIGHTS)
        genes.save(scratch / GENES)
        text = json.dumps({"format": "scim-encoder", "version": FORMAT, **facts}, indent=2, ensure_ascii=False)
        (scratch / JSON).write_text(text + "\n", encoding="utf-8")
        scratch.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        os.replace(scratch, path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def read_folder(
    path: Path,
) -> tuple[GeneSpace, dict[str, np.ndarray], dict[str, np.ndarray] | None, dict[str, Any]]:
    """Genes, weights, decoder and facts of a folder that :func:`write_folder` wrote.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    EncoderFolderError
        It is something else, of a newer version, or a file is missing or broken.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.exists():
        raise FileNotFoundError(f"There is no encoder at {path}.")
    if not (path / JSON).is_file():
        raise EncoderFolderError(f"{path} is no encoder: it has no {JSON}. Write one with Encoder.save.")
    try:
        facts = json.loads((path / JSON).read_text(encoding="utf-8"))
    except ValueError as error:
        raise EncoderFolderError(f"{path / JSON} is damaged: {error}. Save the encoder again.") from error
    if not isinstance(facts, dict) or facts.get("format") != "scim-encoder":
        raise EncoderFolderError(f"{path / JSON} does not describe a scim encoder.")
    if facts.get("version", 0) > FORMAT:
        raise EncoderFolderError(f"{path} has format {facts['version']}, this scim reads up to {FORMAT}. Update scim.")
    for name in (WEIGHTS, GENES):
        if not (path / name).is_file():
            raise EncoderFolderError(f"{path / name} is missing. Save the encoder again.")
    try:
        genes = GeneSpace.load(path / GENES)
        tensors = load_file(path / WEIGHTS)
    except (SafetensorError, ValueError, OSError) as error:
        raise EncoderFolderError(f"{path} is damaged: {error}. Save the encoder again.") from error
    parts: dict[str, dict[str, np.ndarray]] = {"encoder": {}, "decoder": {}}
    for name, array in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = array
    return genes, parts["encoder"], parts["decoder"] or None, facts
