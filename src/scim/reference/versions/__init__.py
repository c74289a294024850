"""Turn segments into a version of a reference."""

from ._change import add, compact, reindex, remove
from ._create import create_from_data, create_from_scimilarity

__all__ = ["add", "compact", "create_from_data", "create_from_scimilarity", "reindex", "remove"]
