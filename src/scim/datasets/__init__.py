"""Small real datasets for examples, available without a network."""

from __future__ import annotations

from ._pbmc68k import PBMC68K_TERMS, pbmc68k

__all__ = ["PBMC68K_TERMS", "pbmc68k"]
