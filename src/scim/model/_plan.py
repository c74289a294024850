"""Training of the network: options, optimiser, learning rate, augmentation and logged values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from scvi import REGISTRY_KEYS
from scvi.module.base import LossOutput
from scvi.train import TrainingPlan
from torch import Tensor

from .._validate import check_fraction, check_option, did_you_mean
from ._augment import Augmentation
from ._losses import Loss, pair_loss
from ._mining import POSITIVES, STRATEGIES, MiningOptions, Positives, Strategy
from ._silhouette import ontology_silhouette


@dataclass(frozen=True)
class PlanOptions:
    """Options in ``plan_kwargs`` of :meth:`scim.SCIM.train`.

    Parameters
    ----------
    lr
        Peak learning rate.
    weight_decay
        Weight decay of AdamW.
    warmup
        Share of the steps over which the learning rate rises; afterwards it falls along a cosine.
    max_grad_norm
        Gradients with a larger norm are scaled down to this norm.
    loss
        See :meth:`scim.SCIM.train`.
    triplet_weight, margin
        See :class:`scim.SCIM`. Given here, they hold for this training only. ``triplet_weight`` is the weight of
        whichever ``loss``.
    class_weight, temperature
        Weight of a cross-entropy over prototypes of the labels, which takes ancestors and descendants into account,
        and the number by which cosines are divided in it.
    self_supervised_weight
        Weight of a contrast of two augmentations of each cell with those of other cells (NT-Xent, with the same
        ``temperature``), which trains on cells without a label, too. Each batch is embedded twice.
    strategy
        Which negative is mined for a triplet: ``"semihard"``, ``"hardest"`` or ``"random"``.
    positives
        ``"prefer_cross_study"`` takes positives from other studies, and from the same study only if a label occurs in
        no other study of the batch; ``"cross_study"`` takes them from other studies only; ``"any"`` ignores studies.
    thinning, thinning_floor, panels, panel_floor
        See :class:`scim.model.Augmentation`; ``thinning=0, panels=0`` switches augmentation off.
    """

    lr: float = 2e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    max_grad_norm: float = 10.0
    loss: Loss | torch.nn.Module = "triplet"
    triplet_weight: float = 0.2
    class_weight: float = 2.0
    self_supervised_weight: float = 0.0
    temperature: float = 0.1
    margin: float = 0.2
    strategy: Strategy = "semihard"
    positives: Positives = "prefer_cross_study"
    thinning: float = 0.5
    thinning_floor: float = 0.05
    panels: float = 0.5
    panel_floor: float = 0.05

    def __post_init__(self) -> None:
        pair_loss(self.loss)  # raises if it is not known or not installed
        check_option(self.strategy, STRATEGIES, argument="plan_kwargs['strategy']")
        check_option(self.positives, POSITIVES, argument="plan_kwargs['positives']")
        for name in ("triplet_weight", "warmup", "thinning", "panels"):
            check_fraction(getattr(self, name), argument=name)
        for name in ("thinning_floor", "panel_floor"):
            check_fraction(getattr(self, name), argument=f"plan_kwargs[{name!r}]", low=1e-4)
        for name in ("class_weight", "self_supervised_weight"):
            check_fraction(getattr(self, name), argument=f"plan_kwargs[{name!r}]", high=1e6)
        for name in ("lr", "margin", "temperature"):
            check_fraction(getattr(self, name), argument=name, low=1e-12, high=1e6)

    @classmethod
    def from_kwargs(cls, plan_kwargs: Mapping[str, Any] | None, **defaults: Any) -> PlanOptions:
        """Options from ``plan_kwargs``, and from ``defaults`` where it lacks them; raise for an unknown name.

        Examples
        --------
        >>> PlanOptions.from_kwargs({"lr": 1e-3}, margin=0.1).margin
        0.1
        """
        known = [field.name for field in fields(cls)]
        for name in plan_kwargs or {}:
            if name not in known:
                raise TypeError(f"plan_kwargs has no option {name!r}. {did_you_mean(name, known, limit=20)}")
        return cls(**(defaults | dict(plan_kwargs or {})))

    @property
    def augmentation(self) -> Augmentation | None:
        """Augmentation of training batches; None if thinning and panels are switched off."""
        if self.thinning == 0 and self.panels == 0:
            return None
        return Augmentation(self.thinning, self.thinning_floor, self.panels, self.panel_floor)


class SCIMTrainingPlan(TrainingPlan):
    """Train on augmented batches, and validate on cells without augmentation.

    ``descends`` is bool (L, L), see :func:`~scim.model._silhouette.ontology_silhouette`. ``seed`` is that of the random
    draws of mining.
    """

    def __init__(self, module: Any, *, options: PlanOptions, descends: np.ndarray, seed: int = 0) -> None:
        super().__init__(module, optimizer="AdamW", lr=options.lr, weight_decay=options.weight_decay)
        self.options = options
        self.descends = descends
        self.seed = seed
        self.pair_loss = pair_loss(options.loss)
        self._seen: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of an augmented batch."""
        options = self.options
        _, _, output = self.module(
            batch,
            inference_kwargs={"augmentation": options.augmentation, "twins": options.self_supervised_weight > 0},
            loss_kwargs={
                **self._loss_kwargs(options.strategy, options.positives, self.seed + self.global_step),
                "self_supervised_weight": options.self_supervised_weight,
            },
        )
        self._log_loss("train_loss", output, prog_bar=True)
        self.compute_and_log_metrics(output, {}, "train")
        return output.loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Loss of a batch without augmentation: the hardest triplets, as a mean over all pairs."""
        positives: Positives = "any" if self.options.positives == "any" else "prefer_cross_study"
        inference, _, output = self.module(
            batch, loss_kwargs={**self._loss_kwargs("hardest", positives), "per_pair": True}
        )
        self._log_loss("validation_loss", output)
        self.compute_and_log_metrics(output, {}, "validation")
        self._seen.append((inference["z"].cpu(), batch[REGISTRY_KEYS.LABELS_KEY].flatten().cpu()))

    def _loss_kwargs(self, strategy: Strategy, positives: Positives, seed: int = 0) -> dict[str, Any]:
        """Arguments of the loss that training and validation share."""
        names = ("triplet_weight", "class_weight", "temperature")
        return {name: getattr(self.options, name) for name in names} | {
            "pair_loss": self.pair_loss,
            "mining": MiningOptions(self.options.margin, strategy, positives, seed),
        }

    def on_validation_epoch_end(self) -> None:
        """Log the ontology-aware silhouette of the validation cells."""
        if not self._seen:
            return
        z, labels = (torch.cat(parts).numpy() for parts in zip(*self._seen, strict=True))
        self._seen.clear()
        width = ontology_silhouette(z, labels, self.module.comparable, self.descends)
        if math.isfinite(width):
            self.log("silhouette_validation", width, on_epoch=True, prog_bar=True)

    def _log_loss(self, name: str, output: LossOutput, *, prog_bar: bool = False) -> None:
        self.log(name, output.loss, on_step=False, on_epoch=True, prog_bar=prog_bar, batch_size=output.n_obs_minibatch)

    @torch.inference_mode()
    def compute_and_log_metrics(self, loss_output: LossOutput, metrics: dict[str, Any], mode: str) -> None:
        """Log the parts of the loss and the number of triplets, as means over batches. There is no ELBO."""
        self.log_dict(
            {f"{name}_{mode}": value for name, value in loss_output.extra_metrics.items()},
            on_step=False,
            on_epoch=True,
            batch_size=loss_output.n_obs_minibatch,
        )

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW with a linear warm-up and a cosine down to zero, set at each step."""
        optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=self.options.lr, weight_decay=self.options.weight_decay, fused=True
        )
        total = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = max(1, int(self.options.warmup * total))

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Scale gradients down to ``max_grad_norm``."""
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.options.max_grad_norm)


def trainer_options(
    given: dict[str, Any], *, validates: bool, early_stopping: bool, patience: int, keep_best: KeepBest
) -> dict[str, Any]:
    """Options of the trainer: ``given``, and those for validation and early stopping."""
    if not validates:
        return given
    options = {"check_val_every_n_epoch": 1} | given
    if early_stopping:
        options |= {
            "callbacks": [*given.get("callbacks", []), keep_best],
            "early_stopping": True,
            "early_stopping_monitor": "validation_loss",
            "early_stopping_patience": patience,
        }
    return options


class KeepBest(Callback):
    """Keep the weights of the epoch with the lowest validation loss, and restore them at the end."""

    def __init__(self, monitor: str = "validation_loss") -> None:
        self.monitor = monitor
        self.best = math.inf
        self.best_epoch: int | None = None
        self._weights: dict[str, Tensor] | None = None

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep the weights if the loss is the lowest so far."""
        value = float(trainer.callback_metrics.get(self.monitor, math.inf))
        if value < self.best:
            self.best, self.best_epoch = value, int(trainer.current_epoch)
            self._weights = {k: v.detach().clone() for k, v in pl_module.module.state_dict().items()}

    def restore(self, module: torch.nn.Module) -> None:
        """Load the best weights, if validation ran."""
        if self._weights is not None:
            module.load_state_dict(self._weights)
            self._weights = None
