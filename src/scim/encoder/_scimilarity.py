"""Read and write folders of SCimilarity 0.4 models without its code."""

from __future__ import annotations

import csv
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from .._disk import new_folder
from ._folder import EncoderFolderError
from ._weights import count_layers, hidden_widths

ENCODER = "encoder.ckpt"
DECODER = "decoder.ckpt"
GENES = "gene_order.tsv"
LAYER_SIZES = "layer_sizes.json"
LABELS = "label_ints.csv"
HYPERPARAMETERS = "hyperparameters.json"
METADATA = "metadata.json"
#: Position of a module in a block, relative to its Linear, and SCimilarity's names of weights -> scim's.
_MODULES = (
    (0, {"weight": "weight", "bias": "bias"}),
    (1, {"weight": "bn.weight", "bias": "bn.bias", "running_mean": "bn.mean", "running_var": "bn.var"}),
    (2, {"weight": "prelu"}),
)


def read_genes(folder: Path) -> list[str]:
    """Gene symbols of a model, in the order of its input."""
    path = _there(folder, GENES)
    try:
        # A file saved on Windows may begin with a byte order mark.
        genes = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise EncoderFolderError(f"{path} is not a list of genes: {error}. Download the model again.") from error
    if wrong := next((gene for gene in genes if "\t" in gene), None):
        raise EncoderFolderError(f"{path} has more than one column ({wrong!r}); it should have one gene per line.")
    return genes


def read_weights(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Read the weights of a checkpoint under canonical names. Only tensors are loaded.

    Raise an EncoderFolderError if it is damaged, holds other objects than tensors, or is of another network.
    """
    import torch

    path = _there(folder, name)
    try:
        with warnings.catch_warnings():
            # About the version of the pickle: unreadable checkpoints raise.
            warnings.simplefilter("ignore", UserWarning)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        if type(error).__name__ == "UnpicklingError":
            raise EncoderFolderError(
                f"{path} holds Python objects besides weights, which could run code; it was not loaded. Download the "
                "model again, from its authors."
            ) from error
        raise EncoderFolderError(
            f"{path} is damaged or not a checkpoint: {error}. Download the model again."
        ) from error
    tensors = state.get("state_dict") if isinstance(state, Mapping) else None
    if not isinstance(tensors, Mapping) or not all(
        isinstance(key, str)
        and isinstance(t, torch.Tensor)
        and t.layout == torch.strided
        and not (t.is_meta or t.is_complex())
        for key, t in tensors.items()
    ):
        raise EncoderFolderError(f"{path} has no state_dict of dense tensors, as SCimilarity's checkpoints do.")
    return _canonical({key: tensor.detach().float().numpy() for key, tensor in tensors.items()}, path)


def _canonical(state: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """Rename ``network.{layer}[.{module}].{name}``; layers are ordered as numbers: 10 comes after 9."""
    found: dict[int, dict[tuple[int, str], np.ndarray]] = {}
    for key, array in state.items():
        parts = re.fullmatch(r"network\.(\d+)(?:\.(\d+))?\.(\w+)", key)
        if parts is None:
            raise EncoderFolderError(f"{path} holds {key!r}, which a network of SCimilarity does not have.")
        layer, module, name = parts.groups()
        place = found.setdefault(int(layer), {})
        if (int(module or 0), name) in place:
            raise EncoderFolderError(f"{path} holds the weights of {key!r} twice.")
        place[int(module or 0), name] = array
    if not found:
        raise EncoderFolderError(f"{path} holds no weights.")
    *blocks, last = (found[layer] for layer in sorted(found))
    weights = {}
    for i, block in enumerate(blocks):
        # Most blocks begin with Dropout, which has no weights: the first module with weights is the Linear.
        first = min(module for module, _ in block)
        for offset, names in _MODULES:
            for name, canonical in names.items():
                if (first + offset, name) not in block:
                    raise EncoderFolderError(f"{path} lacks {name!r} of module {first + offset} in layer {i}.")
                weights[f"layers.{i}.{canonical}"] = block.pop((first + offset, name))
        block.pop((first + 1, "num_batches_tracked"), None)
        _refuse_rest(block, i, path)
    for name in ("weight", "bias"):
        if (0, name) not in last:
            raise EncoderFolderError(f"{path} lacks {name!r} of its last layer.")
        weights[f"output.{name}"] = last.pop((0, name))
    _refuse_rest(last, len(blocks), path)
    return weights


def _refuse_rest(block: Mapping[tuple[int, str], np.ndarray], layer: int, path: Path) -> None:
    """Raise for weights that a layer of SCimilarity does not have: without them, this would be another network."""
    if block:
        module, name = next(iter(block))
        raise EncoderFolderError(
            f"{path} holds {name!r} of module {module} in layer {layer}, which a network of SCimilarity does not have."
        )


def read_provenance(folder: Path) -> dict[str, Any]:
    """Read hyperparameters, metadata and labels of the model, as far as the folder has them."""
    facts: dict[str, Any] = {"source": "SCimilarity"}
    for key, name in (("hyperparameters", HYPERPARAMETERS), ("metadata", METADATA)):
        if (folder / name).is_file():
            try:
                facts[key] = json.loads((folder / name).read_text(encoding="utf-8"))
            except ValueError as error:
                raise EncoderFolderError(f"{folder / name} is not JSON: {error}. Download the model again.") from error
            if not isinstance(facts[key], dict):
                raise EncoderFolderError(f"{folder / name} does not hold names with values. Download the model again.")
    if (folder / LABELS).is_file():
        try:
            with open(folder / LABELS, encoding="utf-8-sig", newline="") as file:
                facts["labels"] = [row[1] for row in list(csv.reader(file))[1:] if len(row) > 1]
        except (UnicodeDecodeError, csv.Error) as error:
            raise EncoderFolderError(f"{folder / LABELS} is not a table: {error}. Download the model again.") from error
    return facts


def write_model(
    folder: Path,
    *,
    genes: Sequence[str],
    weights: Mapping[str, np.ndarray],
    decoder: Mapping[str, np.ndarray] | None,
    provenance: Mapping[str, Any],
    overwrite: bool,
) -> None:
    """Write a folder that SCimilarity 0.4.1 loads."""
    import torch

    genes, weights, decoder = _sorted(genes, weights, decoder)
    if there := [name for name in ("annotation", "cellsearch") if (folder / name).exists()]:
        raise FileExistsError(
            f"{folder} holds {' and '.join(there)}, indexes of another model, which are not overwritten. Choose "
            "another path, or move them away."
        )
    with new_folder(folder, marker=ENCODER, what="SCimilarity model", overwrite=overwrite) as scratch:
        states = {ENCODER: _state(weights, is_decoder=False)}
        if decoder is not None:
            states[DECODER] = _state(decoder, is_decoder=True)
        for name, state in states.items():
            torch.save({"state_dict": {key: torch.from_numpy(array) for key, array in state.items()}}, scratch / name)
        sizes = {key: list(array.shape) for key, array in states[ENCODER].items()}
        facts = {"latent_dim": len(weights["output.bias"]), "hidden_dim": hidden_widths(weights)}
        documents = {
            LAYER_SIZES: sizes,
            HYPERPARAMETERS: {**dict(provenance.get("hyperparameters") or {}), **facts},
            METADATA: {"date": f"{datetime.now():%Y-%m-%d %H:%M:%S}", **dict(provenance.get("metadata") or {})},
        }
        for name, document in documents.items():
            (scratch / name).write_text(json.dumps(document), encoding="utf-8")
        (scratch / GENES).write_text("\n".join(genes), encoding="utf-8")
        with open(scratch / LABELS, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
            writer.writerow(["", 0])
            writer.writerows(enumerate(map(str, provenance.get("labels") or ())))


def _sorted(
    genes: Sequence[str], weights: Mapping[str, np.ndarray], decoder: Mapping[str, np.ndarray] | None
) -> tuple[list[str], dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    """Sort genes by the alphabet, and the weights accordingly.

    SCimilarity aligns data to the genes of a model by an outer join, which sorts them, and assumes that the model's
    genes are in this order.
    """
    order = sorted(range(len(genes)), key=lambda i: genes[i])
    name = "layers.0.weight"
    weights = {**weights, name: np.ascontiguousarray(weights[name][:, order])}
    if decoder is not None:
        decoder = {**decoder, **{f"output.{what}": decoder[f"output.{what}"][order] for what in ("weight", "bias")}}
    return [genes[i] for i in order], weights, decoder


def _state(weights: Mapping[str, np.ndarray], *, is_decoder: bool) -> dict[str, np.ndarray]:
    """Rename weights to those of a network of SCimilarity, in its order."""
    state: dict[str, np.ndarray] = {}
    n_layers = count_layers(weights)
    for i in range(n_layers):
        # SCimilarity's decoder has no Dropout before the first Linear.
        first = 0 if is_decoder and i == 0 else 1
        for offset, names in _MODULES:
            for name, canonical in names.items():
                state[f"network.{i}.{first + offset}.{name}"] = weights[f"layers.{i}.{canonical}"].copy()
        state[f"network.{i}.{first + 1}.num_batches_tracked"] = np.array(0, dtype=np.int64)
    for name in ("weight", "bias"):
        state[f"network.{n_layers}.{name}"] = weights[f"output.{name}"].copy()
    return state


def _there(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}. Give the folder of a SCimilarity model.")
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f"{folder} has no {name}: it is not the folder of a SCimilarity model, or incomplete. Download it again."
        )
    return folder / name
