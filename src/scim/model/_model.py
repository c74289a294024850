"""SCIM: an scvi-tools model that learns, from labelled studies, where similar cells lie together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from anndata import AnnData
from scvi.data import AnnDataManager
from scvi.model.base import BaseModelClass, UnsupervisedTrainingMixin

from .._validate import check_fraction, check_positive_int, get_adata
from ._batches import CellDataset, StudySplitter
from ._context import quiet, record, seeded
from ._fields import fields_of
from ._losses import Loss, loss_name
from ._module import SCIMModule
from ._plan import KeepBest, PlanOptions, SCIMTrainingPlan
from ._presets import architecture, choose_precision, schedule
from ._splits import choose_validation
from ._training_data import TrainingData

if TYPE_CHECKING:
    from ..encoder import Encoder
    from ..ontology import CellOntology

_UNTRAINED = "This SCIM is not trained yet. Call train() first."


class SCIM(UnsupervisedTrainingMixin, BaseModelClass):
    """Train an encoder that places cells of the same kind together, whatever study they come from.

    Labels may be Cell Ontology ids, names, synonyms, or names of your own. Terms that are ancestor and descendant are
    never pushed apart, labels outside the ontology are terms by themselves, and cells without a label train the
    reconstruction only, and the self-supervised contrast where it is given a weight (see :meth:`train`). Counts and
    log1p values are told apart by themselves and normalised on the fly, to 1e4 counts over the model's genes.

    Parameters
    ----------
    adata
        Data that :meth:`setup_anndata` has registered.
    n_hidden
        Width of each hidden layer, from the genes inwards. Follows from the size of the data by default.
    n_latent
        Dimensions of the embedding. Follows from the size of the data by default.
    dropout_input, dropout_hidden
        Share of genes, and of hidden units, dropped while training.
    triplet_weight
        Share of the triplet loss in the total, the reconstruction error has the rest. More triplet loss mixes studies
        better and separates the labels that it was given; more reconstruction keeps differences that no label names,
        which search lives on.
    margin
        By how much farther than a cell of the same kind another kind has to be, as a Euclidean distance between unit
        vectors, at most 2.
    ontology
        A :class:`scim.CellOntology`; ``"bundled"``, the Cell Ontology that comes with scim; ``"flat"``, no ontology;
        None takes the bundled one if it knows at least one of the labels.
    min_cells
        Genes that fewer cells express are left out of the model.
    min_studies
        Genes that fewer studies measured are left out of the model, where :func:`scim.pp.merge_studies` noted which
        did; by default those that more than a quarter of the studies with 5,000 genes or more lack.
    seed
        Seed of the first weights, and of :meth:`train` unless that has one of its own.
    registry
        Registry of a saved model, for loading one without data.

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
        auto = architecture(self.summary_stats.n_cells, len(self.inputs.genes))
        # What was chosen here is what a saved model is rebuilt from, hence the same names as the arguments.
        wanted = auto.n_hidden if n_hidden is None else n_hidden
        n_hidden = [check_positive_int(n, argument="n_hidden") for n in wanted]
        n_latent = check_positive_int(auto.n_latent if n_latent is None else n_latent, argument="n_latent", minimum=2)
        dropout_input = auto.dropout_input if dropout_input is None else dropout_input
        dropout_hidden = auto.dropout_hidden if dropout_hidden is None else dropout_hidden
        if not n_hidden:
            raise ValueError("n_hidden is empty: name at least one hidden layer, such as n_hidden=[256].")
        for name, rate in (("dropout_input", dropout_input), ("dropout_hidden", dropout_hidden)):
            check_fraction(rate, argument=name, high=0.95)
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
        """Register the data that a model is to be trained on.

        Parameters
        ----------
        adata
            Cells of one study, or of several put together with :func:`scim.pp.merge_studies`.
        labels_key
            Column of ``obs`` with Cell Ontology ids, names, or labels of your own. Missing values and empty strings
            are cells without a label.
        batch_key
            Column of ``obs`` with the study of each cell; None: all cells come from one study.
        layer
            Layer with counts or log1p values; None is ``X``.
        unlabeled_category
            A label that means "no label", such as ``"unknown"``.
        **kwargs
            For scvi-tools.

        Raises
        ------
        KeyError
            A column or layer is not there; the message lists those that are.
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
        """Train the model; without arguments, everything follows from the size of the data.

        :attr:`history` then holds ``train_loss`` and, where cells validate, ``validation_loss`` of each epoch, and for
        both sides (``_train``, ``_validation``) ``triplet_loss``, ``reconstruction_loss``, ``triplets_mined`` and
        ``triplets_active`` (mean per batch), and ``silhouette_validation``, the ontology-aware silhouette width. With
        another ``loss`` these are ``pair_loss``, ``positive_pairs`` and ``negative_pairs`` in place of the triplets'.

        Parameters
        ----------
        max_epochs
            Most passes over the data, over which the learning rate rises and falls.
        accelerator, devices
            Where to train, as in scvi-tools: ``"cpu"``, ``"gpu"``, ``"mps"`` or ``"auto"``.
        validation_studies
            Names of the studies to hold out for validation, or the largest share of cells that held-out studies may
            hold: small ones, where there are three or more, whose labels occur elsewhere. None, or 0, holds out none.
        train_size
            Share of the cells of each label and study that train, where no study is held out; the others validate. By
            default all train, and nothing validates, but for ``early_stopping``, which takes 0.9.
        batch_size
            Cells in a batch.
        lr
            Peak learning rate.
        loss
            What draws cells of a kind together and pushes others apart: ``"triplet"``, the default;
            ``"contrastive"``, ``"multi_similarity"`` or ``"supcon"`` (supervised contrastive), of
            pytorch-metric-learning (``pip install 'scim-tools[losses]'``); or a loss over pairs of that package, such
            as ``CircleLoss(m=0.4)``. Whichever it is, ancestor and descendant are no pair, positives come from
            different studies where there are some, and its share in the total is ``triplet_weight``. ``margin`` is
            that of triplets alone.
        early_stopping
            Stop when the validation loss no longer falls, and keep the weights of the epoch where it was lowest; by
            default training goes on to the end, where the learning rate has fallen to zero, and its weights are kept.
        early_stopping_patience
            Epochs without a lower validation loss before that.
        check_labels
            Let cells whose label contradicts their nearest neighbours in their own study train without it; a warning
            says how many, where they are more than one in twenty.
        seed
            Seed of split, batches, dropout and augmentation; the model's own by default. The same seed gives the
            same weights on a CPU with the same number of threads.
        plan_kwargs
            See :class:`scim.model._plan.PlanOptions`.
        **trainer_kwargs
            For :class:`scvi.train.Trainer`. ``precision`` is ``"bf16-mixed"`` by default where the GPU, or the CPU
            (AMX), multiplies bf16 itself, and ``"32-true"`` elsewhere; lengths, distances and losses are float32.

        Raises
        ------
        TypeError
            ``plan_kwargs`` holds an unknown option.
        ImportError
            ``loss`` is of pytorch-metric-learning, which is not installed.
        KeyError
            A name in ``validation_studies`` is no study.
        ValueError
            A value is out of range, ``loss`` is not known, or the model was loaded without data.
        """
        if self.adata is None:
            raise ValueError("This model was loaded without data. Load it with SCIM.load(path, adata) to train it on.")
        seed = check_positive_int(self.seed if seed is None else seed, argument="seed", minimum=0, maximum=2**32 - 1)
        if max_epochs is not None:
            max_epochs = check_positive_int(max_epochs, argument="max_epochs")
        inputs = self.inputs
        auto = schedule(self.summary_stats.n_cells, batch_size)
        options = PlanOptions.from_kwargs(
            plan_kwargs,
            lr=auto.lr if lr is None else lr,
            **({} if loss is None else {"loss": loss}),
            triplet_weight=self.triplet_weight,
            margin=self.margin,
        )
        inputs.warn_about_labels(loss_name(options.loss))
        train, validation, held_out = choose_validation(
            inputs.labels,
            inputs.studies,
            inputs.study_names,
            validation_studies=validation_studies,
            train_size=(0.9 if early_stopping else 1.0) if train_size is None else train_size,
            seed=seed,
        )
        if len(train) < 2:
            raise ValueError(f"There are {len(train)} cells to train on; batches need two or more. Add cells.")
        matrix, genes = inputs.matrix(self.adata_manager)
        labels, n_doubted = inputs.labels, 0
        if check_labels:
            labels = inputs.trusted_labels(matrix, genes, seed=seed)
            n_doubted = int((labels != inputs.labels).sum())
        splitter = self._data_splitter_cls(
            self.adata_manager,
            dataset=CellDataset(
                matrix,
                genes,
                labels,
                inputs.studies,
                logged=inputs.kind.kind == "log1p",
                scale=inputs.scale,
            ),
            train=train,
            validation=validation,
            batch_size=check_positive_int(auto.batch_size, argument="batch_size", minimum=2),
            seed=seed,
        )
        trainer_kwargs.setdefault("precision", choose_precision(accelerator))
        plan = self._training_plan_cls(self.module, options=options, descends=inputs.descends, seed=seed)
        keep_best = KeepBest()
        if len(validation):
            trainer_kwargs.setdefault("check_val_every_n_epoch", 1)
            if early_stopping:
                trainer_kwargs["callbacks"] = [*trainer_kwargs.get("callbacks", []), keep_best]
                trainer_kwargs |= {
                    "early_stopping": True,
                    "early_stopping_monitor": "validation_loss",
                    "early_stopping_patience": early_stopping_patience or auto.patience,
                }
        self.module.train()
        with seeded(seed), quiet():
            runner = self._train_runner_cls(
                self,
                training_plan=plan,
                data_splitter=splitter,
                max_epochs=auto.max_epochs if max_epochs is None else max_epochs,
                accelerator=accelerator,
                devices=devices,
                **trainer_kwargs,
            )
            runner()
        keep_best.restore(self.module)
        self.module.eval()
        self.training_ = record(
            inputs,
            options,
            epochs=int(self.training_.get("epochs", 0)) + int(runner.trainer.current_epoch),
            best=keep_best.best_epoch,
            seed=seed,
            held_out=held_out,
            n_train=len(train),
            n_doubted=n_doubted,
        )

    def to_encoder(self) -> Encoder:
        """Freeze the trained network into a :class:`scim.Encoder`, a function from counts to unit vectors.

        Returns
        -------
        The encoder, with the studies, labels, ontology, versions and seed it comes from as ``provenance``.

        Raises
        ------
        RuntimeError
            The model is not trained.
        """
        from ..encoder import Encoder

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
            Any cells: genes are aligned by name and need no registration. None: the cells of the model.
        layer
            Layer with counts or log1p values, found by itself if None.

        Returns
        -------
        Unit vectors, float32 (n_cells, n_latent); a row of zeros for a cell without counts.
        """
        if adata is None:
            if self.adata is None:
                raise ValueError("This model was loaded without data: say which cells to embed, adata=.")
            adata, layer = self.adata, layer or self.registry["setup_args"]["layer"] or "X"
        return np.asarray(self.to_encoder().embed(adata, layer=layer))
