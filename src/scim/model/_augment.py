"""Augmentation: training cells as if measured with fewer counts, or with another gene panel. Batches stay sparse."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Counts that a thinned cell keeps on average, at least: with fewer, cell types cannot be told apart.
_MIN_THINNED_COUNTS = 200.0
#: Random panels drawn for a batch; each costs a mask over the genes.
_PANELS_PER_BATCH = 8


@dataclass(frozen=True)
class SparseBatch:
    """Stored values of a batch of cells, (nnz,): counts, or pseudo-counts where the data are log-normalised.

    ``rows`` and ``genes`` are the position of the cell within the batch, and the gene, of each value, int64 (nnz,).
    ``totals`` are the sums of each cell's linear values after normalisation, (n,): 1e4.
    """

    values: Tensor
    rows: Tensor
    genes: Tensor
    totals: Tensor
    n_genes: int

    @property
    def n_cells(self) -> int:
        """Number of cells in the batch."""
        return int(self.totals.shape[0])

    def sums(self, values: Tensor) -> Tensor:
        """Add up ``values`` (nnz,) per cell -> (n,)."""
        return torch.zeros_like(self.totals).index_add_(0, self.rows, values)

    def dense(self, values: Tensor, genes: Tensor | None = None) -> Tensor:
        """Matrix (n, n_genes) of ``values`` (nnz,), or its columns ``genes`` only."""
        rows, columns, width = self.rows, self.genes, self.n_genes
        if genes is not None:
            place = torch.full((self.n_genes,), -1, dtype=torch.long, device=values.device)
            place[genes] = torch.arange(len(genes), device=values.device)
            columns, width = place[columns], len(genes)
            kept = columns >= 0
            rows, columns, values = rows[kept], columns[kept], values[kept]
        flat = values.new_zeros(self.n_cells * width)
        flat[rows * width + columns] = values
        return flat.view(self.n_cells, width)

    def lognorm(self, values: Tensor, totals: Tensor | None = None) -> Tensor:
        """Scale each cell to ``totals`` and take log1p of each value; a cell without counts stays zero."""
        wanted = self.totals if totals is None else totals
        scale = wanted / self.sums(values).clamp_min(1e-12)
        return torch.log1p(values * scale[self.rows])


@dataclass(frozen=True)
class Augmentation:
    """Random count thinning and random gene panels.

    Parameters
    ----------
    thinning
        Share of the cells of a batch whose counts are thinned binomially.
    thinning_floor
        Smallest share of the counts that a thinned cell keeps; the share is drawn log-uniformly from here to 1.
    panels
        Share of the cells of a batch that keep only the genes of a random panel.
    panel_floor
        Size of the smallest panel, as a share of the genes; the share is drawn log-uniformly from here to 1.
    """

    thinning: float = 0.5
    thinning_floor: float = 0.05
    panels: float = 0.5
    panel_floor: float = 0.05

    def __call__(self, batch: SparseBatch, measured: Tensor | None, gene_weights: Tensor | None) -> Tensor:
        """Log-normalised values (nnz,) of the augmented cells, in the order of ``batch.values``.

        Parameters
        ----------
        batch
            The cells.
        measured
            Genes that each training study measured, bool (n_studies, n_genes); they are used as panels, too.
        gene_weights
            Relative chance of each gene to be on a panel, (n_genes,): published panels prefer variable genes.
        """
        device = batch.values.device
        values = self._thin(batch) if self.thinning > 0 else batch.values
        totals = batch.totals
        if self.panels > 0:
            masks = self._draw_panels(batch.n_genes, measured, gene_weights, device)
            chosen = torch.randint(0, len(masks), (batch.n_cells,), device=device)
            whole = torch.rand(batch.n_cells, device=device) >= self.panels
            keep = masks[chosen[batch.rows], batch.genes] | whole[batch.rows]
            kept = values * keep
            # A query of counts is normalised over the panel; published log1p values may have been normalised over all
            # genes before the panel was cut out. Half of the cells are treated in each way.
            share = batch.sums(kept) / batch.sums(values).clamp_min(1e-12)
            renormalised = torch.rand(batch.n_cells, device=device) < 0.5
            totals = torch.where(renormalised, totals, totals * share)
            values = kept
        return batch.lognorm(values, totals)

    def _thin(self, batch: SparseBatch) -> Tensor:
        counts = batch.values.round().clamp_min(1)
        sums = batch.sums(counts)
        floor = (_MIN_THINNED_COUNTS / sums.clamp_min(1)).clamp(self.thinning_floor, 1.0)
        draw = torch.rand(batch.n_cells, device=counts.device)
        share = floor**draw
        share[torch.rand(batch.n_cells, device=counts.device) >= self.thinning] = 1.0
        return binomial(counts, share[batch.rows])

    def _draw_panels(
        self, n_genes: int, measured: Tensor | None, gene_weights: Tensor | None, device: torch.device
    ) -> Tensor:
        """Panels as masks, bool (n_panels, n_genes)."""
        share = self.panel_floor ** torch.rand(_PANELS_PER_BATCH, 1, device=device)
        weights = torch.ones(_PANELS_PER_BATCH, n_genes, device=device)
        if gene_weights is not None:
            weights[1::2] = gene_weights  # the other panels give all genes the same chance
        masks = torch.rand(_PANELS_PER_BATCH, n_genes, device=device) < 1 - (1 - share) ** weights
        if measured is not None and len(measured) > 1:
            # Genes measured by another study are a panel, too: the list of genes must not reveal the study of a cell.
            masks = torch.cat([masks, measured.to(device)])
        return masks


def binomial(counts: Tensor, share: Tensor) -> Tensor:
    """Draw how many of ``counts`` (nnz,) are kept if each is kept with probability ``share`` (nnz,)."""
    if counts.device.type == "mps":  # torch has no binomial on mps
        return torch.binomial(counts.cpu(), share.cpu()).to(counts.device)
    return torch.binomial(counts, share)
