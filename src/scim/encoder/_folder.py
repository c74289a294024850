"""An encoder as a folder: encoder.json, encoder.safetensors, genes.txt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._disk import FolderError, check_files, describe_files, new_folder, read_json, write_json, write_tensors
from ..genes import GeneSpace

KIND = "scim-encoder"
JSON = "encoder.json"
WEIGHTS = "encoder.safetensors"
GENES = "genes.txt"


#: End of the name of a matrix that is stored column by column.
_TURNED = ".T"


class EncoderFolderError(FolderError):
    """A folder is no encoder, or one that was damaged, edited, or written by a newer scim."""


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
    with new_folder(path, marker=JSON, what="encoder", overwrite=overwrite) as scratch:
        tensors = {f"encoder.{name}": array for name, array in weights.items()}
        tensors |= {f"decoder.{name}": array for name, array in (decoder or {}).items()}
        # safetensors writes an array as it lies in memory, whatever its order.
        is_turned = {name: array.ndim == 2 and not array.flags.c_contiguous for name, array in tensors.items()}
        tensors = {
            f"{name}{_TURNED}" if is_turned[name] else name: np.ascontiguousarray(array.T if is_turned[name] else array)
            for name, array in tensors.items()
        }
        write_tensors(scratch / WEIGHTS, {name: _compact(array) for name, array in tensors.items()})
        genes.save(scratch / GENES)
        write_json(scratch / JSON, KIND, {**facts, "files": describe_files(scratch, (WEIGHTS, GENES))})


def _compact(array: np.ndarray) -> np.ndarray:
    """As float16 where that loses nothing, as with matrices that were rounded to it."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if array.ndim == 2 and np.array_equal(half, array) else array


def read_folder(path: Path) -> tuple[GeneSpace, dict[str, np.ndarray], dict[str, Any]]:
    """Genes, weights and facts of a folder that :func:`write_folder` wrote; not the decoder, which few ever need.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    EncoderFolderError
        It is something else, of a newer version, or a file is missing, broken or edited; the message names it.
    """
    from safetensors import SafetensorError

    if not path.exists():
        raise FileNotFoundError(f"There is no encoder at {path}. Write one with Encoder.save.")
    if not (path / JSON).is_file():
        raise EncoderFolderError(f"{path} is no encoder: it has no {JSON}. Write one with Encoder.save.")
    facts = read_json(path / JSON, KIND, EncoderFolderError)
    if missing := {WEIGHTS, GENES} - set(facts.get("files", ())):
        raise EncoderFolderError(f"{path / JSON} does not list {min(missing)}. Save the encoder again.")
    check_files(path, {name: facts["files"][name] for name in facts["files"] if name != WEIGHTS}, EncoderFolderError)
    try:
        names = (path / GENES).read_text(encoding="utf-8").splitlines()
        genes = GeneSpace(names, id_kind=facts.get("gene_ids"), aliases=facts.get("gene_aliases", True))
        weights = read_part(path, "encoder")
    except (SafetensorError, ValueError) as error:
        raise EncoderFolderError(f"{path} is damaged: {error}. Save the encoder again.") from error
    return genes, weights, facts


def read_part(path: Path, part: str) -> dict[str, np.ndarray]:
    """Weights of the ``"encoder"`` or the ``"decoder"``, empty where there is none; the file is checked before.

    Raises
    ------
    FileNotFoundError, EncoderFolderError
        The folder is gone, or its weights are not those that its encoder.json lists.
    """
    from safetensors import safe_open

    facts = read_json(path / JSON, KIND, EncoderFolderError)
    check_files(path, {WEIGHTS: facts["files"][WEIGHTS]}, EncoderFolderError)
    with safe_open(path / WEIGHTS, framework="np") as file:
        names = [name for name in file.keys() if name.startswith(f"{part}.")]
        tensors = {
            name.removeprefix(f"{part}."): file.get_tensor(name).astype(np.float32, copy=False) for name in names
        }
    return {name.removesuffix(_TURNED): a.T if name.endswith(_TURNED) else a for name, a in tensors.items()}
