"""Small real datasets for examples, available without a network."""

from __future__ import annotations

from ._pbmc10k_protein import PBMC10K_TERMS, pbmc10k_protein
from ._pbmc68k import PBMC68K_TERMS, pbmc68k

__all__ = ["PBMC10K_TERMS", "PBMC68K_TERMS", "pbmc10k_protein", "pbmc68k"]
