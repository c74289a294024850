"""An encoder as a folder: encoder.json, encoder.safetensors, genes.txt."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._disk import FolderError, check_files, describe_files, new_folder, read_json, write_json, write_tensors
from ..genes import GeneSpace
from ._weights import BN_EPS, hidden_widths

KIND = "scim-encoder"
JSON = "encoder.json"
WEIGHTS = "encoder.safetensors"
GENES = "genes.txt"
#: Suffix of the name of a matrix that is stored transposed.
_TRANSPOSED = ".T"


class EncoderFolderError(FolderError):
    """A folder is not an encoder, or it was damaged, edited, or written by a newer scim."""


def write_folder(
    path: Path,
    *,
    genes: GeneSpace,
    weights: Mapping[str, np.ndarray],
    decoder: Mapping[str, np.ndarray] | None,
    encoder_id: str,
    provenance: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """Write the folder next to its destination and move it there when it is complete."""
    with new_folder(path, marker=JSON, what="encoder", overwrite=overwrite) as scratch:
        tensors = {f"encoder.{name}": array for name, array in weights.items()}
        tensors |= {f"decoder.{name}": array for name, array in (decoder or {}).items()}
        # safetensors writes the memory of an array, whatever its order.
        is_transposed = {name: array.ndim == 2 and not array.flags.c_contiguous for name, array in tensors.items()}
        tensors = {
            f"{name}{_TRANSPOSED}" if is_transposed[name] else name: np.ascontiguousarray(
                array.T if is_transposed[name] else array
            )
            for name, array in tensors.items()
        }
        write_tensors(scratch / WEIGHTS, {name: _compact(array) for name, array in tensors.items()})
        genes.save(scratch / GENES)
        facts = {
            "id": encoder_id,
            "n_genes": len(genes),
            "gene_hash": genes.hash,
            "gene_ids": genes.id_kind,
            "gene_aliases": genes.aliases,
            "n_latent": len(weights["output.bias"]),
            "n_hidden": hidden_widths(weights),
            "normalization": "1e4 per cell over the genes, log1p",
            "batch_norm_eps": BN_EPS,
            "provenance": provenance,
            "files": describe_files(scratch, (WEIGHTS, GENES)),
        }
        write_json(scratch / JSON, KIND, facts)


def _compact(array: np.ndarray) -> np.ndarray:
    """Convert to float16 if no digit is lost, as for matrices that were rounded to it."""
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if array.ndim == 2 and np.array_equal(half, array) else array


def read_folder(path: Path) -> tuple[GeneSpace, dict[str, np.ndarray], dict[str, Any]]:
    """Read genes, weights and facts that :func:`write_folder` wrote, without the decoder, which is rarely needed.

    An EncoderFolderError says that the folder is not an encoder or of a newer version, or that a file is missing,
    damaged or edited.
    """
    from safetensors import SafetensorError

    if not path.exists():
        raise FileNotFoundError(f"There is no encoder at {path}. Write one with Encoder.save.")
    if not (path / JSON).is_file():
        raise EncoderFolderError(f"{path} is not an encoder: {JSON} is missing. Write one with Encoder.save.")
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
    """Read the weights of the ``"encoder"`` or the ``"decoder"`` (empty if there is none) after a check of the file.

    Raise an EncoderFolderError if they differ from those listed in encoder.json.
    """
    from safetensors import safe_open

    facts = read_json(path / JSON, KIND, EncoderFolderError)
    check_files(path, {WEIGHTS: facts["files"][WEIGHTS]}, EncoderFolderError)
    with safe_open(path / WEIGHTS, framework="np") as file:
        names = [name for name in file.keys() if name.startswith(f"{part}.")]
        tensors = {
            name.removeprefix(f"{part}."): file.get_tensor(name).astype(np.float32, copy=False) for name in names
        }
    return {name.removesuffix(_TRANSPOSED): a.T if name.endswith(_TRANSPOSED) else a for name, a in tensors.items()}
