"""SCIM: an scvi-tools model that learns from labelled studies to embed similar cells close together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from anndata import AnnData
from scvi.data import AnnDataManager
from scvi.model.base import BaseModelClass, UnsupervisedTrainingMixin

from .._html import describe
from .._validate import check_fraction, check_positive_int, get_adata
from ..encoder import Encoder
from ._batches import CellDataset, StudySplitter
from ._context import quiet, record, seeded
from ._fields import fields_of
from ._losses import Loss, loss_name
from ._module import SCIMModule
from ._plan import KeepBest, PlanOptions, SCIMTrainingPlan, trainer_options
from ._presets import architecture, schedule
from ._splits import choose_validation
from ._training_data import TrainingData

if TYPE_CHECKING:
    from ..ontology import CellOntology

_UNTRAINED = "This SCIM is not trained. Call train() first."


class SCIM(UnsupervisedTrainingMixin, BaseModelClass):
    """Train an encoder that embeds cells of the same type close together, whichever study they come from.

    Labels may be Cell Ontology ids, names, synonyms, or names of your own. Ancestor and descendant are never pushed
    apart, and a label that is not in the ontology is a term of its own. Cells without a label train the reconstruction,
    and the self-supervised contrast if it has a weight (see :meth:`train`). Counts and log1p values are recognised and
    normalised during training, to 1e4 counts over the model's genes.

    Parameters
    ----------
    adata
        Data that :meth:`setup_anndata` has registered.
    n_hidden
        Width of each hidden layer, first the one next to the genes. Depends on the size of the data by default.
    n_latent
        Dimensions of the embedding. Depends on the size of the data by default.
    dropout_input, dropout_hidden
        Share of genes, and of hidden units, dropped while training. Depends on the size of the data by default.
    triplet_weight
        Share of the triplet loss in the total; the rest is the reconstruction error. More triplet loss mixes studies
        better and separates the given labels. More reconstruction keeps differences within a label, which search needs.
    margin
        How much farther than a cell of the same type a cell of another type has to be, as a Euclidean distance between
        unit vectors, at most 2.
    ontology
        A :class:`scim.CellOntology`; ``"bundled"``, the Cell Ontology that comes with scim; ``"flat"``, no ontology.
        None takes the bundled ontology if it contains at least one of the labels.
    min_cells
        Genes that fewer cells express are left out of the model.
    min_studies
        Genes that fewer studies measured are left out of the model, if :func:`scim.pp.merge_studies` noted which genes
        each study measured. By default, genes that more than a quarter of the studies with 5,000 genes or more lack.
    seed
        Seed of the first weights, and of :meth:`train` unless it is given another one.
    registry
        Registry of a saved model, to load it without data.

    Examples
    --------
    >>> import scim
    >>> adata = scim.datasets.pbmc68k()
    >>> scim.SCIM.setup_anndata(adata, labels_key="cell_type")
    >>> model = scim.SCIM(adata)
    >>> model.train(max_epochs=1)  # doctest: +SKIP
    >>> encoder = model.to_encoder()  # doctest: +SKIP
    """

    _module_cls = SCIMModule
    _training_plan_cls = SCIMTrainingPlan
    _data_splitter_cls = StudySplitter

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        n_hidden: Sequence[int] | None = None,
        n_latent: int | None = None,
        dropout_input: float | None = None,
        dropout_hidden: float | None = None,
        triplet_weight: float = 0.2,
        margin: float = 0.2,
        ontology: CellOntology | Literal["bundled", "flat"] | Mapping[str, Any] | None = None,
        min_cells: int = 3,
        min_studies: int | None = None,
        seed: int = 0,
        registry: dict[str, Any] | None = None,
    ) -> None:
        if adata is not None:
            super().__init__(get_adata(adata))
        else:
            super().__init__(registry=registry)
        check_fraction(triplet_weight, argument="triplet_weight")
        check_fraction(margin, argument="margin", high=2.0)
        self.inputs = TrainingData.read(
            self.adata_manager, self.registry, ontology, min_cells=min_cells, min_studies=min_studies
        )
        layers = architecture(
            self.summary_stats.n_cells,
            len(self.inputs.genes),
            n_hidden=n_hidden,
            n_latent=n_latent,
            dropout_input=dropout_input,
            dropout_hidden=dropout_hidden,
        )
        # A saved model is built again from local variables with the names of the arguments.
        n_hidden, n_latent = [int(width) for width in layers.n_hidden], int(layers.n_latent)
        dropout_input, dropout_hidden = layers.dropout_input, layers.dropout_hidden
        ontology = self.inputs.saved
        self.seed, self.triplet_weight, self.margin = seed, triplet_weight, margin
        with seeded(seed):
            self.module = SCIMModule(
                len(self.inputs.genes),
                n_hidden,
                n_latent,
                dropout_input=dropout_input,
                dropout_hidden=dropout_hidden,
                comparable=self.inputs.comparable,
                descends=self.inputs.descends,
                measured=self.inputs.measured,
                gene_weights=self.inputs.gene_weights,
            )
        self.training_: dict[str, Any] = {}
        self._model_summary_string = (
            f"SCIM: {len(self.inputs.genes)} genes, layers {'-'.join(map(str, n_hidden))} -> {n_latent}, "
            f"{len(self.inputs.terms.labels)} labels ({self.inputs.ontology_version}), "
            f"{len(self.inputs.study_names)} studies"
        )
        self.init_params_ = self._get_init_params(locals())

    def __repr__(self) -> str:
        # That of scvi-tools prints, and returns nothing.
        return f"{self._model_summary_string}, {self._status()}"

    def _status(self) -> str:
        epochs = int(self.training_.get("epochs", 0))
        return f"trained for {epochs} epoch{'s' * (epochs > 1)}" if epochs else "not trained"

    def _repr_html_(self) -> str:
        inputs, sizes = self.inputs, self.init_params_["non_kwargs"]
        layers = " → ".join(map(str, [*sizes["n_hidden"], sizes["n_latent"]]))
        facts = {
            "status": self._status(),
            "cells": int(self.summary_stats.n_cells),
            "genes": len(inputs.genes),
        }
        return describe(
            "SCIM", {**facts, "layers": layers, "labels": inputs.label_names, "studies": inputs.study_names}
        )

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        labels_key: str,
        batch_key: str | None = None,
        layer: str | None = None,
        unlabeled_category: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Register the data that a model is trained on.

        Parameters
        ----------
        adata
            Cells of one study, or of several studies merged by :func:`scim.pp.merge_studies`.
        labels_key
            Column of ``obs`` with Cell Ontology ids, names, or labels of your own. Cells with a missing value or an
            empty string have no label.
        batch_key
            Column of ``obs`` with the study of each cell; None if all cells come from one study.
        layer
            Layer with counts or log1p values; None takes ``X``.
        unlabeled_category
            A label that means "no label", such as ``"unknown"``.
        **kwargs
            Passed on to scvi-tools.

        Raises
        ------
        KeyError
            A column or layer is missing; the message lists the existing ones.
        ValueError
            ``adata`` is empty, or a cell has no study.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        adata = get_adata(adata)
        fields = fields_of(
            adata, labels_key=labels_key, batch_key=batch_key, layer=layer, unlabeled_category=unlabeled_category
        )
        manager = AnnDataManager(fields=fields, setup_method_args=setup_method_args)
        manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

    def train(
        self,
        max_epochs: int | None = None,
        *,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        validation_studies: float | str | Sequence[str] | None = None,
        train_size: float | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        loss: Loss | torch.nn.Module | None = None,
        early_stopping: bool = False,
        early_stopping_patience: int | None = None,
        check_labels: bool = True,
        seed: int | None = None,
        plan_kwargs: Mapping[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model. By default, all settings are chosen by the size of the data.

        Afterwards :attr:`history` holds ``train_loss`` of each epoch, the parts ``triplet_loss_train`` and
        ``reconstruction_loss_train``, and the mean number of triplets per batch, ``triplets_mined_train`` and
        ``triplets_active_train``. If there are cells for validation, it also holds ``validation_loss``, these values
        with ``_validation`` in place of ``_train``, and ``silhouette_validation``, the ontology-aware silhouette width.
        Another ``loss`` has ``pair_loss``, ``positive_pairs`` and ``negative_pairs`` instead of values of triplets.

        Parameters
        ----------
        max_epochs
            Largest number of passes over the data. The learning rate rises and falls over them.
        accelerator, devices
            Where to train, as in scvi-tools: ``"cpu"``, ``"gpu"``, ``"mps"`` or ``"auto"``.
        validation_studies
            Names of the studies to hold out for validation, or the largest share of the cells that held-out studies
            may hold. A share holds out small studies whose labels occur in other studies, if there are three studies or
            more. None, or 0, holds out none.
        train_size
            Share of the cells of each label and study that train if no study is held out; the other cells validate. By
            default all cells train, or a share of 0.9 with ``early_stopping``.
        batch_size
            Cells in a batch.
        lr
            Peak learning rate.
        loss
            Loss that pulls cells of a label together and pushes other cells away: ``"triplet"``, the default;
            ``"contrastive"``, ``"multi_similarity"`` or ``"supcon"`` (supervised contrastive), from
            pytorch-metric-learning (``pip install 'scim-tools[losses]'``); or a loss over pairs of that package, such
            as ``CircleLoss(m=0.4)``. For each of them, ancestor and descendant are not a pair, positives come from
            different studies if possible, and ``triplet_weight`` is its share in the total. ``margin`` is used by
            triplets only.
        early_stopping
            Stop when the validation loss does not fall any more, and keep the weights of the epoch with the lowest
            loss. By default, training goes on until the learning rate has fallen to zero, and keeps the last weights.
        early_stopping_patience
            Number of epochs without a lower validation loss before training stops.
        check_labels
            Train without the labels that contradict those of the nearest neighbours in the same study. A warning gives
            their number if it is more than 5 % of the cells.
        seed
            Seed of split, batches, dropout and augmentation; by default the model's. The same seed gives the same
            weights on a CPU with the same number of threads.
        plan_kwargs
            See :class:`scim.model.PlanOptions`.
        **trainer_kwargs
            Passed on to :class:`scvi.train.Trainer`. ``precision`` is ``"32-true"`` by default, or ``"bf16-mixed"``.
            Lengths, distances and losses are float32 with either.

        Raises
        ------
        TypeError
            ``plan_kwargs`` holds an unknown option.
        ImportError
            ``loss`` needs pytorch-metric-learning, which is not installed.
        KeyError
            A name in ``validation_studies`` is not a study.
        ValueError
            A value is out of range, ``loss`` is not known, or the model was loaded without data.
        """
        if self.adata is None:
            raise ValueError("This model was loaded without data. Load it with SCIM.load(path, adata) to train it on.")
        seed = check_positive_int(self.seed if seed is None else seed, argument="seed", minimum=0, maximum=2**32 - 1)
        auto = schedule(self.summary_stats.n_cells, batch_size, max_epochs)
        given = {"lr": auto.lr if lr is None else lr} | ({} if loss is None else {"loss": loss})
        weights = {"triplet_weight": self.triplet_weight, "margin": self.margin}
        options = PlanOptions.from_kwargs(plan_kwargs, **given, **weights)
        self.inputs.warn_about_labels(loss_name(options.loss))
        split = choose_validation(
            self.inputs.labels,
            self.inputs.studies,
            self.inputs.study_names,
            validation_studies=validation_studies,
            train_size=(0.9 if early_stopping else 1.0) if train_size is None else train_size,
            seed=seed,
        )
        dataset = self._dataset(check_labels=check_labels, seed=seed)
        keep_best = KeepBest()
        trainer_kwargs = trainer_options(
            trainer_kwargs,
            validates=len(split.validation) > 0,
            early_stopping=early_stopping,
            patience=early_stopping_patience or auto.patience,
            keep_best=keep_best,
        )
        self.module.train()
        with seeded(seed), quiet():
            runner = self._train_runner_cls(
                self,
                training_plan=self._training_plan_cls(
                    self.module, options=options, descends=self.inputs.descends, seed=seed
                ),
                data_splitter=self._data_splitter_cls(
                    self.adata_manager, dataset=dataset, split=split, batch_size=auto.batch_size, seed=seed
                ),
                max_epochs=auto.max_epochs,
                accelerator=accelerator,
                devices=devices,
                **trainer_kwargs,
            )
            runner()
        keep_best.restore(self.module)
        self.module.eval()
        self.training_ = record(
            self.inputs,
            options,
            split,
            epochs=int(self.training_.get("epochs", 0)) + int(runner.trainer.current_epoch),
            best_epoch=keep_best.best_epoch,
            seed=seed,
            n_doubted=int((dataset.labels != self.inputs.labels).sum()),
        )

    def _dataset(self, *, check_labels: bool, seed: int) -> CellDataset:
        """Cells to train on, without doubtful labels if asked."""
        inputs = self.inputs
        matrix, genes = inputs.matrix(self.adata_manager)
        labels = inputs.trusted_labels(matrix, genes, seed=seed) if check_labels else inputs.labels
        logged = inputs.kind.kind == "log1p"
        return CellDataset(matrix, genes, labels, inputs.studies, logged=logged)

    def to_encoder(self) -> Encoder:
        """Freeze the trained network into a :class:`scim.Encoder`, a function from counts to unit vectors.

        Returns
        -------
        The encoder, with studies, labels, ontology, versions and seed of its training as ``provenance``.

        Raises
        ------
        RuntimeError
            The model is not trained.
        """
        self._check_if_trained(warn=False, message=_UNTRAINED)
        return Encoder(
            self.inputs.genes,
            self.module.encoder_weights(),
            provenance=self.training_,
            decoder=self.module.decoder_weights(),
        )

    def get_latent_representation(self, adata: AnnData | None = None, *, layer: str | None = None) -> np.ndarray:
        """Embed cells.

        Parameters
        ----------
        adata
            Any cells; genes are aligned by name, and no registration is needed. None takes the cells of the model.
        layer
            Layer with counts or log1p values; None searches for it.

        Returns
        -------
        Unit vectors, float32 (n_cells, n_latent); a row of zeros for a cell without counts.
        """
        if adata is None:
            if self.adata is None:
                raise ValueError("This model was loaded without data. Give the cells to embed: adata=.")
            adata, layer = self.adata, layer or self.registry["setup_args"]["layer"] or "X"
        return np.asarray(self.to_encoder().embed(adata, layer=layer))
