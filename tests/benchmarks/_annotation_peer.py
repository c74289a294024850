"""SCimilarity's side of annotation.py; runs in its own environment, which has no scim."""

from __future__ import annotations

import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any


def main(folder: Path, options: dict[str, Any]) -> None:
    """Train on ``train.h5ad``, embed ``test.h5ad``, and label it, each as the package's tutorials do."""
    import anndata as ad
    import hnswlib
    import numpy as np
    import obonet
    import pytorch_lightning as pl

    read = obonet.read_obo
    obonet.read_obo = lambda *_, **__: read(str(folder / "cl.obo"))  # it always downloads
    from scimilarity import CellAnnotation, CellEmbedding
    from scimilarity.anndata_data_models import MetricLearningDataModule
    from scimilarity.training_models import MetricLearning

    pl.seed_everything(options["seed"])
    train, test = (ad.read_h5ad(folder / f"{name}.h5ad") for name in ("train", "test"))
    batch = min(options["batch"], train.n_obs // 2)
    epochs = math.ceil(options["steps"] / (train.n_obs // batch))
    data = MetricLearningDataModule(
        train_path=str(folder / "train.h5ad"),
        batch_size=batch,
        persistent_workers=True,
        # Cells of labels that one study has are negatives, and part of the reference, as with the other methods.
        remove_singleton_classes=False,
    )
    model = MetricLearning(
        data.n_genes,
        hidden_dim=options["hidden"],
        latent_dim=options["latent"],
        max_epochs=epochs,
        sample_across_studies=train.obs["study"].nunique() > 1,
    )
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,  # without validation data, its loader is None, which the trainer refuses
        num_sanity_val_steps=0,
    )
    trainer.fit(model, datamodule=data)
    model.save_all(str(folder / "model"))
    encoder = CellEmbedding(str(folder / "model"))
    vectors = {name: encoder.get_embeddings(a[:, data.gene_order].X) for name, a in (("train", train), ("test", test))}
    index = hnswlib.Index(space="cosine", dim=options["latent"])
    index.init_index(max_elements=train.n_obs, ef_construction=1_000, M=80)  # its own settings
    index.set_num_threads(1)
    index.add_items(vectors["train"], np.arange(train.n_obs))
    (folder / "model" / "annotation").mkdir()
    index.save_index(str(folder / "model" / "annotation" / "labelled_kNN.bin"))
    pairs = zip(train.obs["celltype_name"], train.obs["study"], strict=True)
    lines = "".join(f"{name}\t{study}\n" for name, study in pairs)
    (folder / "model" / "annotation" / "reference_labels.tsv").write_text(lines)
    annotation = CellAnnotation(str(folder / "model"))
    k = min(50, train.n_obs)
    labels, _, _, stats = annotation.get_predictions_knn(vectors["test"], k=k, disable_progress=True)
    (folder / "labels.json").write_text(json.dumps([str(label) for label in labels]))
    np.save(folder / "confidence.npy", stats["vsAll"].to_numpy(dtype=float))
    np.save(folder / "test.npy", vectors["test"])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
