"""What can be asked of the cells of a reference."""

from ._metadata import StoredCells, check_caps

__all__ = ["StoredCells", "check_caps"]
