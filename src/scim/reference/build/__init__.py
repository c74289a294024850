"""Write data as a segment of a reference."""

from ._journal import Journal, building
from ._recipe import Recipe
from ._scimilarity import PARTS
from ._segment import Written, check_counts, write_blocks, write_segment
from ._sources import ZARR, columns_of, files_in, is_store, list_parts

__all__ = [
    "PARTS", "ZARR",
    "Journal", "Recipe", "Written",
    "building", "check_counts", "columns_of", "files_in", "is_store", "list_parts", "write_blocks", "write_segment",
]  # fmt: skip
