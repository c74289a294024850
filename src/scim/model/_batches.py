"""From cells to batches for training and validation."""

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

from ..counts import TARGET_SUM
from ._sampling import TermStudySampler
from ._splits import Split

#: Tensors of a batch that hold its cells, in the order of :class:`~scim.model._augment.SparseBatch`.
BATCH_FIELDS = ("values", "rows", "genes", "totals")
#: With more validation cells, a sample of this size is used: more cells hardly make the loss more precise.
_MAX_VALIDATION_CELLS = 20_000
#: Cells in a batch of validation, at least.
_MIN_VALIDATION_BATCH = 500


class CellDataset(Dataset):
    """Cells as stored values, with their labels and studies.

    ``X`` holds counts, or log1p values if ``logged``, CSR (n_cells, n_columns), and ``genes`` the gene of each column,
    -1 for a column that the model leaves out. Labels and studies are codes, (n_cells,); a label of -1 means none.
    """

    def __init__(
        self,
        X: sp.csr_matrix,
        genes: np.ndarray,
        labels: np.ndarray,
        studies: np.ndarray,
        *,
        logged: bool = False,
    ) -> None:
        self.X = X
        self.genes = np.asarray(genes, dtype=np.int64)
        self.labels = np.asarray(labels, dtype=np.int64)
        self.studies = np.asarray(studies, dtype=np.int64)
        self.logged = logged

    def __len__(self) -> int:
        return int(self.X.shape[0])

    def __getitem__(self, cells: Sequence[int]) -> dict[str, np.ndarray]:
        """Values of a whole batch; log1p values become multiples of the cell's smallest value, which is one count."""
        rows_of_x = np.asarray(cells, dtype=np.int64)
        part = self.X[rows_of_x]
        values, rows = part.data.astype(np.float32), np.repeat(np.arange(len(cells)), np.diff(part.indptr))
        genes = self.genes[part.indices]
        # Without genes that the model leaves out, and without stored zeros.
        kept = (genes >= 0) & (values > 0)
        values, rows, genes = values[kept], rows[kept], genes[kept]
        if self.logged:
            np.expm1(values, out=values)
            smallest = np.full(len(cells), np.inf, dtype=np.float32)
            np.minimum.at(smallest, rows, values)
            values /= smallest[rows]
        return {
            "values": values,
            "rows": rows,
            "genes": genes,
            "totals": np.full(len(cells), TARGET_SUM, dtype=np.float32),
            REGISTRY_KEYS.LABELS_KEY: self.labels[cells],
            REGISTRY_KEYS.BATCH_KEY: self.studies[cells],
        }


def collate(batch: Any) -> dict[str, Tensor]:
    """Turn the arrays of a batch into tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in batch.items()}


class StudySplitter(DataSplitter):
    """Loaders of training and validation batches of ``batch_size`` cells, drawn with ``seed``."""

    def __init__(
        self, adata_manager: AnnDataManager, *, dataset: CellDataset, split: Split, batch_size: int, seed: int
    ) -> None:
        indexing = [split.train, split.validation, np.empty(0, dtype=np.int64)]
        super().__init__(adata_manager, external_indexing=indexing, batch_size=batch_size, drop_last=True)
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed

    def train_dataloader(self) -> DataLoader:
        """Batches with several terms, each from several studies."""
        sampler = TermStudySampler(
            self.dataset.labels[self.train_idx],
            self.dataset.studies[self.train_idx],
            batch_size=self.batch_size,
            seed=self.seed,
        )
        return self._loader(_Positions(sampler, self.train_idx))

    def val_dataloader(self) -> DataLoader | None:
        """Each validation cell once, in the same batches each time."""
        if not len(self.val_idx):
            return None
        order = np.random.default_rng(self.seed).permutation(self.val_idx)[:_MAX_VALIDATION_CELLS]
        n_batches = max(1, round(len(order) / max(self.batch_size, _MIN_VALIDATION_BATCH)))
        return self._loader([part.tolist() for part in np.array_split(order, n_batches)])

    def _loader(self, batches: Any) -> DataLoader:
        # batch_size=None: the sampler yields whole batches, and the dataset slices each of them at once.
        return DataLoader(self.dataset, sampler=batches, batch_size=None, collate_fn=collate)


class _Positions:
    """Batches of a sampler of training cells, as positions among all cells."""

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
