"""Queries of the cells of a reference."""

from ._export import ask_sql, to_anndata
from ._metadata import CellTable, Metadata

__all__ = ["CellTable", "Metadata", "ask_sql", "to_anndata"]
