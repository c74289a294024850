"""From AnnData to batches: which cells train, which validate, and how a batch is put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.dataloaders import DataSplitter
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ._augment import TARGET_SUM

#: Tensors of a batch that hold its cells, in the order of :class:`~scim.model._augment.SparseBatch`.
BATCH_FIELDS = ("values", "rows", "genes", "totals")
#: Validation cells above this number are sampled: the loss is no better known for more.
_MAX_VALIDATION = 20_000


class CellDataset(Dataset):
    """Cells as stored values, with label and study of each.

    Parameters
    ----------
    X
        Counts, or log1p values, CSR (n_cells, n_columns).
    genes
        Gene of each column, -1 for a column that the model leaves out, (n_columns,).
    labels, studies
        Codes, (n_cells,); a label of -1 means none.
    logged
        Whether ``X`` holds log1p values.
    scale
        What to multiply the linear values of log1p data with, to have 1e4 a cell.
    """

    def __init__(
        self,
        X: sp.csr_matrix,
        genes: np.ndarray,
        labels: np.ndarray,
        studies: np.ndarray,
        *,
        logged: bool = False,
        scale: float = 1.0,
    ) -> None:
        self.X = X
        self.genes = np.asarray(genes, dtype=np.int64)
        self.labels = np.asarray(labels, dtype=np.int64)
        self.studies = np.asarray(studies, dtype=np.int64)
        self.logged = logged
        self.scale = scale

    def __len__(self) -> int:
        return int(self.X.shape[0])

    def __getitem__(self, cells: Sequence[int]) -> dict[str, np.ndarray]:
        """Values of a whole batch; log1p values come back as multiples of the cell's smallest, which is one count."""
        rows_of_x = np.asarray(cells, dtype=np.int64)
        part = self.X[rows_of_x]
        values, rows = part.data.astype(np.float32), np.repeat(np.arange(len(cells)), np.diff(part.indptr))
        genes = self.genes[part.indices]
        # What the model leaves out, and stored zeros, have no part in it.
        kept = (genes >= 0) & (values > 0)
        values, rows, genes = values[kept], rows[kept], genes[kept]
        totals = np.full(len(cells), TARGET_SUM, dtype=np.float32)
        if self.logged:
            np.expm1(values, out=values)
            totals = self.scale * np.bincount(rows, values, minlength=len(cells)).astype(np.float32)
            smallest = np.full(len(cells), np.inf, dtype=np.float32)
            np.minimum.at(smallest, rows, values)
            values /= smallest[rows]
        return {
            "values": values,
            "rows": rows,
            "genes": genes,
            "totals": totals,
            REGISTRY_KEYS.LABELS_KEY: self.labels[cells],
            REGISTRY_KEYS.BATCH_KEY: self.studies[cells],
        }


def collate(batch: Any) -> dict[str, Tensor]:
    """Turn the arrays of a batch into tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}


class StudySplitter(DataSplitter):
    """Loaders of training and validation batches for cells that were split beforehand.

    Parameters
    ----------
    adata_manager
        The registered data.
    dataset
        The cells.
    train, validation
        Positions of the cells.
    batch_size
        Cells in a batch.
    seed
        Seed of the batches.
    """

    def __init__(
        self,
        adata_manager: AnnDataManager,
        *,
        dataset: CellDataset,
        train: np.ndarray,
        validation: np.ndarray,
        batch_size: int,
        seed: int,
    ) -> None:
        rest = np.setdiff1d(np.arange(len(dataset)), np.concatenate([train, validation]))
        super().__init__(
            adata_manager, external_indexing=[train, validation, rest], batch_size=batch_size, drop_last=True
        )
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed

    def train_dataloader(self) -> DataLoader:
        """Batches that hold triplets."""
        from ._sampling import TermStudySampler

        sampler = TermStudySampler(
            self.dataset.labels[self.train_idx],
            self.dataset.studies[self.train_idx],
            batch_size=self.batch_size,
            seed=self.seed,
        )
        return self._loader(_Positions(sampler, self.train_idx))

    def val_dataloader(self) -> DataLoader | None:
        """Each validation cell once, in batches that stay the same."""
        if not len(self.val_idx):
            return None
        order = np.random.default_rng(self.seed).permutation(self.val_idx)[:_MAX_VALIDATION]
        n_batches = max(1, round(len(order) / max(self.batch_size, 500)))
        return self._loader([part.tolist() for part in np.array_split(order, n_batches)])

    def _loader(self, batches: Any) -> DataLoader:
        # batch_size=None: the sampler yields whole batches, and the dataset slices each in one go.
        return DataLoader(self.dataset, sampler=batches, batch_size=None, collate_fn=collate)


class _Positions:
    """Batches of a sampler over the training cells, as positions among all cells."""

    def __init__(self, sampler: Any, positions: np.ndarray) -> None:
        self.sampler = sampler
        self.positions = positions

    def __iter__(self) -> Any:
        for batch in self.sampler:
            yield self.positions[np.asarray(batch)].tolist()

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)
