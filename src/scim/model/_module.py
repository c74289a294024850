"""The network: counts -> unit vector -> reconstructed profile, and the loss of both."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import BaseModuleClass, LossOutput
from torch import Tensor, nn

from ._augment import Augmentation, SparseBatch
from ._batches import BATCH_FIELDS
from ._losses import pair_term, triplet_term, twin_term
from ._sparse_linear import GeneLinear

#: Genes that a training step reconstructs.
_RECONSTRUCTED = 2_048
#: Names of weights inside a block and what they are called in an encoder.
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
    """Encoder [Dropout, Linear, BatchNorm, PReLU] x layers, Linear, L2 norm; and a decoder that mirrors it.

    Parameters
    ----------
    n_genes
        Length of a cell's profile.
    n_hidden
        Width of each hidden layer, from the genes inwards.
    n_latent
        Dimensions of the embedding.
    dropout_input, dropout_hidden
        Share of inputs that blocks drop while training.
    comparable
        Pairs of labels that are the same term, or ancestor and descendant, bool (n_labels, n_labels).
    descends
        ``descends[a, b]``: label b is a's term or below it, bool (n_labels, n_labels).
    measured
        Genes that each study measured, bool (n_studies, n_genes); None: all did all.
    gene_weights
        Chance of a gene to be on a random panel relative to the others, (n_genes,).
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
        # The first dropout acts on the stored values: dropping a zero changes nothing, and drawing a number for
        # every zero of a cell takes as long as the layer itself.
        self.dropout_input = dropout_input
        self.genes = GeneLinear(n_genes, n_hidden[0])
        # The first block goes on from there.
        self.encoder = nn.ModuleList([_block(None, n_hidden[0], 0.0)])
        self.encoder.extend(_block(a, b, dropout_hidden) for a, b in zip(n_hidden[:-1], n_hidden[1:], strict=True))
        self.encoder_output = nn.Linear(n_hidden[-1], n_latent)
        back = [n_latent, *reversed(n_hidden)]
        rates = [0.0, *[dropout_hidden] * (len(n_hidden) - 1)]
        self.decoder = nn.ModuleList(_block(a, b, r) for a, b, r in zip(back[:-1], back[1:], rates, strict=True))
        self.decoder_output = nn.Linear(back[-1], n_genes)
        self.prototypes = nn.Parameter(nn.init.normal_(torch.empty(len(comparable), n_latent)))
        # Not part of what is saved: they follow from the data that the model was set up with.
        self.register_buffer("descends", _tensor(descends & self.comparable, torch.bool), persistent=False)
        self.register_buffer("measured", _tensor(measured, torch.bool), persistent=False)
        self.register_buffer("gene_weights", _tensor(gene_weights, torch.float32), persistent=False)

    def _get_inference_input(self, tensors: dict[str, Tensor], **_: Any) -> dict[str, Any]:
        values, rows, genes, totals = (tensors[name] for name in BATCH_FIELDS)
        return {"cells": SparseBatch(values, rows, genes, totals, self.n_genes)}

    def inference(
        self, cells: SparseBatch, augmentation: Augmentation | None = None, *, twins: bool = False
    ) -> dict[str, Tensor]:
        """Embed a batch.

        Parameters
        ----------
        cells
            The batch.
        augmentation
            How to disturb the cells first; None embeds them as they are.
        twins
            Disturb and embed the cells a second time.

        Returns
        -------
        ``z``, unit vectors (n, n_latent), and ``target``, the undisturbed log-normalised profiles (n, n_genes); while
        training a network of many genes, ``genes``, a random draw of them, and ``target`` of these only; ``twin``, the
        second embedding, if asked for.
        """
        clean = cells.lognorm(cells.values)

        def once() -> Tensor:
            seen = clean if augmentation is None else augmentation(cells, self.measured, self.gene_weights)
            return self.embed(cells, nn.functional.dropout(seen, self.dropout_input, self.training))

        outputs = {"z": once()} | ({"twin": once()} if twins else {})
        if self.training and self.n_genes > _RECONSTRUCTED:
            # A draw of the genes estimates the mean over all of them without bias, at a fraction of the work.
            genes = torch.randperm(self.n_genes, device=clean.device)[:_RECONSTRUCTED]
            return outputs | {"target": cells.dense(clean, genes), "genes": genes}
        return outputs | {"target": cells.dense(clean)}

    def embed(self, cells: SparseBatch, values: Tensor) -> Tensor:
        """Map a batch with these log-normalised values (nnz,) to unit vectors (n, n_latent)."""
        hidden: Tensor = self.genes(cells, values)
        for block in self.encoder:
            hidden = block(hidden)
        # In half precision the layers may work, but not lengths, distances and losses.
        return nn.functional.normalize(self.encoder_output(hidden).float(), dim=1)

    def _get_generative_input(
        self, tensors: dict[str, Tensor], inference_outputs: dict[str, Tensor], **_: Any
    ) -> dict[str, Tensor | None]:
        return {"z": inference_outputs["z"], "genes": inference_outputs.get("genes")}

    def generative(self, z: Tensor, genes: Tensor | None = None) -> dict[str, Tensor]:
        """Reconstruct log-normalised profiles (n, n_genes), or those of ``genes`` only, from unit vectors."""
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
        margin: float = 0.05,
        strategy: Literal["semihard", "hardest", "random"] = "semihard",
        positives: Literal["cross_study", "prefer_cross_study", "any"] = "prefer_cross_study",
        per_pair: bool = False,
        seed: int = 0,
    ) -> LossOutput:
        """``triplet_weight`` x triplet loss + (1 - ``triplet_weight``) x reconstruction error + what has a weight.

        Parameters
        ----------
        tensors, inference_outputs, generative_outputs
            The batch and what the network made of it.
        triplet_weight
            Share of the triplet loss, or of ``pair_loss``, in the total.
        class_weight, temperature
            Weight of :meth:`_classification`, and by what the cosines in it are divided.
        self_supervised_weight
            Weight of :func:`~scim.model._losses.twin_term`, where ``inference_outputs`` hold twins.
        pair_loss
            Loss over pairs that takes the triplets' place, see :func:`~scim.model._losses.pair_loss`.
        margin
            By how much farther than a positive a negative has to be, as a distance on the unit sphere.
        strategy, positives
            Which triplets are mined, see :func:`scim.model._mining.mine_triplets`.
        per_pair
            Divide by all pairs that could have given a triplet, as validation does, and not by the triplets found:
            semi-hard triplets cost about half the margin each however good the embedding is.
        seed
            Seed of the draw of negatives.
        """
        z = inference_outputs["z"]
        labels = tensors[REGISTRY_KEYS.LABELS_KEY].flatten()
        studies = tensors[REGISTRY_KEYS.BATCH_KEY].flatten()
        # Layers may work in half precision; losses are small differences.
        with torch.autocast(z.device.type, enabled=False):
            cells = (z, labels, studies, self.comparable)
            if pair_loss is None:
                metric_loss, counted = triplet_term(
                    *cells, margin=margin, per_pair=per_pair, strategy=strategy, positives=positives, seed=seed
                )
            else:
                metric_loss, counted = pair_term(pair_loss, *cells, positives=positives)
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
        """Cross-entropy of the labels, from the cosines to a prototype of each, on the ontology.

        The probability of a label is that of its own prototype and of all below it; prototypes above it take no part:
        a cell known as "T cell" may well be a CD4 T cell, and one known as CD4 T cell is a T cell, too. Not so for
        labels that are not ``comparable``.
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
        beside = below | ~self.descends[:, labels].T
        inside = torch.logsumexp(logits.masked_fill(~below, -torch.inf), dim=1)
        return (torch.logsumexp(logits.masked_fill(~beside, -torch.inf), dim=1) - inside).mean()

    def _reconstruction(self, target: Tensor, profile: Tensor, studies: Tensor, genes: Tensor | None) -> Tensor:
        """Mean squared error over the genes that each cell's study measured."""
        if self.measured is None:
            return nn.functional.mse_loss(profile, target)
        measured = self.measured if genes is None else self.measured[:, genes]
        weights = measured[studies].to(profile.dtype)
        error = (profile - target).square() * weights
        # Every cell counts the same, whatever its study's number of genes.
        return (error.sum(dim=1) / weights.sum(dim=1).clamp_min(1)).mean()

    def encoder_weights(self) -> dict[str, np.ndarray]:
        """Weights of the encoder under the names that :class:`scim.Encoder` gives them, float32."""
        return _canonical(self.encoder, self.encoder_output, self.genes)

    def decoder_weights(self) -> dict[str, np.ndarray]:
        """Weights of the decoder, named alike."""
        return _canonical(self.decoder, self.decoder_output)

    def sample(self, *args: Any, **kwargs: Any) -> Tensor:
        """Refuse: the model maps cells, it does not generate them."""
        raise NotImplementedError("SCIM has no generative distribution to sample from.")


def _block(n_in: int | None, n_out: int, dropout: float) -> nn.Sequential:
    """Dropout, linear layer, BatchNorm and PReLU; without ``n_in`` only what follows a linear layer."""
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
