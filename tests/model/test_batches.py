from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from scim.model._batches import CellDataset, collate

COUNTS = np.array([[1, 2, 0, 4], [0, 0, 0, 0], [3, 0, 5, 1]], dtype=np.float32)
LABELS, STUDIES = np.array([0, -1, 1]), np.array([0, 0, 1])


def dense(batch: dict[str, torch.Tensor], n_genes: int) -> np.ndarray:
    out = np.zeros((len(batch["totals"]), n_genes), dtype=np.float32)
    out[batch["rows"], batch["genes"]] = batch["values"]
    return out


def test_batch_holds_the_cells_in_the_order_asked_for() -> None:
    dataset = CellDataset(sp.csr_matrix(COUNTS), np.arange(4), LABELS, STUDIES)
    batch = collate(dataset[[2, 0, 1]])
    np.testing.assert_array_equal(dense(batch, 4), COUNTS[[2, 0, 1]])
    np.testing.assert_array_equal(batch["labels"], [1, 0, -1])
    np.testing.assert_array_equal(batch["batch"], [1, 0, 0])
    np.testing.assert_array_equal(batch["totals"], [1e4] * 3)
    assert len(dataset) == 3


def test_columns_go_where_their_gene_is_or_away() -> None:
    dataset = CellDataset(sp.csr_matrix(COUNTS), np.array([2, -1, 0, 1]), LABELS, STUDIES)
    np.testing.assert_array_equal(dense(collate(dataset[[0, 2]]), 3), COUNTS[[0, 2]][:, [2, 3, 0]])


def test_logarithms_come_back_as_counts() -> None:
    linear = COUNTS * np.array([[10], [1], [100]])
    dataset = CellDataset(sp.csr_matrix(np.log1p(linear)), np.arange(4), LABELS, STUDIES, logged=True)
    batch = collate(dataset[[0, 1, 2]])
    np.testing.assert_allclose(dense(batch, 4), COUNTS, rtol=1e-4)
    np.testing.assert_allclose(batch["totals"], 1e4)
