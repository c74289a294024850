from __future__ import annotations

import pytest
import torch

from scim.model._augment import Augmentation, SparseBatch, binomial


@pytest.fixture
def cells() -> SparseBatch:
    torch.manual_seed(0)
    rows, genes = (torch.rand(200, 300) < 0.5).nonzero(as_tuple=True)
    return SparseBatch(torch.randint(1, 20, (len(rows),)).float(), rows, genes, torch.full((200,), 1e4), 300)


def linear_sums(cells: SparseBatch, values: torch.Tensor) -> torch.Tensor:
    return cells.sums(torch.expm1(values))


def test_no_augmentation_is_lognormalisation(cells: SparseBatch) -> None:
    values = Augmentation(thinning=0, panels=0)(cells, None, None)
    torch.testing.assert_close(values, cells.lognorm(cells.values))
    torch.testing.assert_close(linear_sums(cells, values), cells.totals, rtol=1e-4, atol=0)


def test_thinning_keeps_a_share_of_the_counts_and_the_total(cells: SparseBatch) -> None:
    augment = Augmentation(thinning=1.0, thinning_floor=0.05, panels=0)
    share = cells.sums(augment._thin(cells)) / cells.sums(cells.values)
    assert (share <= 1).all()
    assert share.min() < 0.4
    # Cells have about 1,500 counts each: 200 of them stay on average, at least.
    assert (cells.sums(augment._thin(cells)) > 120).all()
    torch.testing.assert_close(linear_sums(cells, augment(cells, None, None)), cells.totals, rtol=1e-4, atol=0)


def test_thinning_spares_its_share_of_the_cells(cells: SparseBatch) -> None:
    thinned = Augmentation(thinning=0.5)._thin(cells)
    untouched = cells.sums((thinned != cells.values).float()) == 0
    assert 0.3 < untouched.float().mean() < 0.7


def test_panels_take_genes_away_with_and_without_renormalising(cells: SparseBatch) -> None:
    values = Augmentation(thinning=0, panels=1.0, panel_floor=0.2)(cells, None, None)
    assert (values == 0).any()
    sums = linear_sums(cells, values)
    whole = (sums - 1e4).abs() < 1
    assert 0.3 < whole.float().mean() < 0.7
    assert (sums < 1.0001e4).all()


def test_panels_of_other_studies_and_gene_weights(cells: SparseBatch) -> None:
    measured = torch.ones(2, 300, dtype=torch.bool)
    measured[1, 150:] = False
    weights = torch.ones(300)
    weights[:10] = 50.0
    masks = Augmentation(panels=1.0, panel_floor=0.2)._draw_panels(300, measured, weights, torch.device("cpu"))
    torch.testing.assert_close(masks[-2:], measured)
    assert masks[1:-2:2, :10].all()  # heavy genes are on every weighted panel


def test_binomial() -> None:
    torch.manual_seed(0)
    drawn = binomial(torch.full((20_000,), 10.0), torch.full((20_000,), 0.3))
    assert drawn.mean().item() == pytest.approx(3.0, abs=0.05)
    assert drawn.var().item() == pytest.approx(2.1, abs=0.1)


def test_dense(cells: SparseBatch) -> None:
    whole = cells.dense(cells.values)
    assert whole.sum() == cells.values.sum()
    some = torch.tensor([7, 3, 250])
    torch.testing.assert_close(cells.dense(cells.values, some), whole[:, some])
