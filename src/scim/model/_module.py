"""The network: counts -> unit vector -> reconstructed profile, and the loss."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import BaseModuleClass, LossOutput
from torch import Tensor, nn

from ._augment import Augmentation, SparseBatch
from ._batches import BATCH_FIELDS
from ._losses import pair_term, triplet_term, twin_term
from ._mining import MiningOptions
from ._sparse_linear import GeneLinear

#: Most genes that a training step reconstructs.
_GENES_PER_STEP = 2_048
_DEFAULT_MINING = MiningOptions()
#: Name of each weight inside a block -> its name in an encoder.
_BLOCK_NAMES = {
    "linear.weight": "weight",
    "linear.bias": "bias",
    "norm.weight": "bn.weight",
    "norm.bias": "bn.bias",
    "norm.running_mean": "bn.mean",
    "norm.running_var": "bn.var",
    "bend.weight": "prelu",
}


class SCIMModule(BaseModuleClass):
    """Encoder of [Dropout, Linear, BatchNorm, PReLU] x layers, Linear and L2 norm, with a decoder that mirrors it.

    For the layers see :class:`~scim.model._presets.Architecture`. ``comparable`` are pairs of labels that are the same
    term, or ancestor and descendant, bool (n_labels, n_labels). ``descends[a, b]`` says whether label b is the term of
    label a or a descendant of it, bool (n_labels, n_labels). ``measured`` are the genes that each study measured, bool
    (n_studies, n_genes); None if every study measured all genes. ``gene_weights`` are relative chances of each gene to
    be on a random panel, (n_genes,).
    """

    def __init__(
        self,
        n_genes: int,
        n_hidden: Sequence[int],
        n_latent: int,
        *,
        dropout_input: float,
        dropout_hidden: float,
        comparable: np.ndarray,
        descends: np.ndarray,
        measured: np.ndarray | None = None,
        gene_weights: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.n_genes = n_genes
        self.comparable = np.ascontiguousarray(comparable, dtype=bool)
        # The first dropout acts on the stored values: dropping a zero changes nothing, and drawing a random number
        # for each zero takes as long as the layer itself.
        self.dropout_input = dropout_input
        self.genes = GeneLinear(n_genes, n_hidden[0])
        self.encoder = nn.ModuleList([_block(None, n_hidden[0], 0.0)])
        self.encoder.extend(_block(a, b, dropout_hidden) for a, b in zip(n_hidden[:-1], n_hidden[1:], strict=True))
        self.encoder_output = nn.Linear(n_hidden[-1], n_latent)
        back = [n_latent, *reversed(n_hidden)]
        rates = [0.0, *[dropout_hidden] * (len(n_hidden) - 1)]
        self.decoder = nn.ModuleList(_block(a, b, r) for a, b, r in zip(back[:-1], back[1:], rates, strict=True))
        self.decoder_output = nn.Linear(back[-1], n_genes)
        self.prototypes = nn.Parameter(nn.init.normal_(torch.empty(len(comparable), n_latent)))
        # Not saved with the weights: they follow from the data of the model.
        self.register_buffer("descends", _tensor(descends & self.comparable, torch.bool), persistent=False)
        self.register_buffer("measured", _tensor(measured, torch.bool), persistent=False)
        self.register_buffer("gene_weights", _tensor(gene_weights, torch.float32), persistent=False)

    def _get_inference_input(self, tensors: dict[str, Tensor], **_: Any) -> dict[str, Any]:
        values, rows, genes, totals = (tensors[name] for name in BATCH_FIELDS)
        return {"cells": SparseBatch(values, rows, genes, totals, self.n_genes)}

    def inference(
        self, cells: SparseBatch, augmentation: Augmentation | None = None, *, twins: bool = False
    ) -> dict[str, Tensor]:
        """Embed a batch, with ``augmentation`` if it is given, and with ``twins`` a second time.

        Return ``z``, unit vectors (n, n_latent); ``target``, log-normalised profiles without augmentation (n, n_genes),
        and ``twin``, the second embedding, if asked for. While a network of more than 2,048 genes trains, ``genes`` is
        a random draw of them, and ``target`` has these genes only.
        """
        clean = cells.lognorm(cells.values)

        def once() -> Tensor:
            seen = clean if augmentation is None else augmentation(cells, self.measured, self.gene_weights)
            return self.embed(cells, nn.functional.dropout(seen, self.dropout_input, self.training))

        outputs = {"z": once()} | ({"twin": once()} if twins else {})
        if self.training and self.n_genes > _GENES_PER_STEP:
            # The mean over random genes estimates the mean over all genes without bias, and faster.
            genes = torch.randperm(self.n_genes, device=clean.device)[:_GENES_PER_STEP]
            return outputs | {"target": cells.dense(clean, genes), "genes": genes}
        return outputs | {"target": cells.dense(clean)}

    def embed(self, cells: SparseBatch, values: Tensor) -> Tensor:
        """Map the log-normalised ``values`` (nnz,) of a batch to unit vectors (n, n_latent)."""
        hidden: Tensor = self.genes(cells, values)
        for block in self.encoder:
            hidden = block(hidden)
        # Layers may compute in half precision; lengths, distances and losses are float32.
        return nn.functional.normalize(self.encoder_output(hidden).float(), dim=1)

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Tensor], **_: Any
    ) -> dict[str, Tensor | None]:
        return {"z": inference_outputs["z"], "genes": inference_outputs.get("genes")}

    def generative(self, z: Tensor, genes: Tensor | None = None) -> dict[str, Tensor]:
        """Reconstruct log-normalised profiles (n, n_genes) from unit vectors, or only the values of ``genes``."""
        hidden = z
        for block in self.decoder:
            hidden = block(hidden)
        if genes is None:
            return {"profile": self.decoder_output(hidden).float()}
        output = self.decoder_output
        return {"profile": nn.functional.linear(hidden, output.weight[genes], output.bias[genes]).float()}

    def loss(
        self,
        tensors: dict[str, Tensor],
        inference_outputs: dict[str, Tensor],
        generative_outputs: dict[str, Tensor],
        *,
        triplet_weight: float = 0.5,
        class_weight: float = 0.0,
        self_supervised_weight: float = 0.0,
        temperature: float = 0.1,
        pair_loss: nn.Module | None = None,
        mining: MiningOptions = _DEFAULT_MINING,
        per_pair: bool = False,
    ) -> LossOutput:
        """``triplet_weight`` x triplet loss + (1 - ``triplet_weight``) x reconstruction error + other weighted losses.

        ``tensors`` are the batch, the other inputs the results of :meth:`inference` and :meth:`generative` for it.
        ``pair_loss`` takes the place of the triplet loss, see :func:`~scim.model._losses.pair_loss`, and uses only
        ``positives`` of ``mining``. ``class_weight`` is the weight of the classification loss, in which cosines are
        divided by ``temperature``; ``self_supervised_weight`` that of :func:`~scim.model._losses.twin_term`, if there
        is a ``twin``.

        With ``per_pair``, the triplet loss is divided by the number of pairs for which a negative was looked for, as
        validation does: the mean over semi-hard triplets is about half the margin, however good the embedding is.
        """
        z = inference_outputs["z"]
        labels = tensors[REGISTRY_KEYS.LABELS_KEY].flatten()
        studies = tensors[REGISTRY_KEYS.BATCH_KEY].flatten()
        # Losses are float32, even if the layers compute in half precision.
        with torch.autocast(z.device.type, enabled=False):
            cells = (z, labels, studies, self.comparable)
            if pair_loss is None:
                metric_loss, counted = triplet_term(*cells, mining, per_pair=per_pair)
            else:
                metric_loss, counted = pair_term(pair_loss, *cells, positives=mining.positives)
            reconstruction = self._reconstruction(
                inference_outputs["target"], generative_outputs["profile"], studies, inference_outputs.get("genes")
            )
            total = triplet_weight * metric_loss + (1 - triplet_weight) * reconstruction
            classification = z.new_zeros(())
            if class_weight > 0:
                classification = self._classification(z, labels, temperature)
                total = total + class_weight * classification
            parts = {
                "triplet_loss" if pair_loss is None else "pair_loss": metric_loss.detach(),
                "reconstruction_loss": reconstruction.detach(),
                "classification_loss": classification.detach(),
            }
            if self_supervised_weight > 0 and "twin" in inference_outputs:
                contrast = twin_term(z, inference_outputs["twin"], labels, self.comparable, temperature)
                total = total + self_supervised_weight * contrast
                parts["self_supervised_loss"] = contrast.detach()
        return LossOutput(loss=total, n_obs_minibatch=len(z), extra_metrics=parts | counted)

    def _classification(self, z: Tensor, labels: Tensor, temperature: float) -> Tensor:
        """Cross-entropy of the labels on the ontology, from the cosines between cells and one prototype per label.

        The probability of a label is the sum over its own prototype and those of its descendants. Prototypes of its
        ancestors are left out: a cell labelled "T cell" may be a CD4 T cell, and a CD4 T cell is a T cell, too. Only
        ``comparable`` labels count as ancestors and descendants.
        """
        known = labels >= 0
        if not known.any():
            return z.sum() * 0
        labels = labels[known].long()
        logits = (
            z.index_select(0, torch.nonzero(known)[:, 0])
            @ nn.functional.normalize(self.prototypes, dim=1).T
            / temperature
        )
        below = self.descends[labels]
        not_above = below | ~self.descends[:, labels].T
        inside = torch.logsumexp(logits.masked_fill(~below, -torch.inf), dim=1)
        return (torch.logsumexp(logits.masked_fill(~not_above, -torch.inf), dim=1) - inside).mean()

    def _reconstruction(self, target: Tensor, profile: Tensor, studies: Tensor, genes: Tensor | None) -> Tensor:
        """Mean squared error over the genes that each cell's study measured."""
        if self.measured is None:
            return nn.functional.mse_loss(profile, target)
        measured = self.measured if genes is None else self.measured[:, genes]
        weights = measured[studies].to(profile.dtype)
        error = (profile - target).square() * weights
        # Every cell has the same weight, however many genes its study measured.
        return (error.sum(dim=1) / weights.sum(dim=1).clamp_min(1)).mean()

    def encoder_weights(self) -> dict[str, np.ndarray]:
        """Weights of the encoder, float32, under the names of :class:`scim.Encoder`."""
        return _canonical(self.encoder, self.encoder_output, self.genes)

    def decoder_weights(self) -> dict[str, np.ndarray]:
        """Weights of the decoder, with names of the same kind."""
        return _canonical(self.decoder, self.decoder_output)

    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Raise: the model embeds cells and does not generate them."""
        raise NotImplementedError(
            "SCIM embeds cells and has no generative distribution: it cannot sample. Call embed() of to_encoder()."
        )


def _block(n_in: int | None, n_out: int, dropout: float) -> nn.Sequential:
    """Dropout, linear layer, BatchNorm and PReLU; if ``n_in`` is None, BatchNorm and PReLU only."""
    after = {"norm": nn.BatchNorm1d(n_out), "bend": nn.PReLU()}
    before = {} if n_in is None else {"dropout": nn.Dropout(dropout), "linear": nn.Linear(n_in, n_out)}
    return nn.Sequential(OrderedDict(before | after))


def _canonical(blocks: nn.ModuleList, output: nn.Linear, genes: GeneLinear | None = None) -> dict[str, np.ndarray]:
    weights = {}
    for i, block in enumerate(blocks):
        state = block.state_dict()
        if i == 0 and genes is not None:
            state |= {"linear.weight": genes.weight.T, "linear.bias": genes.bias}
        weights.update({f"layers.{i}.{name}": state[key] for key, name in _BLOCK_NAMES.items()})
    weights |= {"output.weight": output.weight, "output.bias": output.bias}
    return {name: w.detach().to("cpu", torch.float32).numpy().copy() for name, w in weights.items()}


def _tensor(values: np.ndarray | None, dtype: torch.dtype) -> Tensor | None:
    return None if values is None else torch.as_tensor(np.asarray(values)).to(dtype)
